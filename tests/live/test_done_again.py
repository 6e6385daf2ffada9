"""What a run would only do again as one before it did is left until something changes, or the next window."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from hotmend.agent.apt.pending import Pending
from hotmend.agent.machine import Machine
from hotmend.agent.memory import Group
from hotmend.agent.record.history import DiskLeft
from hotmend.agent.run import Order, run
from hotmend.agent.sources import Offer, Ready
from hotmend.agent.wanted import Trigger, wanted_now
from hotmend.linux.process import ProcessImages
from hotmend.model.errors import HotmendError
from hotmend.servicing.actions import State
from tests.live.conftest import Target
from tests.live.handmade import make_hotpatch
from tests.live.test_agent_run import WINDOW, Made, machine_at

pytestmark = pytest.mark.live
NOW = datetime(2026, 11, 29, 2, 30, tzinfo=UTC)
SINCE, NEXT = NOW.replace(minute=0), NOW.replace(day=30, minute=0)
PENDING = Pending("hotmend-no-such-package", "amd64", "1", "2", ("Debian-Security:12/oldstable-security",))


@dataclass
class Refusing(Made):
    """Has nothing for one process."""

    refused: int = 0

    def groups(self, offer: Offer, running: Sequence[ProcessImages]) -> tuple[Group, ...]:
        return tuple(Group((process,)) for group in super().groups(offer, running) for process in group.mapping)

    def ready(self, offer: Offer, group: Group) -> Ready:
        if group.mapping[0].pid == self.refused:
            raise HotmendError("not for this one")
        return super().ready(offer, group)


def at_night(folder: Path, first: str = "") -> Machine:
    return replace(machine_at(folder, WINDOW, first=f'zone = "UTC"\n{first}'), clock=lambda: NOW)


def offered(machine: Machine, source: Made, since: datetime = SINCE) -> bool:
    return bool(wanted_now(machine, source.offers(()), since))


def test_a_process_that_is_never_touched_is_no_reason(
    tmp_path: Path, program: Path, start: Callable[..., Target]
) -> None:
    spared = tmp_path / "spared"
    shutil.copy(program, spared)
    ours, theirs = start(program, "0"), start(spared, "0")
    source = Made(make_hotpatch(program, {"first": 2}, "target"))
    machine = at_night(tmp_path / "machine", 'never_commands = ["spared"]\n')
    (action,) = run(machine, source, Order(Trigger.SCHEDULE)).actions
    assert (ours.ask("a"), theirs.ask("a")) == ("2 1 2", "1 1 1")
    assert (action.state, [old.pid for old in action.old]) == (State.SUCCEEDED_WITH_WARNINGS, [theirs.pid])
    assert not offered(machine, source)
    assert not offered(machine, source, NEXT)
    start(program, "0")
    assert offered(machine, source)


def test_who_was_refused_is_tried_again_in_the_next_window(
    tmp_path: Path, program: Path, start: Callable[..., Target]
) -> None:
    ours, theirs = start(program, "0"), start(program, "0")
    source = Refusing(make_hotpatch(program, {"first": 2}, "target"), refused=theirs.pid)
    machine = at_night(tmp_path / "machine")
    (action,) = run(machine, source, Order(Trigger.SCHEDULE)).actions
    assert (ours.ask("a"), theirs.ask("a")) == ("2 1 2", "1 1 1")
    assert [old.pid for old in action.old] == [theirs.pid]
    assert not offered(machine, source)
    assert offered(machine, source, NEXT)
    assert wanted_now(machine, source.offers(()), None)  # by hand there is no window
    start(program, "0")
    assert offered(machine, source)


def test_a_package_that_takes_a_restart_waits_until_it_takes_none_or_may(
    tmp_path: Path, program: Path, start: Callable[..., Target]
) -> None:
    start(program, "0")
    theirs = start(program, "0")
    source = Refusing(make_hotpatch(program, {"first": 2}, "target"), refused=theirs.pid)
    source.offer = replace(source.offer, pending=PENDING)
    machine = at_night(tmp_path / "machine")
    ended = run(machine, source, Order(Trigger.SCHEDULE))
    why = "it takes a restart: made"
    assert (ended.state, ended.detail) == (State.SUCCEEDED_WITH_WARNINGS, f"not installed, because {why}")
    left = [event for event in machine.history.read().events if isinstance(event, DiskLeft)]
    assert [(each.updates, each.why, each.restart) for each in left] == [((source.offer.key,), why, True)]
    assert not offered(machine, source)
    assert offered(machine, source, NEXT)
    allowed = replace(machine, configuration=msgspec.structs.replace(machine.configuration, restart=True))
    assert offered(allowed, source)
    theirs.process.kill()
    theirs.process.wait()
    assert offered(machine, source)
