"""One kill, or one delay, at every system call of a patcher; after each the target is asked, and repaired."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from faults.target import Health, Program, guest_changes, health_of, stands_still, target_start
from faults.tracer import Ran, run_traced
from hotmend.live.audit import read_audit
from hotmend.live.driver import Options, ProcessResult, apply, repair, revert
from hotmend.live.gate import hotpatch_id
from hotmend.live.machine import State
from hotmend.live.registry import process_status
from tests.live.conftest import Target

DEEDS = ("apply", "revert", "re-apply", "replace", "give-way")
"""The last two: a later update takes over from the one that is on, and is taken back."""
_FRESH = ("apply", "replace")
"""Deeds that place a shadow, for which each target can serve once."""
OPTIONS = Options(deadline_seconds=20.0, max_pause_us=2_000_000)
"""A traced patcher is slow: each of its system calls waits for the tracer twice."""

WHOLE = frozenset({State.EMPTY, State.PLACED, State.SETTLED, State.REPLACED})
_MISSES_MAX = 3


@dataclass(slots=True)
class Tally:
    """What a sweep of one deed found.

    Attributes:
        deed: one of `DEEDS`.
        kills: points at which the patcher was killed, or held.
        survivals: targets that were whole afterwards: alive, all as before the deed or as after it, no answer wrong.
        found: how many were `old`, `new`, `later`, `half` or `dead` after the kill.
        left: how many of them had something to repair, and `repaired`: how many were whole after `hotmend repair`.
        went_on: how many could be changed there and back again after that.
        wrong, interrupted: answers that neither build gives; calls that returned EINTR.
        frozen: delays only: how often the target stood still while the patcher was held.
        failures: what went wrong, one line each.
    """

    deed: str
    kills: int = 0
    survivals: int = 0
    found: Counter[str] = field(default_factory=Counter)
    left: int = 0
    repaired: int = 0
    went_on: int = 0
    wrong: int = 0
    interrupted: int = 0
    frozen: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether every target survived, was repaired and went on."""
        return not self.failures and self.kills == self.survivals == self.went_on and self.left == self.repaired


