"""What `upgrade` and apt's hook write into the history: the same lines as a run of the agent's, without its probes."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable, Sequence

import msgspec

from hotmend.agent.apt.pending import Pending
from hotmend.agent.boot import boot_id
from hotmend.agent.health.crashes import read_traps
from hotmend.agent.machine import Machine, system_clock
from hotmend.agent.memory import Memory, PackageResult, Prepared
from hotmend.agent.record.history import (
    Action,
    AnyEvent,
    DiskBegan,
    DiskEnded,
    OldProcess,
    RunBegan,
    RunEnded,
)
from hotmend.agent.run import changed_process, worst
from hotmend.live.gate import hotpatch_id
from hotmend.model.hotpatch import Hotpatch
from hotmend.model.process_states import NEW_CODE
from hotmend.publisher.update import Update
from hotmend.servicing.actions import State


class Journal:
    """The lines of one run. Each is on the disk before what it announces is done.

    Every method raises `HotmendError` where its line cannot be written. Without a machine none is: for a dry run.
    """

    def __init__(self, machine: Machine | None, trigger: str) -> None:
        self._machine = machine
        self._trigger = trigger
        self._run = f"{system_clock():%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        self._states: list[State] = []
        self._applying: dict[str, Action] = {}

    def begin(self, pending: Iterable[Pending]) -> None:
        """Say what the run is about."""
        if self._machine is None:
            return
        updates, log_from = tuple(map(str, pending)), 0
        with contextlib.suppress(OSError):
            log_from = read_traps(0, self._machine.kernel_log)[1]
        began = RunBegan(run=self._run, trigger=self._trigger, source="apt", updates=updates, until=None)
        self._record(msgspec.structs.replace(began, boot=boot_id(), log_from=log_from))

    def applying(self, one: Pending, update: Update, ready: Prepared) -> None:
        """Say that processes are about to be changed.

        One package may have several groups of processes, each with hotpatches of its own: the last line has those of
        the groups before too, so that all of them are looked for after a crash.
        """
        key = ready.origin.key or str(one)
        about = Action(
            run=self._run,
            update=key,
            state=State.APPLYING,
            cves=update.cves,
            release=ready.origin.release,
            brings=str(one),
            file=ready.origin.file,
        )
        self._applying[key] = _with_hotpatches(self._applying.get(key, about), update.cves, ready.hotpatches)
        self._record(self._applying[key])

    def done(self, result: PackageResult) -> None:
        """Say what became of one package in memory."""
        self._states.append(_state_of(result))
        for key, part in result.by_key.items():
            self._done(key, part)

    def _done(self, key: str, result: PackageResult) -> None:
        state = _state_of(result)
        line = Action(
            run=self._run,
            update=key,
            state=state,
            detail=result.error or (result.memory.value if not state.good else ""),
            release=result.origin.release,
            brings=str(result.pending),
            changed=tuple(changed_process(r) for r in result.results if r.state in NEW_CODE),
            old=tuple(OldProcess(o.pid, o.comm, o.unit, o.images, o.part) for o in result.still_old),
            file=result.origin.file,
        )
        for update in result.updates:
            line = _with_hotpatches(line, update.cves, update.hotpatches)
        self._record(line)

    def disk(self, pending: Sequence[Pending], held: tuple[str, ...]) -> None:
        """Say that packages are about to be installed."""
        self._record(DiskBegan(run=self._run, updates=tuple(map(str, pending)), held=held))

    def disk_done(self, pending: Sequence[Pending], error: str) -> None:
        """Say how that ended."""
        self._record(DiskEnded(run=self._run, updates=tuple(map(str, pending)), error=error))

    def end(self, detail: str = "") -> None:
        """Say that the run is over."""
        outcome = worst(self._states)
        if outcome is State.SUCCEEDED and detail:
            outcome = State.SUCCEEDED_WITH_WARNINGS
        self._record(RunEnded(run=self._run, outcome=outcome, detail=detail))

    def _record(self, event: AnyEvent) -> None:
        if self._machine is not None:
            self._machine.record(event)


def _with_hotpatches(line: Action, cves: Iterable[str], hotpatches: Sequence[Hotpatch]) -> Action:
    """Return a line that has these hotpatches, too."""
    return msgspec.structs.replace(
        line,
        cves=tuple(dict.fromkeys((*line.cves, *cves))),
        hotpatches=tuple(dict.fromkeys((*line.hotpatches, *map(hotpatch_id, hotpatches)))),
        old_builds=tuple(dict.fromkeys((*line.old_builds, *(str(h.old_build_id) for h in hotpatches)))),
        images=tuple(dict.fromkeys((*line.images, *(h.path for h in hotpatches)))),
        new_builds=tuple(dict.fromkeys((*line.new_builds, *(str(h.new_build_id) for h in hotpatches)))),
    )


def _state_of(result: PackageResult) -> State:
    if result.memory in (Memory.FIXED, Memory.SAME_CODE, Memory.NOT_RUNNING):
        return State.SUCCEEDED
    return State.SUCCEEDED_WITH_WARNINGS if result.memory is Memory.PARTLY else State.FAILED
