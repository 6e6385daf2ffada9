"""What memory shows of an update while others work on it, and beside other updates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from hotmend.linux.memory import ProcessMemory
from hotmend.live.gate import (
    RECORD_OFFSET,
    EntryRecord,
    FunctionRecord,
    HeaderRecord,
    PortRecord,
    Shadow,
    VariableRecord,
    encode_header,
    read_header,
    write_header,
)
from hotmend.live.machine import State, state_of
from hotmend.live.registry import observe
from hotmend.model.errors import InputError

NOPS = b"\x90" * 5


def record(header: int, update: str = "a") -> HeaderRecord:
    entry = EntryRecord("f", 0x1000, NOPS, header + 0x100, 18, header + 0x200)
    return HeaderRecord(
        hotpatch_id=update, update=(update,), name="", path="", old_build_id="", new_build_id="", versions=("", ""),
        cves=(), package="", old_bias=0, shadow_bias=0, header=header, gate=header + 64, start=header, end=header,
        regions=(), entries=(entry,), replaced=(), functions=(), applied_at=0.0,
    )  # fmt: skip


class Moments:
    """Memory that is another at each reading: gate bytes and entries, one after the other; the last ones stay."""

    pid = 1

    def __init__(self, gates: list[bytes], entries: list[bytes]) -> None:
        self._gates, self._entries = gates, entries

    def read(self, address: int, size: int) -> bytes:
        return self._gates.pop(0) if len(self._gates) > 1 else self._gates[0]

    def read_many(self, ranges: Sequence[tuple[int, int]]) -> bytearray:
        return bytearray(self._entries.pop(0) if len(self._entries) > 1 else self._entries[0])


class Written:
    """Memory of a process that has written a header of its own."""

    def __init__(self, header: HeaderRecord) -> None:
        self._start, (head, body) = header.header, encode_header(header)
        self._content = head.ljust(RECORD_OFFSET, b"\0") + body

    def try_read(self, address: int, size: int) -> bytes | None:
        return self._content[address - self._start :][:size]


def seen(gates: list[bytes], entries: list[bytes], shadows: Sequence[Shadow] = ()) -> State:
    memory = cast(ProcessMemory, Moments(gates, entries))
    return state_of(observe(memory, (record(0x2000),), placed=True, shadows=shadows))


def test_a_gate_from_before_and_entries_from_after_are_not_damage() -> None:
    stub = record(0x2000).entries[0].jump_to_stub
    assert seen([b"\1", b"\0"], [NOPS]) is State.PLACED
    assert seen([b"\1", b"\0", b"\1"], [stub, NOPS, stub]) is State.SWITCHED


def test_what_does_not_change_and_does_not_fit_is_damage() -> None:
    assert seen([b"\1"], [NOPS]) is State.DAMAGED
    assert seen([b"\0"], [b"\xcc" + NOPS[1:]]) is State.DAMAGED


def test_an_entry_that_another_update_has_is_not_damage() -> None:
    other = record(0x4000, "b")
    entry = other.entries[0].jump_to_new
    assert seen([b"\0"], [entry]) is State.DAMAGED
    assert seen([b"\0"], [entry], [Shadow(other, True)]) is State.PLACED
    assert seen([b"\0"], [entry], [Shadow(other, False)]) is State.DAMAGED
    assert seen([b"\1"], [entry], [Shadow(other, True)]) is State.DAMAGED


SOUND = replace(record(0x2000, 16 * "a"), name="libx.so", old_build_id="ab", new_build_id="cd")
BREAK = "libx\nshell id\n#"
ENTRY = SOUND.entries[0]


@pytest.mark.parametrize(
    "change",
    [
        {"name": BREAK},
        {"versions": ("1", BREAK)},
        {"compared": (BREAK,)},
        {"hotpatch_id": "../../../../x"},
        {"update": (16 * "a", "b")},
        {"new_build_id": "\x1b[2J"},
        {"entries": (replace(ENTRY, name=BREAK),)},
        {"entries": (replace(ENTRY, new=1 << 40),)},
        {"entries": (replace(ENTRY, stub=-1 << 40),)},
        {"functions": (FunctionRecord(BREAK, 1, 1),)},
        {"functions": (FunctionRecord("f", -1, 1),)},
        {"before": (FunctionRecord("f", 1, 1 << 63),)},
        {"variables": (VariableRecord(BREAK, 1, 1, "", ()),)},
        {"ports": (PortRecord(BREAK, 1, 1, ()),)},
    ],
)
def test_a_header_that_would_do_harm_where_it_is_told_of_is_none(change: dict[str, Any]) -> None:
    assert read_header(Written(SOUND), SOUND.header) == Shadow(SOUND, placed=False)
    bad = replace(SOUND, **change)
    assert read_header(Written(bad), bad.header) is None
    with pytest.raises(InputError):
        write_header(cast(ProcessMemory, None), bad)
