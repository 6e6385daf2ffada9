"""A crash in new code is told from any other, from the kernel's own log."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from hotmend.agent.health.crashes import in_new_code, now_us, traps_since
from hotmend.agent.record.history import ChangedProcess
from hotmend.live.driver import Options, apply
from hotmend.live.registry import process_status
from tests.live.conftest import Target
from tests.live.handmade import make_hotpatch

pytestmark = pytest.mark.live
UD2 = b"\x0f\x0b"


@pytest.mark.parametrize("where", ["new", "elsewhere"])
def test_whose_a_crash_was(program: Path, start: Callable[..., Target], where: str) -> None:
    target = start(program, "0")
    (result,) = apply([make_hotpatch(program, {"first": 2}, "target")], [target.pid], Options())
    assert result.state == "applied"
    (status,) = process_status(target.pid)
    begun = now_us()
    if where == "new":
        with Path(f"/proc/{target.pid}/mem").open("r+b", buffering=0) as memory:
            memory.seek(status.functions[0].new)
            memory.write(UD2)
        target.send("a")
    else:
        target.process.send_signal(signal.SIGSEGV)
    assert target.process.wait(10) in (-signal.SIGILL, -signal.SIGSEGV)
    traps = [trap for trap in traps_since(begun) if trap.comm == target_name(program)]
    shadows = tuple((shadow.start, shadow.end) for shadow in result.shadows)
    changed = ChangedProcess(target.pid, result.start_time_ticks, result.comm, "", shadows)
    found = [trap for trap in traps if in_new_code(trap, [changed]) == changed]
    assert [trap.what for trap in found] == (["trap invalid opcode"] if where == "new" else [])


def target_name(program: Path) -> str:
    """Return a command's name as the kernel has it."""
    return program.name[:15]
