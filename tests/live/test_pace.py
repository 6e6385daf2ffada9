"""Timed waits of the program come to their end, however often it is stopped."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotmend.linux.sys import Registers
from hotmend.linux.timed import UNKNOWN_SECONDS, wait_seconds
from hotmend.live.driver import Options, apply
from hotmend.live.pace import SERIES_SECONDS_MIN, SLACK_SECONDS, Pace
from tests.live.conftest import OWN_BUILD_ID, Target
from tests.live.handmade import compile_target, make_hotpatch

_RESTARTED = -514 % (1 << 64)
_NOTHING = Registers(*[0] * len(Registers._fields))
_BACKOFF_MAX = 0.1


class Bytes:
    """Memory with one piece of content."""

    def __init__(self, address: int, content: bytes) -> None:
        self.start, self.content = address, content

    def try_read(self, address: int, size: int) -> bytes | None:
        at = address - self.start
        return self.content[at : at + size] if 0 <= at <= len(self.content) - size else None


TIME = Bytes(0x1000, struct.pack("<qq", 2, 500_000_000) + struct.pack("<QQQ", 0, 0, 0x1000))


@pytest.mark.parametrize(
    ("call", "registers", "seconds"),
    [
        ("epoll_wait", {"orig_rax": 232, "r10": 200}, 0.2),
        ("epoll_wait for ever", {"orig_rax": 232, "r10": 0xFFFFFFFF}, None),
        ("epoll_pwait, garbage above an int", {"orig_rax": 281, "r10": 0xFFFFFFFF00000005}, 0.005),
        ("epoll_pwait2", {"orig_rax": 441, "r10": 0x1000}, 2.5),
        ("rt_sigtimedwait", {"orig_rax": 128, "rdx": 0x1000}, 2.5),
        ("sigwaitinfo", {"orig_rax": 128, "rdx": 0}, None),
        ("a time that cannot be read", {"orig_rax": 220, "r10": 0x9000}, UNKNOWN_SECONDS),
        ("io_uring_enter with a time", {"orig_rax": 426, "r10": 8, "r8": 0x1010}, 2.5),
        ("io_uring_enter without", {"orig_rax": 426, "r10": 1, "r8": 0x1010}, None),
        ("recvfrom", {"orig_rax": 45}, UNKNOWN_SECONDS),
        ("futex, which keeps its time", {"orig_rax": 202, "r10": 0x1000}, None),
        ("not interrupted", {"orig_rax": 232, "r10": 200, "rax": 0}, None),
    ],
)
def test_wait_seconds(call: str, registers: dict[str, int], seconds: float | None) -> None:
    assert wait_seconds(_NOTHING._replace(**{"rax": _RESTARTED, **registers}), TIME) == seconds, call


@given(st.floats(0.001, 3.0), st.floats(0.0, 3.0), st.floats(0.001, 0.05), st.floats(0.5, 30.0))
def test_a_wait_ends_in_three_times_its_time(wait: float, begun: float, stop: float, deadline: float) -> None:
    """A program waits again and again; a patcher stops it as often as its back-off and the pace let it."""
    now, ends, waited_since = 0.0, wait - min(begun, wait), -min(begun, wait)
    pace, backoff, waits = Pace(), 0.002, []
    while now < deadline:
        now += pace.pause(now, deadline)
        while ends <= now:
            waits.append((waited_since, ends))
            waited_since, ends = ends, ends + wait
        now += stop
        ends = now + wait  # begins anew
        pace.stopped(now, [wait])
        now, backoff = now + backoff, min(2 * backoff, _BACKOFF_MAX)
    # Near the deadline nothing is promised: a wait of more than half of what is left does not end before it.
    kept = deadline - 2 * wait - 3 * (max(wait, SERIES_SECONDS_MIN) + stop + _BACKOFF_MAX + SLACK_SECONDS)
    for since, end in waits:
        if end < kept:
            assert end - since <= 2 * wait + max(wait, SERIES_SECONDS_MIN) + 2 * stop + 2 * _BACKOFF_MAX
    assert waits or kept < 3 * wait


@given(st.lists(st.floats(0.0, 0.01), min_size=1, max_size=50))
def test_nothing_is_held_up_without_waits(gaps: list[float]) -> None:
    pace, now = Pace(), 0.0
    for gap in gaps:
        assert pace.pause(now, 10.0) == 0.0
        pace.stopped(now, [0.0])
        now += gap


def test_waits_end_under_retries(tmp_path: Path, start: Callable[..., Target]) -> None:
    """One function active for ever: tried again and again for three seconds, with waits of 200 ms in the process."""
    path = compile_target(Path(__file__).with_name("waiting.c"), tmp_path / "waiting", OWN_BUILD_ID)
    target = start(path)
    before = list(map(int, target.ask("c").split()))
    (result,) = apply([make_hotpatch(path, {"stays": 2})], [target.pid], Options(deadline_seconds=3.0))
    after = list(map(int, target.ask("c").split()))
    assert [r.code for r in result.reasons] == ["function-active"]
    assert result.attempts > 4
    assert all(b - a >= 4 for a, b in zip(before, after, strict=True)), (before, after, result.attempts)