class Sweep:
    """Sweeps one deed over one kind of target."""

    def __init__(self, program: Program, threads: int, hold_seconds: float = 0.0, audit: Path | None = None) -> None:
        """Prepare the sweep.

        Args:
            program: what the target runs.
            threads: of the target.
            hold_seconds: hold the patcher for so long instead of killing it.
            audit: file of an audit record that the patcher keeps, as the command does; begun anew after each point.
        """
        self._program = program
        self._audit = audit
        self._options = replace(OPTIONS, audit="" if audit is None else str(audit))
        self._threads = threads
        self._hold_seconds = hold_seconds
        self._target: Target | None = None

    def run(self, deed: str, points: Iterator[int], progress: Callable[[Tally], None]) -> Tally:
        """Kill (or hold) a patcher at each of `points`, until it ends before it comes to them."""
        tally, misses = Tally(deed), 0
        try:
            for point in points:
                target = self._prepared(deed)
                ran = run_traced(self._deed(deed, target), point, self._hold_seconds, partial(stands_still, target))
                if not ran.reached:
                    misses += 1
                    self._judge_whole_run(tally, target, ran)
                    if misses >= _MISSES_MAX:
                        break
                    continue
                misses = 0
                self._judge(tally, target, point, ran)
                progress(tally)
        finally:
            self._drop()
        return tally

    def calls(self, deed: str) -> int:
        """Return how many system calls the deed takes here when nothing happens to it."""
        try:
            return run_traced(self._deed(deed, self._prepared(deed)), 0).calls
        finally:
            self._drop()

    def _prepared(self, deed: str) -> Target:
        """Return a target from which the deed can begin."""
        if deed in _FRESH or self._program.lazy:  # whose threads in old code are counted
            self._drop()
        if self._target is None:
            self._target = target_start(self._program, self._threads)
            if deed == "re-apply":
                self._change(self._target, "apply")
                self._change(self._target, "revert")
            if _takes_over(deed):
                self._change(self._target, "apply")
        if deed == "revert":
            self._change(self._target, "apply")
        elif deed == "give-way":
            self._change(self._target, "replace")
        elif deed == "re-apply":
            self._change(self._target, "revert")
        self._health(self._target)
        return self._target

    def _health(self, target: Target) -> Health:
        return health_of(target, lazy=self._program.lazy)

    def _drop(self) -> None:
        if self._target is not None:
            self._target.close()
            self._target = None

    def _deed(self, deed: str, target: Target) -> Callable[[], bool]:
        return lambda: self._change(target, deed)

    def _change(self, target: Target, deed: str) -> bool:
        """Do the deed without anything happening to it."""
        if deed == "revert":
            results = revert(None, [target.pid], self._options)
        elif deed == "give-way":
            results = revert([hotpatch_id(h) for h in self._program.later], [target.pid], self._options)
        elif deed == "replace":
            results = apply(self._program.later, [target.pid], self._options)
        else:
            options = replace(self._options, lazy=self._program.lazy)
            results = apply(self._program.hotpatches, [target.pid], options)
        return _done(results)

    def _judge_whole_run(self, tally: Tally, target: Target, ran: Ran) -> None:
        """A run that came to its end must have done the deed."""
        wanted = {"revert": "old", "replace": "later"}.get(tally.deed, "new")
        health = self._health(target)
        if ran.exit_code != 0 or health.code != wanted or health.changes > 1 or health.wrong:
            tally.failures.append(f"{tally.deed}, not killed: exit code {ran.exit_code}, {health}")

    def _judge(self, tally: Tally, target: Target, point: int, ran: Ran) -> None:
        """Ask the target, repair it, change it there and back; count."""
        where = f"{tally.deed}, call {point} (number {ran.call})"
        tally.kills += 1
        tally.frozen += ran.looked
        health = self._health(target)
        tally.found[_verdict(health)] += 1
        tally.wrong += health.wrong
        tally.interrupted += health.interrupted
        if _verdict(health) not in _codes(tally.deed) or health.wrong:
            tally.failures.append(f"{where}: {health}")
            self._drop()
            return
        tally.survivals += 1
        left = [s.state for s in process_status(target.pid) if s.state not in WHOLE]
        tally.left += bool(left)
        repaired = repair([target.pid], self._options)[0]
        states = [s.state for s in process_status(target.pid)]
        after = self._health(target)
        if (
            repaired.state != ("repaired" if left else "unchanged")
            or not WHOLE.issuperset(states)
            or (after.code, after.changes, after.wrong) != (health.code, 0, 0)
        ):
            tally.failures.append(f"{where}: left {left}; repair: {repaired.state}, then {states}, {after}")
            self._drop()
            return
        tally.repaired += bool(left)
        if (seen := self._goes_on(target, tally.deed) or self._audit_error()) == "":
            tally.went_on += 1
        else:
            tally.failures.append(f"{where}: could not be changed there and back afterwards: {seen}")
            self._drop()

    def _audit_error(self) -> str:
        """Return what is wrong with the audit record, or nothing; begin another one."""
        if self._audit is None:
            return ""
        found = read_audit(self._audit)
        self._audit.unlink()
        if found.error or found.torn or not found.records:
            return f"audit record: {found.error}, {found.torn} bytes torn, {len(found.records)} records"
        return ""

    def _goes_on(self, target: Target, deed: str) -> str:
        """Change the target there and back; return what was not as it should be, or nothing."""
        there, back = ("replace", "give-way") if _takes_over(deed) else ("apply", "revert")
        before, after = _codes(deed)
        went = self._change(target, there)
        changed = self._health(target)
        returned = self._change(target, back)
        left = self._health(target)
        lazy = self._program.lazy
        wanted = (after, before, 0 if lazy else 1, 0, 0)
        if (changed.code, left.code, left.changes, changed.wrong, left.wrong) == wanted:
            if lazy and not guest_changes(target):
                return "a thread that was in old code all the time did not give the old answer"
            return ""
        return f"{there}: {went}, {changed}; {back}: {returned}, {left}"


def _takes_over(deed: str) -> bool:
    return deed in ("replace", "give-way")


def _codes(deed: str) -> tuple[str, str]:
    """Return what a target may be while the deed is done: without the update it is about, and with it."""
    return ("new", "later") if _takes_over(deed) else ("old", "new")


def _done(results: list[ProcessResult]) -> bool:
    return all(result.state in ("applied", "reverted", "repaired", "unchanged") for result in results)


def _verdict(health: Health) -> str:
    """One patcher turns the gate once: whoever sees two changes of the answer has seen half of one."""
    return "half" if health.changes > 1 else health.code


def every(step: int = 1) -> Iterator[int]:
    """Return 1, 1 + step, 1 + 2 * step and so on."""
    return itertools.count(1, step)
