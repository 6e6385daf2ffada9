"""`hotmend watch`: whoever begins to run the old build is changed, once, and it ends when it is told to."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hotmend.linux.execs import Exec, ExecEvents
from hotmend.live.audit import read_audit
from hotmend.live.driver import Options, revert
from hotmend.live.machine import State
from hotmend.live.registry import process_status
from hotmend.model.hotpatch import Hotpatch
from hotmend.package.encode import encode
from tests.live.conftest import Target
from tests.live.handmade import compile_target, make_hotpatch
from tests.live.test_lifetimes import build_id

Start = Callable[..., Target]
HERE = Path(__file__).parent
SECONDS_MAX = 30.0


@dataclass(slots=True)
class Watching:
    """A running `hotmend watch`; in the end `changes` has what it printed."""

    process: subprocess.Popen[str]
    changes: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def watching(folder: Path, hotpatch: Hotpatch, *words: str) -> Iterator[Watching]:
    """Run `hotmend watch` until it has looked at all processes; in the end have it stop, which it must do well."""
    file = folder / "watched.hotpatch"
    file.write_bytes(encode(hotpatch))
    command = [sys.executable, "-m", "hotmend", "watch", str(file), "--json", "--audit", str(folder / "audit"), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        watch = Watching(process)
        assert process.stderr is not None
        try:
            told = [process.stderr.readline()]
            while not told[-1].startswith("Watching"):
                assert told[-1], told
                told.append(process.stderr.readline())
            yield watch
            process.send_signal(signal.SIGTERM)
            out, _ = process.communicate(timeout=SECONDS_MAX)
            assert process.returncode == 0
            watch.changes += [json.loads(line) for line in out.splitlines()]
        finally:
            process.kill()


def becomes(target: Target, command: str, wanted: str) -> None:
    """Wait until the target answers so."""
    limit = time.monotonic() + SECONDS_MAX
    while (answer := target.ask(command)) != wanted:
        assert time.monotonic() < limit, answer
        time.sleep(0.01)


def settles(target: Target) -> None:
    """Wait until nothing is left to do in the process: what is closed in the middle of a change refuses it."""
    limit = time.monotonic() + SECONDS_MAX
    while State.SETTLED not in {status.state for status in process_status(target.pid)}:
        assert time.monotonic() < limit
        time.sleep(0.01)


def audited(folder: Path) -> list[tuple[str, int]]:
    """Return phase and pid of every line of the audit record."""
    return [(record.phase, record.pid) for record in read_audit(folder / "audit").records]


@pytest.mark.parametrize("words", [(), ("--no-events", "--interval", "0.2")], ids=["events", "looking"])
def test_processes_of_before_and_after(program: Path, start: Start, tmp_path: Path, words: tuple[str, ...]) -> None:
    hotpatch = make_hotpatch(program, {"first": 2, "second": 2})
    targets = [start(program)]
    with watching(tmp_path, hotpatch, *words) as watch:
        assert targets[0].ask("a") == "2 2 2"
        targets += [start(program, "4"), start(program)]
        for target in targets[1:]:
            becomes(target, "a", "2 2 2")
        assert targets[1].ask("f") == "2 2"  # a child of it
        time.sleep(0.5)  # nobody is looked at twice meanwhile
    told = watch.changes
    pids = [target.pid for target in targets]
    assert sorted(change["pid"] for change in told) == sorted(pids)
    assert {change["state"] for change in told} == {"applied"}
    assert [change["since_start_ms"] is not None for change in told] == [False] + [not words] * 2
    assert sorted(audited(tmp_path)) == sorted((phase, pid) for phase in ("before", "after") for pid in pids)
    assert [len(process_status(pid)) for pid in pids] == [1, 1, 1]


def test_what_was_taken_back_stays_so(program: Path, start: Start, tmp_path: Path) -> None:
    hotpatch = make_hotpatch(program, {"first": 2, "second": 2})
    target = start(program)
    with watching(tmp_path, hotpatch, "--interval", "0.2") as watch:
        assert revert(None, [target.pid], Options())[0].state == "reverted"
        time.sleep(1)
        assert target.ask("a") == "1 1 1"
    assert len(watch.changes) == 1


@pytest.mark.parametrize("words", [(), ("--no-events",)], ids=["events", "looking"])
def test_what_was_taken_back_stays_so_in_children_and_libraries_opened_again(
    tmp_path: Path, start: Start, words: tuple[str, ...]
) -> None:
    """Until it is applied again by hand, or another program begins."""
    library = compile_target(HERE / "loaded.c", tmp_path / "loaded.so", "-shared", "-fPIC", build_id())
    opening = compile_target(HERE / "loading.c", tmp_path / "loading", build_id())
    target, other = start(opening, str(library)), start(opening, str(library))
    hotpatch = make_hotpatch(library, {"first": 2, "second": 2})
    with watching(tmp_path, hotpatch, "--interval", "0.2", *words) as watch:
        settles(target)
        assert revert(None, [target.pid], Options())[0].state == "reverted"
        target.ask("F")
        other.ask("F")
        time.sleep(1)
        assert (target.ask("C"), target.ask("a")) == ("1 1", "1 1")
        becomes(other, "C", "2 2")
        assert (target.ask("c"), target.ask("o")) == ("done", "done")
        time.sleep(1)
        assert target.ask("a") == "1 1"
        target.send("e")
        target.read()
        becomes(target, "a", "2 2")
    assert len([change for change in watch.changes if change["pid"] == target.pid]) == 2


def test_libraries_opened_later_and_programs_begun_anew(tmp_path: Path, start: Start) -> None:
    library = compile_target(HERE / "loaded.c", tmp_path / "loaded.so", "-shared", "-fPIC", build_id())
    opening = compile_target(HERE / "loading.c", tmp_path / "loading", build_id())
    target = start(opening, str(library))
    assert target.ask("a") == "1 1"
    with watching(tmp_path, make_hotpatch(library, {"first": 2, "second": 2}), "--interval", "0.2") as watch:
        becomes(target, "a", "2 2")
        for _ in range(3):
            settles(target)
            assert (target.ask("c"), target.ask("o")) == ("done", "done")  # at the same place, with the file's code
            becomes(target, "a", "2 2")
        settles(target)
        target.send("e")  # the same process is another program now
        target.read()
        becomes(target, "a", "2 2")
        assert target.process.poll() is None
    # One that came upon the closing in its last step is refused, and made again.
    told = [(change["pid"], change["state"]) for change in watch.changes]
    assert 2 <= told.count((target.pid, "applied")) <= 5, watch.changes


def test_ends_by_control_c(program: Path, tmp_path: Path) -> None:
    with watching(tmp_path, make_hotpatch(program, {"first": 2})) as watch:
        watch.process.send_signal(signal.SIGINT)
        assert watch.process.wait(SECONDS_MAX) == 0
    assert watch.changes == []


def test_the_kernel_tells_of_each_execve() -> None:
    events, began = ExecEvents(), time.monotonic_ns()
    try:
        told: list[Exec] = []
        for _ in range(3):
            subprocess.run(["/bin/sh", "-c", "exec /bin/true"], check=True)
        limit = time.monotonic() + SECONDS_MAX
        # Others start programs meanwhile; each of ours calls execve twice in one process.
        while max(Counter(event.pid for event in told).values(), default=0) < 2:
            assert time.monotonic() < limit, told
            found, lost = events.read()
            assert not lost
            told += found
        assert all(began < event.at_ns < time.monotonic_ns() for event in told)
    finally:
        events.close()


def test_where_the_kernel_does_not_tell(program: Path, tmp_path: Path) -> None:
    """In a user namespace of its own; what is done instead is said."""
    file = tmp_path / "watched.hotpatch"
    file.write_bytes(encode(make_hotpatch(program, {"first": 2})))
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-m", "hotmend", "watch", str(file)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            assert process.stderr.readline().startswith("The kernel does not tell of new processes here")
            assert process.stderr.readline().startswith("Watching")
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS_MAX) == 0
        finally:
            process.kill()
