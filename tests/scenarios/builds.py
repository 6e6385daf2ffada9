"""Compiles the two builds of a case, once per content: sources, options and compiler make the key.

The builds stay in `.cache/scenarios` below the repository, so that a second run compiles only what changed.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .catalog import HERE, Case, Variant
from .rust import is_rust, rust_command, rust_compiler

CACHE = HERE.parents[1] / ".cache" / "scenarios"
HARNESS = HERE / "harness.c"
COMPILE_SECONDS_MAX = 180
LIBRARY = "libsubject.so"
HARDENED = (
    "-fstack-protector-strong", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2", "-Wformat", "-Wl,-z,relro,-z,now",
)  # fmt: skip


VARIANT_FLAGS = {
    Variant.HARDENED: HARDENED,
    Variant.CET: ("-fcf-protection=full",),
    Variant.LTO: ("-flto",),
    Variant.CET_LTO: ("-flto", "-fcf-protection=full"),
    Variant.DEBUG: ("-g",),
}


class CompileError(Exception):
    """The compiler or linker did not do it; the message is what it said."""


@dataclass(frozen=True, slots=True)
class Build:
    """One build of a case: a directory with `program` and perhaps the library."""

    directory: Path

    @property
    def program(self) -> Path:
        """The executable."""
        return self.directory / "program"

    @property
    def library(self) -> Path:
        """The shared library."""
        return self.directory / LIBRARY

    def image(self, kind: str) -> Path:
        """`program` or `library`."""
        return self.program if kind == "program" else self.library


@dataclass(frozen=True, slots=True)
class Pair:
    """The two builds of a case."""

    old: Build
    new: Build


def run_tool(command: list[str]) -> None:
    """Run a compiler or binutil; raise with its words."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_SECONDS_MAX, check=False)
    if done.returncode != 0:
        raise CompileError(f"{' '.join(command)}\n{done.stderr}")


@functools.cache
def compiler_version(compiler: str) -> str:
    """First line of `--version`."""
    done = subprocess.run([rust_compiler(compiler), "--version"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0]


def drivers(case: Case, sources: Iterable[str]) -> tuple[str, str]:
    """The C compiler, and the driver that links `sources`: the C++ one where there is C++."""
    compiler = case.configuration.compiler
    plus = {"gcc": "g++", "clang": "clang++"}[compiler]
    return compiler, plus if any(source.endswith(".cc") for source in sources) else compiler


def common_flags(case: Case) -> list[str]:
    """Options of every compilation and link of the case."""
    configuration = case.configuration
    flags = [configuration.level, "-pthread", f"-I{HERE}", *case.scenario.compiler_flags(configuration.compiler)]
    flags += ["-fno-pie", "-no-pie"] if configuration.variant is Variant.NO_PIE else ["-fPIE", "-pie"]
    flags += VARIANT_FLAGS.get(configuration.variant, ())
    if configuration.compiler == "clang":
        flags.append("-Qunused-arguments")
    return flags


def source_paths(case: Case, names: Iterable[str], build: str) -> list[Path]:
    """Where the sources of one build are."""
    return [case.scenario.directory / name.replace("@", build) for name in names]


def cache_key(case: Case, build: str) -> str:
    """Digest of all that a build depends on."""
    scenario = case.scenario
    flags = [*common_flags(case), "|", *scenario.link, "|", *scenario.library, "|", *scenario.program, build]
    flags += [case.configuration.variant, compiler_version(case.configuration.compiler), str(scenario.loaded)]
    digest = hashlib.sha256("\0".join(flags).encode())
    inputs = [HARNESS, HARNESS.with_suffix(".h"), Path(__file__)]
    if is_rust(case.configuration.compiler):
        inputs += [HARNESS.with_suffix(".rs"), HERE / "rust.py"]
    inputs += source_paths(case, scenario.program + scenario.library, build)
    inputs += sorted(scenario.directory.glob("*.h"))
    for path in inputs:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:32]


def _compile(case: Case, source: Path, target: Path) -> None:
    _, driver = drivers(case, [source.name])
    run_tool([driver, *common_flags(case), "-c", str(source), "-o", str(target)])


