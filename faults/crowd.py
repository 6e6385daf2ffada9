"""One command over several processes: a kill of the command, or of one of its workers, before a system call.

Where a worker is killed the command has to do its work all the same; where the command is killed, each process has to
be all old or all new, and whole again after a repair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from faults.sweep import OPTIONS, WHOLE, Tally
from faults.target import Health, Program, health_of, target_start
from faults.tracer import Ran, run_traced
from hotmend.live.crew import ALONE_MAX
from hotmend.live.driver import ProcessResult, apply, repair, revert
from hotmend.live.registry import process_status
from tests.live.conftest import Target

CROWD_DEEDS = ("apply", "revert")
VICTIMS = ("command", "worker")
PROCESSES_MIN = ALONE_MAX + 2
_MISSES_MAX = 3


class CrowdSweep:
    """Sweeps one deed over several targets at once."""

    def __init__(self, program: Program, threads: int, processes: int) -> None:
        self._program = program
        self._threads = threads
        self._processes = processes
        self._targets: list[Target] = []

    def run(self, deed: str, victim: str, points: Iterator[int], progress: Callable[[Tally], None]) -> Tally:
        """Kill `victim` at each of `points`, until it ends before it comes to them."""
        tally, misses = Tally(f"{deed}, {victim} killed"), 0
        try:
            for point in points:
                self._prepare(deed)
                ran = run_traced(lambda: self._change(deed), point, worker=victim == "worker")
                misses = 0 if ran.reached else misses + 1
                if misses >= _MISSES_MAX:
                    break
                if not self._judge(tally, deed, victim, ran, f"{tally.deed}, call {point} (number {ran.call})"):
                    self._drop()
                progress(tally)
        finally:
            self._drop()
        return tally

    def calls(self, deed: str, victim: str) -> int:
        """Return how many system calls there are to kill the victim at when nothing happens."""
        try:
            self._prepare(deed)
            return run_traced(lambda: self._change(deed), 0, worker=victim == "worker").calls
        finally:
            self._drop()

    def _prepare(self, deed: str) -> None:
        """Have targets from which the deed can begin."""
        if deed == "apply":
            self._drop()
        if not self._targets:
            self._targets = [target_start(self._program, self._threads) for _ in range(self._processes)]
        if deed == "revert":
            self._change("apply")
        for target in self._targets:
            health_of(target)

    def _drop(self) -> None:
        for target in self._targets:
            target.close()
        self._targets = []

    def _pids(self) -> list[int]:
        return [target.pid for target in self._targets]

    def _change(self, deed: str) -> bool:
        if deed == "revert":
            return _all(revert(None, self._pids(), OPTIONS))
        return _all(apply(self._program.hotpatches, self._pids(), OPTIONS))

    def _judge(self, tally: Tally, deed: str, victim: str, ran: Ran, where: str) -> bool:
        """Ask all targets, repair them, change them there and back; count, and tell whether they can be used again."""
        health = [health_of(target) for target in self._targets]
        tally.kills += ran.reached
        tally.found.update(seen.code if seen.changes <= 1 else "half" for seen in health if ran.reached)
        tally.wrong += sum(seen.wrong for seen in health)
        tally.interrupted += sum(seen.interrupted for seen in health)
        done = {"apply": {"new"}, "revert": {"old"}}[deed]
        whole_run = not ran.reached or victim == "worker"
        if not _sound(health, done if whole_run else {"old", "new"}) or (whole_run and ran.exit_code != 0):
            tally.failures.append(f"{where}: exit code {ran.exit_code}, {health}")
            return False
        if not ran.reached:
            return True
        tally.survivals += 1
        left = any(status.state not in WHOLE for pid in self._pids() for status in process_status(pid))
        tally.left += left
        repaired = {result.state for result in repair(self._pids(), OPTIONS)}
        after = [health_of(target) for target in self._targets]
        if not repaired <= {"repaired", "unchanged"} or not self._is_whole() or not _same(health, after):
            tally.failures.append(f"{where}: repair: {repaired}, {after}")
            return False
        tally.repaired += left
        return self._goes_on(tally, where)

    def _goes_on(self, tally: Tally, where: str) -> bool:
        """Change the targets there and back."""
        there = self._change("apply")
        changed = [health_of(target) for target in self._targets]
        back = self._change("revert")
        left = [health_of(target) for target in self._targets]
        if not (there and back and _sound(changed, {"new"}) and _sound(left, {"old"}) and self._is_whole()):
            tally.failures.append(f"{where}: could not be changed there and back: {changed}, {left}")
            return False
        tally.went_on += 1
        return True

    def _is_whole(self) -> bool:
        return all(status.state in WHOLE for pid in self._pids() for status in process_status(pid))


def _all(results: Sequence[ProcessResult]) -> bool:
    return {result.state for result in results} <= {"applied", "reverted", "unchanged"}


def _sound(health: Sequence[Health], codes: set[str]) -> bool:
    return all(seen.code in codes and seen.changes <= 1 and not seen.wrong for seen in health)


def _same(before: Sequence[Health], after: Sequence[Health]) -> bool:
    return [(seen.code, 0, 0) for seen in before] == [(seen.code, seen.changes, seen.wrong) for seen in after]
