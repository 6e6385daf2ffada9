"""Threads in code that changes, of which no word on the stack that they are on tells."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hotmend.linux import procfs
from hotmend.linux.memory import ProcessMemory
from hotmend.linux.stacks import find_restorers
from hotmend.linux.stop import Stopper
from hotmend.live.driver import Options, apply, revert
from hotmend.live.gate import FunctionRecord
from hotmend.live.safety import Forbidden, Hit, Scanner, Surroundings
from tests.live.conftest import OWN_BUILD_ID, Target
from tests.live.handmade import compile_target, make_hotpatch

SOURCE = Path(__file__).with_name("hidden.c")
Start = Callable[..., Target]


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_target(SOURCE, tmp_path_factory.mktemp("hidden") / "target", OWN_BUILD_ID)


def places(target: Target) -> tuple[FunctionRecord, FunctionRecord]:
    """Return the changed functions, and the part of one that only a jump leads to."""
    start, end, part, part_end = (int(word, 16) for word in target.read().split())
    return FunctionRecord("changed", start, end - start), FunctionRecord("part", part, part_end - part)


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
    assert "coroutine" in {hit.where for hit in hits}, form


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
    target.send("a")
    time.sleep(0.1)
    (result,) = revert(None, [target.pid], Options(deadline_seconds=0.2))
    assert [reason.code for reason in result.reasons] == ["function-active"], result.state
    assert "first" in result.reasons[0].sentence
