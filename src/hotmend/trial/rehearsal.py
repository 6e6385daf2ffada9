"""A rehearsal: the hotpatch is applied to a stand-in first, which has to live and to answer as it did.

Only the stand-in is touched here; what may go on to the real processes is the caller's to decide from the results.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from hotmend.linux import procfs
from hotmend.linux.process import ProcessImages
from hotmend.live.driver import Options, ProcessResult, apply
from hotmend.live.needs import Refusal
from hotmend.live.registry import process_status
from hotmend.model.errors import HotmendError
from hotmend.model.hotpatch import Hotpatch
from hotmend.model.verdict import Reason, note, refusal
from hotmend.trial.cell import CellError
from hotmend.trial.compare import Observation, compare
from hotmend.trial.groups import Group, find_groups
from hotmend.trial.host import end_text
from hotmend.trial.standin import Answer, StandIn

_POLL_SECONDS = 0.1
_ROUNDS_MAX = 3
"""How often processes are looked for that were forked while others were changed."""
_ANSWER_SECONDS_MAX = 15.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a rehearsal is.

    Attributes:
        seconds: how long the changed stand-in has to live.
        command: shell command run beside it before and after; "" for none.
        expect_change: whether its output may differ.
        arguments: to start it with; () for those of the server.
    """

    seconds: float = 5.0
    command: str = ""
    expect_change: bool = False
    arguments: tuple[str, ...] = ()


@dataclass(slots=True)
class Rehearsal:
    """How it went.

    Attributes:
        root: pid of the real server's first process.
        pids: of its processes that map an old build.
        passed: whether the real processes may be changed.
        processes: of the stand-in, that were changed.
        redirected: functions that lead to new code in one of them.
        pause_us: longest stop, microseconds.
        seconds: how long the changed stand-in was watched.
        reasons: of a refusal, and notes.
    """

    root: int
    pids: tuple[int, ...]
    passed: bool = False
    processes: int = 0
    redirected: int = 0
    pause_us: float = 0.0
    seconds: float = 0.0
    reasons: tuple[Reason, ...] = ()


@dataclass(slots=True)
class _Run:
    """One rehearsal on its way."""

    hotpatches: Sequence[Hotpatch]
    group: Group
    plan: Plan
    options: Options
    result: Rehearsal
    changed: dict[int, int] = field(default_factory=dict)

    def run(self, stand_in: StandIn) -> None:
        """Ask, change, watch, ask again.

        Raises:
            Refusal: one of that did not come out.
        """
        if stand_in.read_only:
            kept = note("stand-in-read-only", "some file systems can only be read in the stand-in", *stand_in.read_only)
            self.result.reasons = (kept,)
        before = self._first_answer(stand_in)
        for _ in range(_ROUNDS_MAX):
            fresh = [p.pid for p in stand_in.mapping(self.group.build_ids) if p.pid not in self.changed]
            if not fresh:
                break
            for change in sorted(apply(self.hotpatches, fresh, self.options), key=lambda change: not _is_in(change)):
                self._take(change, stand_in)
        self._watch(stand_in)
        if before is not None:
            self._compare(before, stand_in.ask(self.plan.command))
            self._check_alive(stand_in)
        self.result.passed = True

    def _first_answer(self, stand_in: StandIn) -> Answer | None:
        """Return what the command gives before the change; a server may need a moment to answer."""
        if not self.plan.command:
            return None
        limit = time.monotonic() + _ANSWER_SECONDS_MAX
        while True:
            answer = stand_in.ask(self.plan.command)
            if answer.status == 0:
                return answer
            if time.monotonic() > limit:
                raise Refusal(_failed("before the hotpatch", answer))
            time.sleep(_POLL_SECONDS)

    def _take(self, change: ProcessResult, stand_in: StandIn) -> None:
        """Remember a changed process; refuse where it could not be changed, or took others with it."""
        if not _is_in(change):
            if not any(pid == change.pid for pid, _ in stand_in.identities()):
                self.changed[change.pid] = change.start_time_ticks  # it ended under the change, or with who was changed
            self._check_alive(stand_in)
            subjects = (
                f"{change.comm} in the stand-in: {reason.sentence} [{reason.code}]" for reason in change.reasons
            )
            raise Refusal(refusal("stand-in-refused", "the hotpatch could not be applied to the stand-in", *subjects))
        self.changed[change.pid] = change.start_time_ticks
        self.result.processes = len(self.changed)
        self.result.redirected = max(self.result.redirected, change.redirected)
        self.result.pause_us = max(self.result.pause_us, change.pause_us)

    def _watch(self, stand_in: StandIn) -> None:
        """Watch it for as long as it was said."""
        began = time.monotonic()
        while (passed := time.monotonic() - began) < self.plan.seconds:
            self._check_alive(stand_in)
            time.sleep(min(_POLL_SECONDS, max(0.0, self.plan.seconds - passed)))
        self._check_alive(stand_in)
        self.result.seconds = round(time.monotonic() - began, 3)
        for pid in self.changed:
            status = process_status(pid)
            if not status or not all(hotpatch.active for hotpatch in status):
                self._check_alive(stand_in)
                raise Refusal(refusal("stand-in-refused", "the hotpatch is no longer active in the stand-in"))

    def _check_alive(self, stand_in: StandIn) -> None:
        """Refuse when one of the changed processes is gone."""
        alive = stand_in.identities()
        dead = [pid for pid, born in self.changed.items() if (pid, born) not in alive]
        if dead or not alive:
            raise Refusal(
                refusal(
                    "stand-in-died",
                    f"{len(dead)} of {len(self.changed)} changed processes of the stand-in ended after the hotpatch",
                    stand_in.log(),
                )
            )

    def _compare(self, before: Answer, after: Answer) -> None:
        """Refuse when the command fails now, or answers otherwise."""
        if after.status != 0:
            raise Refusal(_failed("after the hotpatch", after))
        one, other = (Observation("", (("output of the command", answer.output),)) for answer in (before, after))
        differences = compare([one], [other])
        if differences and not self.plan.expect_change:
            raise Refusal(
                refusal(
                    "rehearsal-outputs-differ",
                    "the command beside the stand-in gives another output after the hotpatch",
                    *map(str, differences),
                )
            )


