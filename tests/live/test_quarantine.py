"""What is kept away stays away, from real processes: whoever took it back, however that ended, and whoever asks."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hotmend.agent.apt.pending import Pending
from hotmend.agent.by_hand import keep_away, note_reverted
from hotmend.agent.memory import Coverage, Manner, Memory, Prepared, Want, in_memory
from hotmend.agent.paths import Places
from hotmend.agent.record.history import History, Quarantined, Reverted
from hotmend.agent.record.quarantine import Entry, put_in, read_quarantine
from hotmend.agent.run import run
from hotmend.agent.uplink.doing import perform
from hotmend.diff.options import Options as BuildOptions
from hotmend.linux.process import process_images, processes_mapping
from hotmend.live.driver import Options, ProcessResult, ShadowReport, apply, revert
from hotmend.live.gate import hotpatch_id
from hotmend.publisher.update import Side, Update
from hotmend.servicing.actions import State
from hotmend.wire.messages import Kind, Order
from tests.hotpatches import sample
from tests.live.conftest import Target, comes_true
from tests.live.handmade import make_hotpatch
from tests.live.test_agent_run import KEY, NOW, Made, machine_at

pytestmark = pytest.mark.live


def names(places: Places) -> list[str]:
    return [entry.update for entry in read_quarantine(places.quarantine)]


def test_an_order_that_is_killed_while_it_takes_back_is_made_up_for(
    tmp_path: Path, program: Path, start: Callable[..., Target]
) -> None:
    """Nothing may come back by itself, although the order that is done again may find nothing to take back."""
    target = start(program, "0")
    source = Made(make_hotpatch(program, {"first": 2}, "target"))
    machine = machine_at(tmp_path / "machine")
    assert run(machine, source, NOW).state is State.SUCCEEDED
    assert target.ask("a") == "2 1 2"
    order = Order("a" * 32, Kind.REVERT, updates=(KEY,))

    def told() -> None:
        if isinstance(machine.history.read().events[-1], Quarantined):
            os.kill(os.getpid(), signal.SIGKILL)

    if not (child := os.fork()):
        perform(replace(machine, told=told), order)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    ended = perform(machine, order)
    assert ended is not None
    assert (ended.state, target.ask("a")) == (State.SUCCEEDED, "1 1 1")
    assert names(machine.places) == [KEY, hotpatch_id(source.hotpatch)]


def test_by_hand_it_is_kept_away_before_memory_is_changed_and_no_longer_if_that_is_refused(
    tmp_path: Path, program: Path, start: Callable[..., Target]
) -> None:
    first, second = (make_hotpatch(program, {name: 2}, name) for name in ("first", "second"))
    targets = start(program, "0"), start(program, "0")
    for target, hotpatch in zip(targets, (first, second), strict=True):
        assert [result.state for result in apply([hotpatch], [target.pid], Options())] == ["applied"]
    pids = [target.pid for target in targets]
    places = machine_at(tmp_path / "machine").places

    kept = keep_away(places, [hotpatch_id(first)], pids, below=False)
    assert (names(places), targets[0].ask("a")) == ([hotpatch_id(first)], "2 1 2")
    done = revert([hotpatch_id(first)], pids, Options())
    note_reverted(places, done, kept=kept)
    assert (names(places), targets[0].ask("a")) == ([hotpatch_id(first)], "1 1 1")

    kept = keep_away(places, None, pids, below=False)
    assert names(places) == [hotpatch_id(first), hotpatch_id(second)]
    note_reverted(places, [replace(result, state="refused", shadows=()) for result in done], kept=kept)
    assert (names(places), targets[1].ask("a")) == ([hotpatch_id(first)], "1 2 1")
    events = History(places.history).read().events
    assert [event.hotpatches for event in events if isinstance(event, Reverted)] == [(hotpatch_id(first),)]


def test_who_takes_back_by_hand_waits_for_who_writes_at_that_moment(tmp_path: Path) -> None:
    machine = machine_at(tmp_path / "machine")
    file = machine.places.quarantine
    result = ProcessResult(os.getpid(), "x", 1, 1, 1, 1.0, 1, (ShadowReport("x", "ab12", 0, 0, 0),), "reverted", (), 0)
    children: list[int] = []

    def record(_: Quarantined) -> None:
        if not (child := os.fork()):
            note_reverted(machine.places, [result])
            os._exit(0)
        children.append(child)
        while not (_waits(child) or os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)):
            time.sleep(0.01)

    put_in(file, [Entry("agent=1", machine.clock(), "ill")], record)
    (child,) = children
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert names(machine.places) == ["agent=1", "ab12"]


def _waits(pid: int) -> bool:
    return any("->" in line and f" {pid} " in line for line in Path("/proc/locks").read_text().splitlines())


def test_a_hotpatch_in_quarantine_is_placed_by_nobody() -> None:
    """A run of apt or of `upgrade`, which made it anew: it has the id of the one that was taken back."""
    hotpatch = sample()
    side = Side("coreutils=2", "coreutils", "2", 0)
    began: list[str] = []

    def making(want: Want, manner: Manner) -> tuple[Update, Prepared]:
        builds = {image.build_id for process in want.group.mapping for image in process.images if image.build_id}
        return Update(side, side, (), (), ()), Prepared((hotpatch,), dict.fromkeys(builds, Coverage.WHOLE))

    one = Pending("coreutils", "amd64", "1", "2", ())
    sleep = subprocess.Popen(["/bin/sleep", "600"])
    try:
        assert comes_true(lambda: len(process_images(sleep.pid).images) > 2)  # itself, the linker and the C library
        for kept, error in ((hotpatch_id(hotpatch), f"in quarantine: {hotpatch_id(hotpatch)}"), ("other", "")):
            manner = Manner(BuildOptions(), Options(), kept_away=frozenset({kept}))
            running = [process for process in processes_mapping() if process.pid == sleep.pid]
            result = in_memory(one, Path("unread"), running, manner, lambda *_: began.append("begins"), making)
            assert (result.memory, result.error.partition(";")[0]) == (Memory.OLD, error)
            assert (result.still_old[0].pid, began) == (sleep.pid, [] if error else ["begins"])
    finally:
        sleep.kill()
        sleep.wait()
