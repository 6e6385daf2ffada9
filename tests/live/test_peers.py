"""The program that hotmend and its peers are measured on tells the truth about the change and about its pauses."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from bench.peers.engines import hotmend_rigs
from bench.peers.measure import HOSTILE, Asked, command_run

pytestmark = [pytest.mark.live, pytest.mark.slow]


@pytest.mark.parametrize("mode", ["idle", "many"])
def test_it_answers_anew_and_sees_a_stop(tmp_path: Path, mode: str) -> None:
    (rig,) = hotmend_rigs(tmp_path, None)
    target = Asked(rig.program, 4, mode, tmp_path / "shared")

    def stop() -> None:
        os.kill(target.pid, signal.SIGSTOP)
        time.sleep(0.3)
        os.kill(target.pid, signal.SIGCONT)
        time.sleep(0.1)

    try:
        assert target.answers(1, 10)
        assert target.gap_ms(stop) > 270  # what it sleeps on purpose, up to 20 ms, is left out
        assert command_run(rig.one(target.pid, 30))[1] == 0
        assert target.answers(2, 10)
    finally:
        target.close()


def test_nobody_says_new_code_while_a_thread_is_inside(tmp_path: Path) -> None:
    (rig,) = hotmend_rigs(tmp_path, None)
    inside = HOSTILE[-1]
    target = Asked(rig.program, inside.threads, inside.mode, tmp_path / "shared")
    try:
        assert command_run(rig.one(target.pid, 0.5))[1] == 4
        assert not target.answers(2, 0.2)
    finally:
        target.close()
