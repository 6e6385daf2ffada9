"""A crash in new code is told from any other, from the kernel's own log."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from hotmend.agent.health.crashes import Threads, crash_of_changed, in_new_code, note_threads, read_traps
from hotmend.agent.record.history import ChangedProcess
from hotmend.live.driver import Options, apply
from hotmend.live.registry import process_status
from tests.live.conftest import Target
from tests.live.handmade import make_hotpatch

pytestmark = pytest.mark.live
UD2 = b"\x0f\x0b"


@pytest.mark.parametrize("where", ["new", "new, in a thread", "elsewhere, in a thread", "elsewhere"])
def test_whose_a_crash_was(program: Path, start: Callable[..., Target], where: str) -> None:
    target = start(program, "0")
    (result,) = apply([make_hotpatch(program, {"first": 2}, "target")], [target.pid], Options())
    assert result.state == "applied"
    (status,) = process_status(target.pid)
    changed = ChangedProcess(
        target.pid, result.start_time_ticks, result.comm, "", tuple((each.start, each.end) for each in result.shadows)
    )
    assert target.ask("n") == "named"
    threads: Threads = {}
    note_threads([target.pid], threads)
    _, begun = read_traps(0)
    if where.startswith("new"):
        with Path(f"/proc/{target.pid}/mem").open("r+b", buffering=0) as memory:
            memory.seek(status.functions[0].new)
            memory.write(UD2)
        target.send("a" if where == "new" else "N")
    elif "thread" in where:
        target.send("X")
    else:
        target.process.send_signal(signal.SIGSEGV)
    assert target.process.wait(10) in (-signal.SIGILL, -signal.SIGSEGV)
    traps, _ = read_traps(begun)
    found = [trap for trap in traps if in_new_code(trap, [changed]) == changed]
    assert [trap.what for trap in found] == (["trap invalid opcode"] if where.startswith("new") else [])
    if "thread" in where:  # of the other two the kernel tells nothing, or the process's own name
        crash = crash_of_changed(traps, [changed], threads)
        assert crash is not None
        assert (crash.pid, crash.comm, crash.ours) == (target.pid, "named 1", False)
