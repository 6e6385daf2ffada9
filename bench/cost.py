"""What new code costs afterwards: a call of a redirected function beside one that was never touched."""

from __future__ import annotations

import os
import secrets
import statistics
from collections.abc import Iterator
from pathlib import Path

from bench.report import Figure
from hotmend.live.driver import Options, apply, revert
from hotmend.model.errors import HotmendError
from tests.live.conftest import Target
from tests.live.handmade import compile_target, make_hotpatch

SOURCE = Path(__file__).with_name("cost.c")
_ROUNDS = 7


def cost_measure(folder: Path) -> Iterator[Figure]:
    """Yield nanoseconds for each call: untouched, redirected, and taken back."""
    folder.mkdir(parents=True, exist_ok=True)
    program = compile_target(SOURCE, folder / "cost", f"-Wl,--build-id=0x{secrets.token_hex(20)}")
    hotpatch = make_hotpatch(program, {"first": 2, "second": 2})
    taken: dict[str, list[float]] = {"untouched": [], "redirected": [], "taken back": []}
    for _ in range(_ROUNDS):
        target = Target(program)
        try:
            taken["untouched"].append(float(target.ask("t")))
            _sure(apply([hotpatch], [target.pid], Options())[0].state == "applied" and target.ask("a") == "2 2")
            taken["redirected"].append(float(target.ask("t")))
            _sure(revert(None, [target.pid], Options())[0].state == "reverted")
            taken["taken back"].append(float(target.ask("t")))
        finally:
            target.close()
    before = statistics.median(taken["untouched"])
    for name, values in taken.items():
        note = f"median of {_ROUNDS} processes, {min(values):.2f} to {max(values):.2f}; load {os.getloadavg()[0]:.1f}"
        yield Figure("Cost of a call", name, statistics.median(values), "ns", before, "untouched", note)


def _sure(done: bool) -> None:
    if not done:
        raise HotmendError("the target could not be changed there and back")
