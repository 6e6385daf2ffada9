"""One patcher at a time, and nobody else keeps one off; what a second one does where the lock cannot hold it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from faults.target import Program, health_of, program_make, target_start
from hotmend.linux import procfs
from hotmend.linux.memory import ProcessMemory
from hotmend.live.driver import Options, apply, repair, revert
from hotmend.live.machine import State, Step
from hotmend.live.registry import process_status
from hotmend.live.transaction import Transaction
from hotmend.model.errors import PermissionRefusedError
from tests.live.conftest import Target
from tests.live.handmade import make_hotpatch

NOBODY = 65534


@pytest.fixture(scope="module")
def both_images(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """An executable and its library, changed in one switch, with more entries than are written in one stop."""
    return program_make(tmp_path_factory.mktemp("exclusive"))


def test_the_second_patcher_is_refused_until_the_first_has_ended(program: Path, start: Callable[..., Target]) -> None:
    target, hotpatch = start(program, "1"), make_hotpatch(program, {"first": 2})
    with ProcessMemory(target.pid) as held:
        assert held.lock()
        (refused,) = apply([hotpatch], [target.pid], Options())
        assert (refused.state, [reason.code for reason in refused.reasons]) == ("refused", ["patched-by-another"])
        assert target.ask("a") == "1 1 1"
    assert apply([hotpatch], [target.pid], Options())[0].state == "applied"
    with ProcessMemory(target.pid) as held:
        assert held.lock()
        assert [reason.code for reason in revert(None, [target.pid], Options())[0].reasons] == ["patched-by-another"]
    assert target.ask("a") == "2 1 2"


def test_the_lock_ends_with_whoever_had_it(program: Path, start: Callable[..., Target]) -> None:
    target = start(program, "1")
    reader, writer = os.pipe()
    if not (child := os.fork()):
        os.write(writer, b"y" if ProcessMemory(target.pid).lock() else b"n")
        signal.pause()
    assert os.read(reader, 1) == b"y"
    with ProcessMemory(target.pid) as memory:
        assert not memory.lock()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with ProcessMemory(target.pid) as memory:
        assert memory.lock()


def test_who_may_not_change_the_process_keeps_nobody_off(program: Path, start: Callable[..., Target]) -> None:
    """A name in the abstract namespace of sockets was free for everybody to take."""
    target, hotpatch = start(program, "1"), make_hotpatch(program, {"first": 2})
    with held_by_nobody(target.pid):
        assert apply([hotpatch], [target.pid], Options())[0].state == "applied"
        assert target.ask("a") == "2 1 2"


@contextmanager
def held_by_nobody(pid: int) -> Iterator[None]:
    """Have a user without rights take all that the user can of what stands for the process."""
    reader, writer = os.pipe()
    if not (child := os.fork()):
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        lock.bind(f"\0hotmend-patch-{pid}-{procfs.read_stat(pid).start_time_ticks}")
        try:
            ProcessMemory(pid)
        except PermissionRefusedError:
            os.write(writer, b"y")
        signal.pause()
    os.close(writer)
    try:
        assert os.read(reader, 1) == b"y"
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)


@pytest.mark.parametrize(
    ("step", "code", "left"),
    [
        (Step.SWITCH, "old", State.PLACED),
        (Step.SETTLE, "old", State.STAGED),
        (Step.UNSWITCH, "new", State.SETTLED),
        (Step.UNSTAGE, "new", State.SWITCHED),
    ],
)
def test_what_a_second_one_changed_between_two_stops_is_seen(
    both_images: Program, monkeypatch: pytest.MonkeyPatch, step: Step, code: str, left: State
) -> None:
    """In a container with a /proc of its own the lock is another one: somebody repairs, or turns the gate and dies."""
    target = target_start(both_images, 4)
    run = Transaction.run

    def disturbed(self: Transaction, now: Step) -> None:
        if now is step:
            monkeypatch.undo()
            if step in (Step.SWITCH, Step.UNSWITCH):
                monkeypatch.setattr(ProcessMemory, "lock", lambda _: True)
                assert repair([target.pid], Options())[0].state == "repaired"
                monkeypatch.undo()
            else:
                self.memory.write(self.records[0].gate, b"\0" if step is Step.SETTLE else b"\1")
        run(self, now)

    try:
        if code == "new":
            assert apply(both_images.hotpatches, [target.pid], Options())[0].state == "applied"
        monkeypatch.setattr(Transaction, "run", disturbed)
        (result,) = (
            apply(both_images.hotpatches, [target.pid], Options())
            if code == "old"
            else revert(None, [target.pid], Options())
        )
        assert (result.state, [reason.code for reason in result.reasons]) == ("refused", ["entry-changed-meanwhile"])
        assert health_of(target).code == code
        assert {s.state for s in process_status(target.pid)} == {left}
    finally:
        target.close()
