"""What `upgrade` and apt's hook write into the history: the same lines as a run of the agent's, without its probes."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence

from hotmend.agent.apt.pending import Pending
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

    def begin(self, pending: Iterable[Pending]) -> None:
        """Say what the run is about."""
        updates = tuple(map(str, pending))
        self._record(RunBegan(run=self._run, trigger=self._trigger, source="apt", updates=updates, until=None))

    def applying(self, one: Pending, update: Update, ready: Prepared) -> None:
        """Say that processes are about to be changed."""
        self._record(
            Action(
                run=self._run,
                update=ready.origin.key or str(one),
                state=State.APPLYING,
                cves=update.cves,
                release=ready.origin.release,
                hotpatches=tuple(hotpatch_id(hotpatch) for hotpatch in ready.hotpatches),
                old_builds=tuple(str(hotpatch.old_build_id) for hotpatch in ready.hotpatches),
                brings=str(one),
                images=tuple(hotpatch.path for hotpatch in ready.hotpatches),
                new_builds=tuple(str(hotpatch.new_build_id) for hotpatch in ready.hotpatches),
                file=ready.origin.file,
            )
        )

    def done(self, result: PackageResult) -> None:
        """Say what became of one package in memory."""
        self._states.append(_state_of(result))
        for key, part in result.by_key.items():
            self._done(key, part)

    def _done(self, key: str, result: PackageResult) -> None:
        state = _state_of(result)
        hotpatches = result.update.hotpatches if result.update is not None else ()
        self._record(
            Action(
                run=self._run,
                update=key,
                state=state,
                detail=result.error or (result.memory.value if not state.good else ""),
                cves=result.update.cves if result.update is not None else (),
                hotpatches=tuple(hotpatch_id(hotpatch) for hotpatch in hotpatches),
                old_builds=tuple(str(hotpatch.old_build_id) for hotpatch in hotpatches),
                release=result.origin.release,
                brings=str(result.pending),
                images=tuple(hotpatch.path for hotpatch in hotpatches),
                new_builds=tuple(str(hotpatch.new_build_id) for hotpatch in hotpatches),
                changed=tuple(changed_process(r) for r in result.results if r.state in NEW_CODE),
                old=tuple(OldProcess(o.pid, o.comm, o.unit, o.images, o.part) for o in result.still_old),
                file=result.origin.file,
            )
        )

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


def _state_of(result: PackageResult) -> State:
    if result.memory in (Memory.FIXED, Memory.SAME_CODE, Memory.NOT_RUNNING):
        return State.SUCCEEDED
    return State.SUCCEEDED_WITH_WARNINGS if result.memory is Memory.PARTLY else State.FAILED
