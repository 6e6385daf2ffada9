"""Suspended coroutines on stacks that do not look like one: seen all the same, and refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hotmend.linux import procfs
from hotmend.linux.procfs import Mapping
from hotmend.live import coroutines
from hotmend.live.driver import Options, apply
from tests.live.conftest import OWN_BUILD_ID, Target
from tests.live.handmade import compile_target, make_hotpatch

Start = Callable[..., Target]
PATIENT = Options(deadline_seconds=1.0, max_pause_us=100_000)


@pytest.fixture(scope="module")
def fibers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_target(
        Path(__file__).with_name("fibers.c"), tmp_path_factory.mktemp("fibers") / "fibers", OWN_BUILD_ID
    )


def outcome(target: Target, path: Path, function: str = "paused") -> list[str]:
    """Return the state of an apply and the codes of its reasons."""
    (result,) = apply([make_hotpatch(path, {function: 2})], [target.pid], PATIENT)
    return [result.state, *(reason.code for reason in result.reasons)]


@pytest.mark.parametrize(
    ("mode", "function"),
    [
        pytest.param("heap", "paused", id="in the mapping that has the main thread's block"),
        pytest.param("neighbour", "paused", id="below a stack on which a signal was handled"),
        pytest.param("first", "paused_first", id="in the function that it began with"),
        pytest.param("chunk", "paused", id="where what is read at once ends"),
        pytest.param("guarded", "paused", id="below a page that nobody can read (MADV_GUARD_INSTALL, Linux 6.13)"),
    ],
)
def test_suspended(fibers: Path, start: Start, mode: str, function: str) -> None:
    target = start(fibers, mode)
    assert target.ask("y") == "suspended"
    assert outcome(target, fibers, function) == ["refused", "coroutine-suspected"]
    assert target.ask("e") == "ended"


def test_suspended_below_a_guard_page_that_is_not_told(
    fibers: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux 6.13 and 6.14 take one for a page in swap: what lies around it is read all the same."""
    monkeypatch.setattr(coroutines, "_GUARD", np.uint64(0))
    target = start(fibers, "guarded")
    assert target.ask("y") == "suspended"
    assert outcome(target, fibers) == ["refused", "coroutine-suspected"]


def test_in_memory_that_the_program_has_named(fibers: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """PR_SET_VMA_ANON_NAME, as PHP has it; not every kernel offers it: the names are put in here."""
    target, real = start(fibers, "plain"), procfs.read_maps
    assert target.ask("y") == "suspended"

    def read(pid: int) -> tuple[Mapping, ...]:
        return tuple(replace(m, path="[anon:zend_fiber_stack]") if m.anonymous else m for m in real(pid))

    monkeypatch.setattr(procfs, "read_maps", read)
    assert outcome(target, fibers) == ["refused", "coroutine-suspected"]


def test_what_a_handler_left_on_its_alternate_stack(fibers: Path, start: Start) -> None:
    """It called the function, and has ended."""
    target = start(fibers, "alternate")
    assert target.ask("y") == "suspended"
    assert outcome(target, fibers) == ["applied"]
    assert target.ask("a") == "2"
