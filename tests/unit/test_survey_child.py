"""A child of its own for each file: whatever happens in it is an answer."""

from __future__ import annotations

import faulthandler
import os
import signal
import time

import msgspec

from hotmend.model.errors import InputError
from hotmend.publisher.survey.child import Answer, Request, Task, run_task


class _Result(msgspec.Struct):
    value: int


def _fine(argument: dict[str, object]) -> _Result:
    return _Result(int(str(argument["value"])) + 1)


def _raises(_: dict[str, object]) -> _Result:
    raise ValueError("this is wrong")


def _unreadable(_: dict[str, object]) -> _Result:
    raise InputError("not an ELF file")


def _sleeps(_: dict[str, object]) -> _Result:
    time.sleep(60)
    return _Result(0)


def _crashes(_: dict[str, object]) -> _Result:
    faulthandler.disable()  # it would print a traceback into the report of the tests
    os.kill(os.getpid(), signal.SIGSEGV)
    return _Result(0)


def _is_killed(_: dict[str, object]) -> _Result:
    os.kill(os.getpid(), signal.SIGKILL)
    return _Result(0)


def _leaves(_: dict[str, object]) -> _Result:
    os._exit(7)


def _eats(argument: dict[str, object]) -> _Result:
    held = bytearray(int(str(argument["value"])))
    held[::4096] = b"x" * len(held[::4096])
    return _Result(len(held))


_TASKS: dict[str, Task] = {
    task.__name__.strip("_"): task
    for task in (_fine, _raises, _unreadable, _sleeps, _crashes, _is_killed, _leaves, _eats)
}


def _run(task: str, value: int = 0, *, memory: int = 1 << 30, seconds: float = 20.0) -> Answer:
    answer = run_task(Request(task, {"value": value}, memory, seconds), _TASKS)
    assert answer is not None
    return answer


def test_a_result_comes_back() -> None:
    answer = _run("fine", 41)
    assert (answer.result, answer.error, answer.error_kind) == ({"value": 42}, None, None)
    assert answer.peak_rss_bytes > 1 << 20


def test_an_error_says_where_it_was() -> None:
    answer = _run("raises")
    assert answer.error_kind == "crash"
    assert answer.error is not None
    assert "ValueError: this is wrong" in answer.error
    assert "test_survey_child.py" in answer.error


def test_a_bad_input_is_told_from_a_defect() -> None:
    assert _run("unreadable").error_kind == "input"


def test_a_child_that_takes_too_long_is_ended() -> None:
    began = time.monotonic()
    assert _run("sleeps", seconds=0.2).error_kind == "time-out"
    assert time.monotonic() - began < 20


def test_signals_and_sudden_ends_are_answers() -> None:
    assert _run("crashes").error_kind == "crash"
    assert _run("is_killed").error_kind == "killed"
    assert _run("leaves").error_kind == "crash"


def test_memory_is_bounded_and_measured() -> None:
    small = _run("eats", 1 << 20)
    large = _run("eats", 100 << 20)
    assert large.peak_rss_bytes - small.peak_rss_bytes > 80 << 20
    assert _run("eats", 3 << 30, memory=64 << 20).error_kind == "out of memory"


def test_the_child_ends_when_nobody_waits_any_more() -> None:
    reader, writer = os.pipe()
    os.close(writer)
    assert run_task(Request("sleeps", {}, 1 << 30, 60.0), _TASKS, stop=reader) is None
    os.close(reader)