def _harness_object(case: Case) -> Path:
    """The harness, compiled once for all cases with the same options."""
    inputs = [HARNESS.read_bytes(), HARNESS.with_suffix(".h").read_bytes()]
    words = [*common_flags(case), compiler_version(case.configuration.compiler)]
    digest = hashlib.sha256(b"\0".join([word.encode() for word in words] + inputs)).hexdigest()[:32]
    final = CACHE / f"harness.{digest}.o"
    if not final.exists():
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            made = Path(scratch) / "harness.o"
            _compile(case, HARNESS, made)
            made.rename(final)
    return final


def _strip(case: Case, image: Path) -> None:
    if case.configuration.variant not in (Variant.SYMBOLS, Variant.DEBUG):
        run_tool(["strip", "-s", str(image)])


def _link_library(case: Case, build: str, directory: Path) -> None:
    scenario = case.scenario
    sources = [str(path) for path in source_paths(case, scenario.library, build)]
    _, driver = drivers(case, scenario.library)
    flags = [flag for flag in common_flags(case) if flag not in ("-fPIE", "-pie", "-fno-pie", "-no-pie")]
    target = directory / LIBRARY
    run_tool([driver, *flags, "-fPIC", "-shared", *sources, "-o", str(target), "-Wl,--build-id",
              f"-Wl,-soname,{LIBRARY}", *scenario.link])  # fmt: skip
    _strip(case, target)


def _link_rust(case: Case, build: str, directory: Path) -> None:
    (source,) = source_paths(case, case.scenario.program, build)
    target = directory / "program"
    run_tool([*rust_command(case.configuration, source, target), *(("--cfg", "new") if build == "new" else ())])
    _strip(case, target)


def _link_program(case: Case, build: str, directory: Path, objects: Path) -> None:
    scenario = case.scenario
    if is_rust(case.configuration.compiler):
        _link_rust(case, build, directory)
        return
    _, driver = drivers(case, scenario.program)
    parts = [str(_harness_object(case))]
    for source in source_paths(case, scenario.program, build):
        part = objects / f"{source.stem}.o"
        _compile(case, source, part)
        parts.append(str(part))
    if scenario.library and not scenario.loaded:
        parts += [str(directory / LIBRARY), "-Wl,-rpath,$ORIGIN"]
    link = [] if scenario.library else list(scenario.link)
    target = directory / "program"
    run_tool([driver, *common_flags(case), *parts, "-o", str(target), "-Wl,--build-id", "-ldl", *link])
    _strip(case, target)


def compile_build(case: Case, build: str) -> Build:
    """Return the `old` or `new` build of a case, from the cache or made now."""
    final = CACHE / f"{case.label}.{build}.{cache_key(case, build)}"
    if final.is_dir():
        return Build(final)
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        made, objects = Path(scratch) / "made", Path(scratch) / "objects"
        made.mkdir()
        objects.mkdir()
        if case.scenario.library:
            _link_library(case, build, made)
        _link_program(case, build, made, objects)
        for stale in CACHE.glob(f"{case.label}.{build}.*"):
            if stale != final:  # that is there when another worker made the same one meanwhile, and reads it
                shutil.rmtree(stale, ignore_errors=True)
        with contextlib.suppress(OSError):  # it is there
            made.rename(final)
    if not final.is_dir():
        raise CompileError(f"{final} could not be kept")
    return Build(final)


def compile_pair(case: Case) -> Pair:
    """Return both builds of a case."""
    return Pair(compile_build(case, "old"), compile_build(case, "new"))


def compile_all(cases: Iterable[Case]) -> dict[str, Pair | CompileError]:
    """Compile every case, as many at once as there are processors; errors are kept for the tests to raise."""

    def attempt(case: Case) -> tuple[str, Pair | CompileError]:
        try:
            return case.label, compile_pair(case)
        except (CompileError, subprocess.TimeoutExpired) as error:
            return case.label, CompileError(str(error))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(pool.map(attempt, cases))