def _is_in(change: ProcessResult) -> bool:
    return change.state in ("applied", "unchanged")


def _failed(when: str, answer: Answer) -> Reason:
    text = answer.output.decode("utf-8", "replace").strip()[-600:]
    return refusal("rehearsal-command-failed", f"the command failed {when} ({end_text(answer.status)})", text)


def rehearse(hotpatches: Sequence[Hotpatch], group: Group, plan: Plan, options: Options) -> Rehearsal:
    """Rehearse the change of one server; nothing is raised, and nothing of the stand-in stays."""
    result = Rehearsal(group.root, group.pids)
    run = _Run(hotpatches, group, plan, options, result)
    try:
        if procfs.read_stat(group.root).ppid == 0 or group.root == 1:
            raise Refusal(refusal("stand-in-not-started", "the first process of a system cannot have a stand-in"))
        with StandIn(group, plan.arguments) as stand_in:
            run.run(stand_in)
    except Refusal as error:
        result.reasons += error.reasons
    except CellError as error:
        result.reasons += (refusal("cannot-isolate", f"there can be no stand-in here: {error}", error.hint),)
    except (HotmendError, OSError) as error:
        result.reasons += (refusal("stand-in-not-started", f"the stand-in could not be made or watched: {error}"),)
    return result


def apply_rehearsed(
    hotpatches: Sequence[Hotpatch],
    pids: Sequence[int] | None,
    plan: Plan,
    options: Options,
    progress: Callable[[str, int, int], None],
) -> tuple[list[Rehearsal], list[ProcessResult]]:
    """Rehearse server by server, and then change the real processes of those that passed.

    Args:
        hotpatches: one per changed image.
        pids: processes; None: all that map one of the old builds.
        plan: of the rehearsals.
        options: for `apply`, in the stand-in and in the real processes.
        progress: told what begins now, how many steps are done, and how many there are.
    """
    builds = frozenset(hotpatch.old_build_id for hotpatch in hotpatches)
    groups = find_groups(builds, pids)
    rehearsals = []
    for number, group in enumerate(groups):
        progress(f"rehearsing process {group.root}", number, len(groups))
        rehearsals.append(rehearse(hotpatches, group, plan, replace(options, dry_run=False, audit="")))
    progress("applying", len(groups), len(groups))
    passed = {rehearsal.root: rehearsal for rehearsal in rehearsals if rehearsal.passed}
    for group in find_groups(builds, pids):  # workers come and go meanwhile: those there are now count
        if group.root in passed:
            passed[group.root].pids = group.pids
    real = [pid for rehearsal in passed.values() for pid in rehearsal.pids]
    changed = apply(hotpatches, real, options) if real else []
    refused = [
        _refused(member, rehearsal.reasons)
        for group, rehearsal in zip(groups, rehearsals, strict=True)
        if not rehearsal.passed
        for member in group.members
    ]
    others = [pid for pid in pids or () if not any(pid in group.pids for group in groups)]
    return rehearsals, [*changed, *refused, *(apply(hotpatches, others, options) if others else [])]


def _refused(member: ProcessImages, reasons: tuple[Reason, ...]) -> ProcessResult:
    """Return the result of a process that was left alone because its stand-in did not pass."""
    return ProcessResult(
        pid=member.pid,
        comm=member.comm,
        start_time_ticks=member.start_time_ticks,
        threads=0,
        attempts=0,
        pause_us=0.0,
        redirected=0,
        shadows=(),
        state="refused",
        reasons=reasons,
        bytes_mapped=0,
    )
