"""What processes do with patched images: close and open them, fork, exec; also while a patcher is half-way."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from hotmend.linux import procfs
from hotmend.linux.process import process_images
from hotmend.live import change
from hotmend.live.driver import Options, ProcessResult, apply, repair, revert
from hotmend.live.machine import State, Step
from hotmend.live.registry import process_status
from hotmend.model.hotpatch import Hotpatch
from tests.live.conftest import Target, comes_true
from tests.live.handmade import compile_target, make_hotpatch

Start = Callable[..., Target]
HERE = Path(__file__).parent
PATIENT = Options(deadline_seconds=20.0, max_pause_us=50_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Program and library, with build-ids of this run's own."""
    place = tmp_path_factory.mktemp("lifetimes")
    compile_target(HERE / "loaded.c", place / "loaded.so", "-shared", "-fPIC", build_id())
    compile_target(HERE / "loading.c", place / "loading", build_id())
    return place


def build_id() -> str:
    return f"-Wl,--build-id=0x{secrets.token_hex(20)}"


@pytest.fixture
def target(folder: Path, start: Start) -> Target:
    running = start(folder / "loading", str(folder / "loaded.so"))
    assert running.ask("a") == "1 1"
    return running


@pytest.fixture(scope="module")
def hotpatch(folder: Path) -> Hotpatch:
    return make_hotpatch(folder / "loaded.so", {"first": 2, "second": 2})


def applied(hotpatch: Hotpatch, pid: int) -> None:
    (result,) = apply([hotpatch], [pid], PATIENT)
    assert result.state == "applied", result


def reverted(pid: int) -> None:
    (result,) = revert(None, [pid], PATIENT)
    assert result.state == "reverted", result


def bias(target: Target, hotpatch: Hotpatch) -> int:
    return next(i.bias for i in process_images(target.pid).images if i.build_id == hotpatch.old_build_id)


@pytest.mark.parametrize("back", [False, True], ids=["while-new", "after-revert"])
def test_a_library_that_is_closed_and_opened_again(target: Target, hotpatch: Hotpatch, back: bool) -> None:
    """It comes back with its old code, at the same address; its shadow is not used again, another one is made."""
    place = bias(target, hotpatch)
    applied(hotpatch, target.pid)
    assert target.ask("a") == "2 2"
    if back:
        reverted(target.pid)
    assert target.ask("c") == "done"
    assert [found.state for found in process_status(target.pid)] == [State.EMPTY]
    (result,) = revert(None, [target.pid], PATIENT)
    assert result.state == "unchanged"
    assert target.ask("o") == "done"
    assert bias(target, hotpatch) == place, "it came back elsewhere: the test shows nothing"
    assert target.ask("a") == "1 1"
    assert [found.state for found in process_status(target.pid)] == [State.EMPTY]
    applied(hotpatch, target.pid)
    assert target.ask("a") == "2 2"
    assert sorted(found.state for found in process_status(target.pid)) == [State.EMPTY, State.SETTLED]
    reverted(target.pid)
    assert target.ask("a") == "1 1"
    applied(hotpatch, target.pid)
    assert len(process_status(target.pid)) == 2, "the second shadow is used again"


def test_exec_begins_with_the_old_code(target: Target, hotpatch: Hotpatch) -> None:
    applied(hotpatch, target.pid)
    assert target.ask("e") == "ready"
    assert target.ask("a") == "1 1"
    assert process_status(target.pid) == []
    applied(hotpatch, target.pid)
    assert target.ask("a") == "2 2"


@pytest.mark.parametrize("how", ["v", "p"], ids=["vfork", "posix_spawn"])
def test_a_child_that_execs(target: Target, hotpatch: Hotpatch, how: str) -> None:
    """It has the old code, which is on the disk; its parent stays as it is."""
    applied(hotpatch, target.pid)
    assert target.ask(how) == "1 1"
    assert target.ask("a") == "2 2"
    reverted(target.pid)
    assert target.ask(how) == "1 1"
    assert target.ask("a") == "1 1"


def stop_after(steps: tuple[Step, ...], hotpatch: Hotpatch, pid: int, monkeypatch: pytest.MonkeyPatch) -> ProcessResult:
    """Apply as far as `steps` go, as a patcher that dies there leaves it."""
    with monkeypatch.context() as patch:
        patch.setattr(change, "steps_to_apply", lambda seen: steps)
        (result,) = apply([hotpatch], [pid], PATIENT)
    return result


@pytest.mark.parametrize(
    ("steps", "state", "answer"),
    [
        ((Step.STAGE,), State.STAGED, "1 1"),
        ((Step.STAGE, Step.SWITCH), State.SWITCHED, "2 2"),
        ((Step.STAGE, Step.SWITCH, Step.SETTLE), State.SETTLED, "2 2"),
    ],
    ids=["staged", "switched", "settled"],
)
def test_children_forked_half_way(
    target: Target,
    hotpatch: Hotpatch,
    monkeypatch: pytest.MonkeyPatch,
    steps: tuple[Step, ...],
    state: State,
    answer: str,
) -> None:
    """Each is whole, and each goes its own way from there."""
    stop_after(steps, hotpatch, target.pid, monkeypatch)
    child = int(target.ask("F"))
    assert [found.state for found in process_status(child)] == [state]
    assert (target.ask("a"), target.ask("C")) == (answer, answer)
    (result,) = repair([child], PATIENT)
    assert result.state == ("unchanged" if state is State.SETTLED else "repaired"), result
    assert [found.state for found in process_status(target.pid)] == [state], "the parent is not the child"
    assert (target.ask("a"), target.ask("C")) == (answer, answer)
    (result,) = apply([hotpatch], [target.pid], PATIENT)
    assert result.state in ("applied", "unchanged")
    assert (target.ask("a"), target.ask("C")) == ("2 2", answer)
    if answer == "1 1":
        applied(hotpatch, child)
    reverted(target.pid)
    assert (target.ask("a"), target.ask("C")) == ("1 1", "2 2")
    reverted(child)
    assert target.ask("C") == "1 1"


def sharer(target: Target, command: str) -> int:
    """Start a process on the target's memory; return its pid once it waits."""
    pid = int(target.ask(command))
    assert comes_true(lambda: procfs.read_stat(pid).state == "S")
    return pid


def test_a_process_on_the_same_memory(target: Target, hotpatch: Hotpatch) -> None:
    """It is stopped with the others; either number of the two may be named."""
    pid = sharer(target, "s")
    applied(hotpatch, target.pid)
    assert target.ask("a") == "2 2"
    assert [found.state for found in process_status(pid)] == [State.SETTLED]
    reverted(target.pid)
    assert target.ask("a") == "1 1"
    assert comes_true(lambda: procfs.read_stat(pid).state == "S")


def test_a_process_on_the_same_memory_that_a_stop_would_harm(target: Target, hotpatch: Hotpatch) -> None:
    """Its filters are its own: they are asked, too."""
    pid = sharer(target, "S")
    (result,) = apply([hotpatch], [target.pid], PATIENT)
    assert [reason.code for reason in result.reasons] == ["seccomp"], result
    assert str(pid) in " ".join(result.reasons[0].subjects)
    assert target.ask("a") == "1 1"
    assert process_status(target.pid) == []
