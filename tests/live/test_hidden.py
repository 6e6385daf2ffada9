"""Threads in code that changes, of which no word on the stack that they are on tells."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from hotmend.linux import procfs
from hotmend.linux.memory import ProcessMemory
from hotmend.linux.stacks import find_restorers
from hotmend.linux.stop import Stopper
from hotmend.live.driver import Options, apply, revert
from hotmend.live.gate import FunctionRecord
from hotmend.live.safety import Forbidden, Hit, Scanner, Surroundings
from tests.live.conftest import OWN_BUILD_ID, Target, comes_true
from tests.live.handmade import compile_target, make_hotpatch
from tests.servers.process import cpu_seconds

SOURCE = Path(__file__).with_name("hidden.c")
Start = Callable[..., Target]
QUICK = Options(deadline_seconds=0.2, max_pause_us=50_000)


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_target(SOURCE, tmp_path_factory.mktemp("hidden") / "target", OWN_BUILD_ID)


def _add_line(events: Path, line: str) -> None:
    """Add or remove an event; a file opened in any other way would lose those of others."""
    descriptor = os.open(events, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


@pytest.fixture
def probed(hidden: Path, tmp_path: Path) -> Iterator[None]:
    """A return probe on a function that does not change."""
    if subprocess.run(["mount", "-t", "tracefs", "none", tmp_path], check=False, capture_output=True).returncode:
        pytest.skip("no tracefs here")
    event, events = f"hotmend_{os.getpid()}/waits", tmp_path / "uprobe_events"
    try:
        with hidden.open("rb") as file:
            elf = ELFFile(file)
            table = elf.get_section_by_name(".symtab")
            assert isinstance(table, SymbolTableSection)
            symbols = table.get_symbol_by_name("waits")
            assert symbols is not None
            (offset,) = elf.address_offsets(symbols[0]["st_value"])
        _add_line(events, f"r:{event} {hidden}:{offset:#x}")
        (tmp_path / "events" / event / "enable").write_text("1")
        yield
        (tmp_path / "events" / event / "enable").write_text("0")
        _add_line(events, f"-:{event}")
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def places(target: Target) -> tuple[FunctionRecord, FunctionRecord]:
    """Return the changed functions, and the part of one that only a jump leads to.

    Without their last byte: where they end was printed, and is still on the main thread's stack.
    """
    start, end, part, part_end = (int(word, 16) for word in target.read().split())
    return FunctionRecord("changed", start, end - start - 1), FunctionRecord("part", part, part_end - part - 1)


def found(pid: int, forbidden: Forbidden) -> list[Hit]:
    """Return the hits of a scan."""
    stopper = Stopper(pid)
    stopper.look_around()
    with ProcessMemory(pid) as memory:
        maps = procfs.read_maps(pid)
        scanner = Scanner(memory, Surroundings(maps, find_restorers(memory, maps)), forbidden)
        stopped = stopper.stop(1.0)
        try:
            return scanner.scan(stopped)
        finally:
            stopper.release(stopped)


def test_on_a_coroutine_right_above_the_thread_s_own_stack(form: str, hidden: Path, start: Start) -> None:
    """Both are in one mapping: the scan goes from the coroutine's stack to its end, past the thread's own."""
    target = start(hidden, "above")
    changed, _ = places(target)
    hits = found(target.pid, Forbidden([changed]))
    assert [hit.where for hit in hits] == ["coroutine"], form


@pytest.mark.parametrize(("mode", "where"), [("part", "pc"), ("interrupted", "stack")])
def test_on_the_first_byte_of_a_part(form: str, mode: str, where: str, hidden: Path, start: Start) -> None:
    """No entry leads there, so that none can be redirected; as after a page fault on a jump into the part."""
    target = start(hidden, mode)
    _, part = places(target)
    hits = found(target.pid, Forbidden([part], frozenset()))
    assert [(hit.function, hit.where) for hit in hits] == [("part", where)], form
    assert found(target.pid, Forbidden([part], {part.address})) == [], form


def test_on_the_first_byte_of_new_code(program: Path, start: Start) -> None:
    """The settled entry is a jump that has been made: taking the update back would leave the thread in new code."""
    target, hotpatch = start(program), make_hotpatch(program, {"first": 0x1234567})
    old, stays = b"\xb8" + (0x1234567).to_bytes(4, "little"), b"\xeb\xfe\x90\x90\x90"  # jmp to itself
    hotpatch = replace(
        hotpatch, segments=tuple(replace(s, content=s.content.replace(old, stays)) for s in hotpatch.segments)
    )
    (result,) = apply([hotpatch], [target.pid], Options())
    assert result.state == "applied", result.reasons
    before = cpu_seconds(target.pid)
    target.send("a")
    assert comes_true(lambda: cpu_seconds(target.pid) > before + 0.02), "what runs for so long is that jump"
    (result,) = revert(None, [target.pid], QUICK)
    assert [reason.code for reason in result.reasons] == ["function-active"], result.state
    assert "first" in result.reasons[0].sentence


def test_below_a_return_probe(form: str, probed: None, hidden: Path, start: Start) -> None:
    """The kernel keeps the return address into the changed function, and its own stands on the stack."""
    target = start(hidden, "waits")
    changed, part = places(target)
    assert {hit.where for hit in found(target.pid, Forbidden([changed]))} == {"probe"}, form
    assert {hit.where for hit in found(target.pid, Forbidden([part]))} == {"probe"}, "it may be any function"
    (result,) = apply([make_hotpatch(hidden, {"calls_waits": 2})], [target.pid], QUICK)
    assert [reason.code for reason in result.reasons] == ["return-probe"], result.state


def test_without_a_return_probe(form: str, hidden: Path, start: Start) -> None:
    target = start(hidden, "waits")
    changed, part = places(target)
    assert {hit.where for hit in found(target.pid, Forbidden([changed]))} == {"stack"}, form
    assert found(target.pid, Forbidden([part])) == [], form
