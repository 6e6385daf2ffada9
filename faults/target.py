"""The target of the sweeps: compiled once, started as often as needed, asked how it is."""

from __future__ import annotations

import secrets
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from hotmend.diff.pipeline import compare
from hotmend.image.elf import read_image
from hotmend.linux import procfs
from hotmend.model.hotpatch import Hotpatch
from tests.live.conftest import Target
from tests.live.handmade import compile_target, make_hotpatch

FOLDER = Path(__file__).parent
LAZY_SOURCE = FOLDER.parent / "tests" / "live" / "lazy.c"
_LAZY_CODES = {"35 605 3": "old", "36 -1 3": "new"}
_LAZY_HELD = "65"
"""What an invocation answers that began in old code."""

_FUNCTIONS = 8
_LEFT = 7
"""Which answer, in the order of the target's, the later update leaves as it was."""
_ALIVE_SECONDS = 10.0
_ROUNDS = 2
"""The first may have begun before we asked."""


@dataclass(frozen=True, slots=True)
class Program:
    """An executable with a library of its own, and updates for both: two hotpatches, one switch.

    Attributes:
        path: of the executable.
        hotpatches: the update.
        later: another one for the same builds, which leaves one function as it was in them.
        lazy: threads stay inside the function that changes; it is changed by `--consistency lazy`.
    """

    path: Path
    hotpatches: tuple[Hotpatch, ...]
    later: tuple[Hotpatch, ...]
    lazy: bool = False


@dataclass(frozen=True, slots=True)
class Health:
    """What the target says of itself.

    Attributes:
        code: `old`, `new`, `later`, `half`, or `dead`.
        changes: most changes of the answer that one thread has seen since it was asked last.
        wrong: answers that neither build gives, or sums that came out wrong.
        interrupted: calls that returned EINTR.
    """

    code: str
    changes: int = 0
    wrong: int = 0
    interrupted: int = 0


def program_make(folder: Path) -> Program:
    """Compile both images and make their hotpatches; every run has build-ids of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    library = compile_target(FOLDER / "library.c", folder / "libtarget.so", "-shared", "-fPIC", _build_id())
    link = ("-L" + str(folder), "-ltarget", f"-Wl,-rpath,{folder}", _build_id())
    path = compile_target(FOLDER / "target.c", folder / "target", *link)
    updates = []
    for build in (2, 3):
        answers = {f"f{n}": build for n in range(_FUNCTIONS) if build == 2 or n != _LEFT} | {"outer": build}
        others = {f"g{n}": build for n in range(_FUNCTIONS)}
        updates.append((make_hotpatch(path, answers), make_hotpatch(library, others)))
    return Program(path, updates[0], updates[1])


def throwing_make(folder: Path) -> Program:
    """Compile the target in C++ in both builds and compare them: its hotpatch has frame descriptions of its own.

    There is no later update: `replace` and `give-way` cannot be swept.

    Raises:
        RuntimeError: the two builds make no hotpatch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "throwing-1", folder / "throwing-2"]
    for answer, path in enumerate(paths, 1):
        flags = ("-O2", "-pthread", f"-DANSWER={answer}", _build_id())
        subprocess.run(["g++", *flags, "-o", str(path), str(FOLDER / "throwing.cc")], check=True)
    outcome = compare(read_image(paths[0]), read_image(paths[1]))
    if outcome.hotpatch is None or outcome.hotpatch.unwinding is None:
        raise RuntimeError("; ".join(reason.sentence for reason in outcome.reasons) or "it has no frame descriptions")
    return Program(paths[0], (outcome.hotpatch,), ())


def lazy_make(folder: Path) -> Program:
    """Compile the target whose threads stay in old code in both builds and compare them.

    Raises:
        RuntimeError: the two builds make no hotpatch that is proven to let them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "lazy-0", folder / "lazy-1"]
    for version, path in enumerate(paths):
        flags = ("-O2", "-pthread", f"-DVERSION={version}", _build_id())
        subprocess.run(["gcc", *flags, "-o", str(path), str(LAZY_SOURCE)], check=True)
    outcome = compare(read_image(paths[0]), read_image(paths[1]))
    lazy = None if outcome.hotpatch is None else outcome.hotpatch.lazy
    if outcome.hotpatch is None or lazy is None or not lazy.proven:
        raise RuntimeError("; ".join(reason.sentence for reason in outcome.reasons) or "it is not proven")
    return Program(paths[0], (outcome.hotpatch,), (), lazy=True)


def _build_id() -> str:
    return f"-Wl,--build-id=0x{secrets.token_hex(20)}"


def target_start(program: Program, threads: int) -> Target:
    """Start one."""
    target = Target(program.path, str(threads))
    if program.lazy:
        for _ in range(threads):
            target.ask("h")
    return target


def guest_changes(target: Target) -> bool:
    """Let a thread end that was in old code all the time, and another begin; tell whether it gave the old answer."""
    answer = target.ask("r")
    target.ask("h")
    return answer == _LAZY_HELD


def health_of(target: Target, *, lazy: bool = False) -> Health:
    """Ask the target until every thread has begun and ended a round since we began to ask; else it is `dead`."""
    if lazy:
        try:
            answer = target.ask("a")
        except OSError:
            return Health("dead")
        return Health(_LAZY_CODES.get(answer, "half" if answer else "dead"))
    began = time.monotonic()
    wrong = interrupted = 0
    changes: list[int] = []
    rounds = None
    seen: set[str] = set()
    while True:
        try:
            answers = [int(word) for word in target.ask("a").split()]
            words = [int(word) for word in target.ask("c").split()]
        except (OSError, ValueError):
            return Health("dead")
        if not answers or len(words) < 5 or target.process.poll() is not None:
            return Health("dead")
        seen.add(_code(answers))
        wrong, interrupted = wrong + words[0] + words[2], interrupted + words[1]
        changes = [old + new for old, new in zip(changes or [0] * len(words[4:]), words[4:], strict=True)]
        rounds = 0 if rounds is None else rounds + words[3]  # the first answer is about the time before
        if rounds >= _ROUNDS:
            break
        if time.monotonic() - began > _ALIVE_SECONDS:
            return Health("dead", max(changes), wrong, interrupted)
        time.sleep(0.005)
    return Health(seen.pop() if len(seen) == 1 else "half", max(changes), wrong, interrupted)


def _code(answers: list[int]) -> str:
    """Return which build the answers of all functions are of."""
    left, *others = answers[_LEFT], *answers[:_LEFT], *answers[_LEFT + 1 :]
    codes = {(1, 1): "old", (2, 2): "new", (1, 3): "later"}
    return codes.get((left, others[0]), "half") if len(set(others)) == 1 else "half"


def stands_still(target: Target) -> bool:
    """Tell whether a tracer holds one of its threads."""
    return any(procfs.read_thread_stat(target.pid, tid).state == "t" for tid in procfs.list_threads(target.pid))
