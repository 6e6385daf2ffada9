"""A transfer that a stop would cut short: another moment is tried first."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hotmend.linux.stop import Stopper
from hotmend.linux.transfers import _is_transfer, in_transfer
from hotmend.live.driver import Options, apply
from tests.live.conftest import OWN_BUILD_ID, Target
from tests.live.handmade import compile_target, make_hotpatch

WRITTEN = 262144


@pytest.mark.parametrize(
    ("line", "is_one"),
    [
        ("1 0x4 0x7f 0x40000 0x0 0x0 0x0 0x7ffd 0x7f12\n", True),
        ("0 0x4 0x7f 0x40000 0x0 0x0 0x0 0x7ffd 0x7f12\n", False),
        ("45 0x4 0x7f 0x3e8 0x100 0x0 0x0 0x7ffd 0x7f12\n", True),
        ("45 0x4 0x7f 0x3e8 0x40 0x0 0x0 0x7ffd 0x7f12\n", False),
        ("47 0x4 0x7f 0x140 0x0 0x0 0x0 0x7ffd 0x7f12\n", True),
        ("-1 0x7ffd 0x7f12\n", False),
        ("running\n", False),
        ("", False),
    ],
)
def test_lines(line: str, is_one: bool) -> None:
    assert _is_transfer(line) == is_one


def _writing(folder: Path, start: Callable[..., Target]) -> tuple[Path, Target, int]:
    """Start a program that is in the middle of a write; return it, the target, and where what it writes is read."""
    path = compile_target(Path(__file__).with_name("sending.c"), folder / "sending", OWN_BUILD_ID)
    os.mkfifo(fifo := folder / "fifo")
    reader = os.open(fifo, os.O_RDWR)
    target = start(path, str(fifo))
    target.send("w")
    while not in_transfer(target.pid):
        time.sleep(0.01)
    return path, target, reader


def test_a_write_comes_back_whole(
    tmp_path: Path, start: Callable[..., Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for a reader, who comes as soon as the patcher waits: nobody was stopped by then."""
    path, target, reader = _writing(tmp_path, start)
    left, real_pause = [WRITTEN], Stopper.pause

    def pause(self: Stopper, seconds: float) -> None:
        while seconds > 0 and left[0]:
            left[0] -= len(os.read(reader, left[0]))
        real_pause(self, seconds)

    monkeypatch.setattr(Stopper, "pause", pause)
    (result,) = apply([make_hotpatch(path, {"first": 2})], [target.pid], Options())
    while left[0]:  # where the patcher did not wait
        left[0] -= len(os.read(reader, left[0]))
    os.close(reader)
    assert target.read() == str(WRITTEN)
    assert result.state == "applied"
    assert target.ask("a") == "2"


def test_a_write_that_never_ends_keeps_nobody_from_applying(tmp_path: Path, start: Callable[..., Target]) -> None:
    path, target, reader = _writing(tmp_path, start)
    (result,) = apply([make_hotpatch(path, {"first": 2})], [target.pid], Options())
    os.close(reader)
    assert result.state == "applied"
