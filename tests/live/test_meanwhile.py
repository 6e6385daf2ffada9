"""What changes in a process between the plan and the first write is not written over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from hotmend.linux.memory import ProcessMemory
from hotmend.linux.remote import SYS_MMAP, Call, RemoteCaller
from hotmend.live.driver import Options, apply
from hotmend.live.machine import Step
from hotmend.live.registry import process_status
from hotmend.live.transaction import Transaction
from hotmend.model.addresses import PAGE_BYTES
from hotmend.model.verdict import Reason
from tests.live.conftest import Target
from tests.live.handmade import make_hotpatch

Start = Callable[..., Target]
OTHERS = b"\xc3" * 64


def test_code_that_took_the_place_is_left_alone(program: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler at run time has mapped its code where the shadow was to be, just as readable and executable."""
    target, hotpatch = start(program), make_hotpatch(program, {"first": 2})
    taken: list[int] = []
    real_call = RemoteCaller.call

    def call(self: RemoteCaller, calls: Sequence[Call], done: Callable[[], bool], deadline: float) -> Reason | None:
        reason = real_call(self, calls, done, deadline)
        if calls[0].number == SYS_MMAP and not taken:
            taken.append(calls[0].arguments[0] + PAGE_BYTES)
            self.memory.write_checked(taken[0], OTHERS)
        return reason

    monkeypatch.setattr(RemoteCaller, "call", call)
    (result,) = apply([hotpatch], [target.pid], Options())
    assert result.state == "applied", result  # at another place
    assert target.ask("a") == "2 1 2"
    (status,) = process_status(target.pid)
    assert not status.header <= taken[0] < status.header + status.bytes_mapped
    with ProcessMemory(target.pid) as memory:
        around = memory.read(taken[0] - PAGE_BYTES, 3 * PAGE_BYTES)
    assert around.strip(b"\0") == OTHERS


def test_what_took_the_place_of_an_entry_is_left_alone(
    program: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even what stands there is written back: it may be data by now, and another word when that arrives."""
    target, hotpatch = start(program), make_hotpatch(program, {"first": 2})
    copied: list[int] = []
    real_walk, real_take = Transaction.walk, ProcessMemory.take_faults

    def walk(self: Transaction, steps: Sequence[Step]) -> None:
        for entry in self.entries:
            self.memory.write_checked(entry.address, b"\x66\x90\x66\x90\x90")
        real_walk(self, steps)

    def take_faults(self: ProcessMemory, addresses: Iterable[int]) -> None:
        found = list(addresses)
        copied.extend(found)
        real_take(self, found)

    monkeypatch.setattr(Transaction, "walk", walk)
    monkeypatch.setattr(ProcessMemory, "take_faults", take_faults)
    (result,) = apply([hotpatch], [target.pid], Options())
    assert [reason.code for reason in result.reasons] == ["entry-changed-meanwhile"]
    assert copied == []
    assert target.ask("a") == "1 1 1"
