"""What new code costs afterwards: a call, an exception and a backtrace through it, beside those never touched."""

from __future__ import annotations

import os
import secrets
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path

from bench.report import Figure
from hotmend.diff.pipeline import compare
from hotmend.image.elf import read_image
from hotmend.live.driver import Options, apply, revert
from hotmend.model.errors import HotmendError
from hotmend.model.hotpatch import Hotpatch
from tests.live.conftest import Target
from tests.live.handmade import compile_target, make_hotpatch

SOURCE = Path(__file__).with_name("cost.c")
UNWINDING_SOURCE = Path(__file__).with_name("cost_unwinding.cc")
_ROUNDS = 7
_STAGES = ("untouched", "redirected", "taken back")


def cost_measure(folder: Path) -> Iterator[Figure]:
    """Yield nanoseconds for each call, exception and backtrace: untouched, redirected, and taken back."""
    folder.mkdir(parents=True, exist_ok=True)
    program = compile_target(SOURCE, folder / "cost", _build_id())
    hotpatch = make_hotpatch(program, {"first": 2, "second": 2})
    calls = _taken(program, hotpatch, ("t",), "2 2")
    yield from _figures("Cost of a call", calls["t"], "ns")
    program, hotpatch = _throwing(folder)
    through = _taken(program, hotpatch, ("e", "b", "d"), "2")
    yield from _figures("Cost of an exception through it", through["e"], "ns")
    yield from _figures("Cost of a backtrace through it", through["b"], "ns")
    yield from _figures("Depth of that backtrace", through["d"], "frames")


def _throwing(folder: Path) -> tuple[Path, Hotpatch]:
    """Compile the program whose new code is unwound through in both builds; return the old one and the hotpatch."""
    paths = [folder / "unwinding-1", folder / "unwinding-2"]
    for answer, path in enumerate(paths, 1):
        flags = ("-O2", f"-DANSWER={answer}", _build_id())
        subprocess.run(["g++", *flags, "-o", str(path), str(UNWINDING_SOURCE)], check=True)
    outcome = compare(read_image(paths[0]), read_image(paths[1]))
    if outcome.hotpatch is None or outcome.hotpatch.unwinding is None:
        raise HotmendError("; ".join(reason.sentence for reason in outcome.reasons) or "it has no frame descriptions")
    return paths[0], outcome.hotpatch


def _taken(program: Path, hotpatch: Hotpatch, questions: tuple[str, ...], changed: str) -> dict[str, list[list[float]]]:
    """Ask processes of a program; return what each question was answered in each stage, one number for each process."""
    taken: dict[str, list[list[float]]] = {question: [[], [], []] for question in questions}
    for _ in range(_ROUNDS):
        target = Target(program)
        pids = [target.pid]
        try:
            for stage, name in enumerate(_STAGES):
                if name == "redirected":
                    _sure(apply([hotpatch], pids, Options())[0].state == "applied" and target.ask("a") == changed)
                elif name == "taken back":
                    _sure(revert(None, pids, Options())[0].state == "reverted")
                for question, answers in taken.items():
                    answers[stage].append(float(target.ask(question)))
        finally:
            target.close()
    return taken


def _sure(done: bool) -> None:
    if not done:
        raise HotmendError("the target could not be changed there and back")


def _figures(section: str, taken: list[list[float]], unit: str) -> Iterator[Figure]:
    before = statistics.median(taken[0])
    for name, values in zip(_STAGES, taken, strict=True):
        note = f"median of {_ROUNDS} processes, {min(values):.2f} to {max(values):.2f}; load {os.getloadavg()[0]:.1f}"
        yield Figure(section, name, statistics.median(values), unit, before, "untouched", note)


def _build_id() -> str:
    return f"-Wl,--build-id=0x{secrets.token_hex(20)}"
