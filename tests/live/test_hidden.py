"""Threads in code that changes, of which no word on the stack that they are on tells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hotmend.linux import procfs
from hotmend.linux.memory import ProcessMemory
from hotmend.linux.stacks import find_restorers
from hotmend.linux.stop import Stopper
from hotmend.live.gate import FunctionRecord
from hotmend.live.safety import Forbidden, Hit, Scanner, Surroundings
from tests.live.conftest import OWN_BUILD_ID, Target
from tests.live.handmade import compile_target

SOURCE = Path(__file__).with_name("hidden.c")
Start = Callable[..., Target]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
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


def test_on_a_coroutine_right_above_the_thread_s_own_stack(form: str, program: Path, start: Start) -> None:
    """Both are in one mapping: the scan goes from the coroutine's stack to its end, past the thread's own."""
    target = start(program, "above")
    changed, _ = places(target)
    hits = found(target.pid, Forbidden([changed]))
    assert [hit.where for hit in hits] == ["coroutine"], form
