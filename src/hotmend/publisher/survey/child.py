"""One comparison in one short-lived process with a limit on memory and time.

`python -m hotmend.publisher.survey.child` is a *nursery*: it loads the engine once and then forks a child for each
request, which saves half a second for every file. Requests and answers are one JSON object a line on
stdin and stdout. It has a single thread, so that forking is safe, and it waits for its child itself, so that
the peak of memory is that of exactly this child (`wait4`). When stdin ends, for example because the survey was
killed, the child is killed too.
"""

from __future__ import annotations

import gc
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Final, NoReturn

import msgspec

ADDRESS_SPACE_ROOM: Final = 768 << 20
"""Address space that a child may have above its limit of memory: libraries, and what is mapped but never touched."""
ANSWER_BYTES_MAX: Final = 64 << 20
_SIGNAL_ANSWERS = {
    signal.SIGALRM: ("time-out", "took longer than {seconds:.0f} s"),
    signal.SIGKILL: ("killed", "was killed from outside, perhaps because the machine ran out of memory"),
}


class Request(msgspec.Struct, frozen=True):
    """What a child is to do: `task` names a function of `tasks`, which gets `argument`. Limits in bytes and seconds."""

    task: str
    argument: dict[str, object]
    memory_bytes: int
    seconds: float


class Answer(msgspec.Struct, frozen=True):
    """What became of it: `result` as the task returned it, or what went wrong (`error`) in one line.

    `error_kind` is `time-out`, `out of memory`, `killed`, `crash`, or `input` where the file is at fault.
    """

    result: dict[str, object] | None
    error: str | None
    error_kind: str | None
    seconds: float
    cpu_seconds: float
    peak_rss_bytes: int


class _Report(msgspec.Struct, frozen=True):
    """What a child writes into its pipe."""

    result: dict[str, object] | None = None
    error: str | None = None
    error_kind: str | None = None


Task = Callable[[dict[str, object]], msgspec.Struct]


def run_task(request: Request, tasks: dict[str, Task], stop: int | None = None) -> Answer | None:
    """Do what is asked in a child of this process, and return what became of it.

    Args:
        request: the task and its limits.
        tasks: the functions by name.
        stop: a descriptor; when it becomes readable at its end, the child is killed and None is returned.
    """
    began = time.monotonic()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _run_child(request, tasks, writer)
    os.close(writer)
    data = _collect(reader, stop)
    os.close(reader)
    if data is None:
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    if data is None:
        return None
    report = _read_report(data, status, request)
    seconds, cpu_seconds = time.monotonic() - began, usage.ru_utime + usage.ru_stime
    return Answer(report.result, report.error, report.error_kind, seconds, cpu_seconds, usage.ru_maxrss * 1024)


def _collect(reader: int, stop: int | None) -> bytes | None:
    """Return what the child writes until it ends, or None when the survey is gone first."""
    parts: list[bytes] = []
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    if stop is not None:
        poll.register(stop, select.POLLHUP)
    while True:
        events = poll.poll()
        if any(fd == stop for fd, _ in events):
            return None
        part = os.read(reader, 1 << 20)
        if not part:
            return b"".join(parts)
        parts.append(part)


def _read_report(data: bytes, status: int, request: Request) -> _Report:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        kind, text = _SIGNAL_ANSWERS.get(signal.Signals(number), ("crash", f"ended by {signal.Signals(number).name}"))
        return _Report(error=f"The comparison {text.format(seconds=request.seconds)}.", error_kind=kind)
    try:
        return msgspec.json.decode(data, type=_Report)
    except msgspec.DecodeError:
        code = os.waitstatus_to_exitcode(status)
        return _Report(error=f"The comparison ended without an answer (exit code {code}).", error_kind="crash")


def _run_child(request: Request, tasks: dict[str, Task], writer: int) -> NoReturn:
    """Run the task under its limits and leave; nothing of the parent's is run on the way out."""
    try:
        limit = request.memory_bytes + ADDRESS_SPACE_ROOM
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, request.seconds)
        report = _report(request, tasks)
        data = msgspec.json.encode(report)
        with os.fdopen(writer, "wb") as file:
            file.write(data)
        os._exit(0)
    finally:
        os._exit(1)


def _report(request: Request, tasks: dict[str, Task]) -> _Report:
    from hotmend.model.errors import HotmendError

    try:
        return _Report(msgspec.to_builtins(tasks[request.task](request.argument)))
    except MemoryError:
        text = f"The comparison needs more than {request.memory_bytes >> 20} MiB of memory."
        return _Report(error=text, error_kind="out of memory")
    except HotmendError as error:
        return _Report(error=str(error), error_kind="input")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer for this file and not the end
        return _Report(error=f"{type(error).__name__}: {error} ({_place(error)})", error_kind="crash")


def _place(error: Exception) -> str:
    """Return where an error came from: file, line and function."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    if frame is None:
        return "unknown place"
    code = frame.tb_frame.f_code
    name = "/".join(code.co_filename.split("/")[-2:])
    return f"{name}:{frame.tb_lineno} in {code.co_name}"


def serve(tasks: dict[str, Task]) -> None:
    """Answer requests until stdin ends. Nothing else may write to stdout."""
    gc.freeze()  # a collection in a child must not touch, and so copy, what is shared with this process
    answers = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with os.fdopen(answers, "wb") as file:
        for line in sys.stdin.buffer:
            answer = run_task(msgspec.json.decode(line, type=Request), tasks, sys.stdin.fileno())
            if answer is None:
                return
            file.write(msgspec.json.encode(answer) + b"\n")
            file.flush()


if __name__ == "__main__":
    from hotmend.image.references import learn_common_heads
    from hotmend.publisher.release import builds
    from hotmend.publisher.survey import tasks

    learn_common_heads()
    serve(tasks.TASKS | builds.TASKS)
