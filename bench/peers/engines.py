"""The program and its patch as each engine wants them, and the commands that apply it.

Each needs a build of its own of the same two sources: libpulp patchable entries and a preloaded library, libcare its
compiler around gcc, upatch a section for each function. hotmend compares two ordinary builds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.peers.sources import LIBCARE, LIBPULP, SYSCARE, run, source_build

SUBJECT = Path(__file__).with_name("subject.c")
TARGET = Path(__file__).with_name("target.c")
LIBRARY = "libsubject.so"
PROGRAM = "peer-target"
RETRIES = 100
_UUID = "8f6d9b52-2b7e-4f6c-9a5d-3c1e7d0a4b11"


@dataclass(frozen=True, slots=True)
class Rig:
    """An engine, the program that it can change, and how.

    Attributes:
        name: of the engine.
        program: path.
        prefix: before the program's command.
        one: pid and seconds to wait for a safe moment -> the command that changes this process; engines that know
            no deadline take no notice of the seconds.
        all: the command that changes every process of the program; None where there is none.
        start: a command that does nothing but start, where that takes long.
    """

    name: str
    program: Path
    prefix: tuple[str, ...]
    one: Callable[[int, float], list[str]]
    all: list[str] | None = None
    start: list[str] | None = None


def _program_link(folder: Path) -> Path:
    """Link the program with the library in `folder`.

    Bound at once: where it is bound lazily, each thread's first call leaves the function's address on its stack, which
    upatch takes for a return address for ever.
    """
    options = ["-O2", "-pthread", "-Wl,-z,now", "-Wl,-rpath,$ORIGIN", "-L."]
    run(["gcc", *options, str(TARGET), "-o", PROGRAM, "-lsubject"], folder)
    return folder / PROGRAM


def hotmend_rigs(folder: Path, _: Path | None) -> list[Rig]:
    """Compare two ordinary builds."""
    for answer, name in ((1, "."), (2, "new")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        flags = ["-O2", "-fPIC", "-shared", f"-DANSWER={answer}", "-Wl,--build-id"]
        run(["gcc", *flags, str(SUBJECT), "-o", LIBRARY], folder / name)
    command = [sys.executable, "-m", "hotmend"]
    hotpatch = str(folder / "subject.hotmend")
    run([*command, "build", LIBRARY, f"new/{LIBRARY}", "-o", hotpatch], folder)
    apply = [*command, "apply", hotpatch, "--audit", str(folder / "audit.jsonl")]

    def one(pid: int, seconds: float) -> list[str]:
        return [*apply, "--deadline", str(seconds), "--pid", str(pid)]

    return [Rig("hotmend", _program_link(folder), (), one, apply, [*command, "apply", "--help"])]


def libpulp_rigs(folder: Path, prepared: Path | None) -> list[Rig]:
    """A library with patchable entries, and a second one of new functions that the first is directed to."""
    built = source_build(LIBPULP, prepared)
    ulp = str(built / "tools" / "ulp")
    flags = ["-O2", "-fPIC", "-shared", "-Wl,--build-id"]
    entries = ["-fpatchable-function-entry=16,14", "-Wl,--hash-style=sysv"]
    run(["gcc", *flags, *entries, str(SUBJECT), "-o", LIBRARY], folder)
    run([ulp, "post", LIBRARY], folder)
    names = ("version", "stays")
    renamed = [f"-D{name}={name}_new" for name in names]
    run(["gcc", *flags, "-DANSWER=2", *renamed, str(SUBJECT), "-o", "livepatch.so"], folder)
    pairs = "".join(f"{name}:{name}_new\n" for name in names)
    (folder / "patch.dsc").write_text(f"{folder}/livepatch.so\n@{folder}/{LIBRARY}\n{pairs}")
    run([ulp, "packer", "patch.dsc"], folder)
    program = _program_link(folder)
    preload = ("env", f"LD_PRELOAD={built}/lib/.libs/libpulp.so.0")
    file = f"{folder}/livepatch.so"

    def rig(name: str, *options: str) -> Rig:
        start = [ulp, "trigger", *options]
        return Rig(name, program, preload, lambda pid, _: [*start, "-p", str(pid), file], [*start, "-p", PROGRAM, file])

    return [rig("libpulp, no stack check"), rig(f"libpulp -c -r {RETRIES}", "-c", "-r", str(RETRIES))]


def libcare_rigs(folder: Path, prepared: Path | None) -> list[Rig]:
    """Both versions compiled by its compiler, which mixes their assembler; the patch is cut out of the second."""
    tools = source_build(LIBCARE, prepared) / "src"
    source = folder / "subject.c"
    for stage, answer in (("original", 1), ("patched", 2)):
        # The answer goes into the text: the two stages must be given the same command.
        source.write_text(f"#define ANSWER {answer}\n{SUBJECT.read_text()}")
        wrapped = {"KPATCH_STAGE": stage, "KPATCH_PATH": str(tools)}
        run([str(tools / "libcare-cc"), "-O2", "-fPIC", "-c", source.name, "-o", "subject.o"], folder, 60, wrapped)
        linked = [LIBRARY] if stage == "original" else ["patched.so", "-Wl,-q"]
        run(["gcc", "-shared", "-Wl,--build-id", "subject.o", "-o", *linked], folder)
    notes = run(["readelf", "-n", LIBRARY], folder)
    build_id = notes.partition("Build ID: ")[2].split()[0]
    strip = str(tools / "kpatch_strip")
    run([strip, "--strip", "patched.so", "stripped"], folder)
    run([strip, "--rel-fixup", LIBRARY, "stripped"], folder)
    # strip of binutils 2.40 leaves the relocations of sections that are gone, over which libcare-ctl stops.
    run(["strip", "--strip-unneeded", "-R", ".rela.[!k]*", "stripped"], folder)
    run([strip, "--undo-link", LIBRARY, "stripped"], folder)
    patch = f"{folder}/{build_id}.kpatch"
    run([str(tools / "kpatch_make"), "-b", build_id, "stripped", "-o", patch], folder)
    start = [str(tools / "libcare-ctl"), "patch", "-p"]
    program = _program_link(folder)
    return [Rig("libcare", program, (), lambda pid, _: [*start, str(pid), patch], [*start, "all", patch])]


def upatch_rigs(folder: Path, prepared: Path | None) -> list[Rig]:
    """Two object files with a section for each function; the changed ones become a relocatable file."""
    built = source_build(SYSCARE, prepared)
    for answer in (1, 2):
        flags = ["-O2", "-g", "-fPIC", "-ffunction-sections", "-fdata-sections", f"-DANSWER={answer}"]
        run(["gcc", *flags, "-c", str(SUBJECT), "-o", f"{answer}.o"], folder)
    run(["gcc", "-shared", "-Wl,--build-id", "1.o", "-o", LIBRARY], folder)
    differ = str(built / "upatch-diff" / "upatch-diff")
    run([differ, "-s", "1.o", "-p", "2.o", "-r", LIBRARY, "-o", "changed.o"], folder)
    patch = f"{folder}/subject.upatch"
    run(["ld", "-r", "-o", patch, "changed.o"], folder)
    manage = [str(built / "upatch-manage" / "upatch-manage"), "patch", "-U", _UUID, "-u", patch]
    manage += ["-b", f"{folder}/{LIBRARY}", "-p"]
    return [Rig("upatch", _program_link(folder), (), lambda pid, _: [*manage, str(pid)])]


ENGINES: dict[str, Callable[[Path, Path | None], list[Rig]]] = {
    "hotmend": hotmend_rigs,
    "libpulp": libpulp_rigs,
    "libcare": libcare_rigs,
    "upatch": upatch_rigs,
}
