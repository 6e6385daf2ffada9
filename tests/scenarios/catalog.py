"""Reads the scenario folders: what each `scenario.toml` says, checked, as frozen values.

A key nobody knows, a left-out configuration without a reason, or an answer missing is an error here, so that
a typing mistake cannot switch a test off.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

HERE = Path(__file__).parent
COMPILERS = ("gcc", "clang")
LEVELS = ("-O0", "-O2", "-O3")
WORKERS_BY_LEVEL = {"-O0": 0, "-O2": 2, "-O3": 4}


class Expectation(StrEnum):
    """What must come out.

    SAFE is for what the engine may do or refuse: refused is right, and so is a process that behaves right.
    """

    HOTPATCH = "hotpatch"
    REFUSED = "refused"
    NO_CHANGE = "no-change"
    SAFE = "safe"


class Flow(StrEnum):
    """What happens to the process, beyond old -> new -> old."""

    PLAIN = "plain"
    BUSY = "busy"  # refused while the changed function is active, fine afterwards; apply and revert alike
    ALWAYS_ACTIVE = "always-active"  # refused with the function's name, and nothing changed
    FORK = "fork"  # children from before and after the apply


class Variant(StrEnum):
    """How the two builds are linked; all but SYMBOLS and DEBUG are stripped."""

    PIE = "pie"
    NO_PIE = "no-pie"
    SYMBOLS = "symbols"
    HARDENED = "hardened"  # as Debian builds: fortified, stack protector, full RELRO
    CET = "cet"  # every function that may be called by pointer starts with endbr64
    LTO = "lto"
    CET_LTO = "cet-lto"
    DEBUG = "debug"  # debug information stays in
    ABORT = "abort"  # Rust: a panic ends the program
    ABORT_LTO = "abort-lto"


@dataclass(frozen=True, slots=True)
class Configuration:
    """One point of the matrix."""

    compiler: str
    level: str
    variant: Variant

    @property
    def label(self) -> str:
        """For example `gcc-O2-no-pie`; PIE goes without saying."""
        tail = "" if self.variant is Variant.PIE else f"-{self.variant}"
        return f"{self.compiler}{self.level}{tail}"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One folder.

    Attributes:
        name: of the folder.
        description: one line.
        expect: what must come out.
        old, new: the answers of the two builds.
        reverted: the answer after revert; the old one unless state was made to stay.
        codes: reason codes that are right for a refusal; empty when nothing may be refused.
        beside: reason codes that may stand beside a right one, but not alone.
        stage: `build` or `apply`, where a refusal has to come from.
        subject: name that a refusal must mention (checked where symbols are left in).
        flow: see `Flow`.
        workers: threads that ask all the time beside the main thread; None means by level.
        program, library: sources; `@` stands for `old` or `new`. Without library, the program is the image.
        loaded: the library is handed to the program to dlopen() instead of linked.
        images: which of `program` and `library` the hotpatch is made for.
        flags: more compiler options; `flags_gcc`, `flags_clang` for one of them.
        link: more linker options.
        variants: more variants than PIE; built at -O2 only.
        partial: a partial hotpatch is asked for.
        gap: why the engine does not do this right yet; the case has to fail as long as this stands here.
        directory: where the sources are.
    """

    name: str
    description: str
    expect: Expectation
    old: str
    new: str
    reverted: str
    directory: Path
    codes: frozenset[str] = frozenset()
    beside: frozenset[str] = frozenset()
    stage: str = "build"
    subject: str = ""
    flow: Flow = Flow.PLAIN
    workers: int | None = None
    program: tuple[str, ...] = ("@.c",)
    library: tuple[str, ...] = ()
    loaded: bool = False
    images: tuple[str, ...] = ("program",)
    flags: tuple[str, ...] = ()
    flags_gcc: tuple[str, ...] = ()
    flags_clang: tuple[str, ...] = ()
    link: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = ()
    partial: bool = False
    gap: str = ""

    def compiler_flags(self, compiler: str) -> tuple[str, ...]:
        """The scenario's own options for `compiler`."""
        return self.flags + (self.flags_gcc if compiler == "gcc" else self.flags_clang)

    def worker_count(self, level: str) -> int:
        """How many threads ask all the time."""
        return WORKERS_BY_LEVEL[level] if self.workers is None else self.workers


@dataclass(frozen=True, slots=True)
class Case:
    """A scenario in one configuration, with what `[[where]]` tables changed for it."""

    scenario: Scenario
    configuration: Configuration

    @property
    def label(self) -> str:
        """The test's id."""
        return f"{self.scenario.name}-{self.configuration.label}"


class CatalogError(Exception):
    """A `scenario.toml` is wrong."""


_PLAIN_KEYS = {
    "description", "old", "new", "reverted", "stage", "subject", "workers", "loaded", "partial",
}  # fmt: skip
_LIST_KEYS = {"program", "library", "images", "flags", "flags_gcc", "flags_clang", "link"}
_OTHER_KEYS = {"expect", "codes", "beside", "flow", "variants", "where"}
_WHERE_KEYS = {"compiler", "level", "variant", "expect", "codes", "stage", "skip", "gap", "because"}


def read_scenario(directory: Path) -> tuple[Scenario, list[Mapping[str, object]]]:
    """Return the scenario in `directory` and its `[[where]]` tables."""
    table = tomllib.loads((directory / "scenario.toml").read_text())
    unknown = table.keys() - _PLAIN_KEYS - _LIST_KEYS - _OTHER_KEYS
    if unknown:
        raise CatalogError(f"{directory.name}: unknown keys {sorted(unknown)}")
    fields: dict[str, object] = {key: table[key] for key in _PLAIN_KEYS & table.keys()}
    fields |= {key: tuple(table[key]) for key in _LIST_KEYS & table.keys()}
    fields.setdefault("reverted", table["old"])
    if table.get("library") and "images" not in table:
        fields["images"] = ("library",)
    scenario = Scenario(
        name=directory.name,
        directory=directory,
        expect=Expectation(table["expect"]),
        codes=frozenset(table.get("codes", ())),
        beside=frozenset(table.get("beside", ())),
        flow=Flow(table.get("flow", "plain")),
        variants=tuple(Variant(name) for name in table.get("variants", ())),
        **fields,  # type: ignore[arg-type]
    )
    check_scenario(scenario)
    return scenario, list(table.get("where", ()))


def check_scenario(scenario: Scenario) -> None:
    """Raise where the parts of a scenario contradict each other."""
    refusable = scenario.expect in (Expectation.REFUSED, Expectation.SAFE) or scenario.flow in (
        Flow.BUSY,
        Flow.ALWAYS_ACTIVE,
    )
    if refusable != bool(scenario.codes):
        raise CatalogError(f"{scenario.name}: codes belong to refusals, and to nothing else")
    if scenario.expect is not Expectation.NO_CHANGE and scenario.old == scenario.new:
        raise CatalogError(f"{scenario.name}: old and new answer the same, nothing can be told")
    if "\n" in scenario.description or not scenario.description:
        raise CatalogError(f"{scenario.name}: the description is one line")


def _applies(where: Mapping[str, object], configuration: Configuration) -> bool:
    return (
        where.get("compiler", configuration.compiler) == configuration.compiler
        and where.get("level", configuration.level) == configuration.level
        and where.get("variant", configuration.variant) == configuration.variant
    )


def _narrow(scenario: Scenario, where: Mapping[str, object]) -> Scenario | None:
    """Return the scenario as `where` has it, or None where it leaves the configuration out."""
    if where.keys() - _WHERE_KEYS or not where.get("because"):
        raise CatalogError(f"{scenario.name}: a [[where]] has a reason and known keys: {dict(where)}")
    if where.get("skip"):
        return None
    changes: dict[str, object] = {}
    if "expect" in where:
        changes["expect"] = Expectation(str(where["expect"]))
        changes["codes"] = frozenset()
    if "codes" in where:
        changes["codes"] = frozenset(where["codes"])  # type: ignore[call-overload]
    if "stage" in where:
        changes["stage"] = where["stage"]
    if where.get("gap"):
        changes["gap"] = where["because"]
    return replace(scenario, **changes)  # type: ignore[arg-type]


def configurations(scenario: Scenario) -> list[Configuration]:
    """Every point of the matrix a scenario is built at, before `[[where]]`."""
    plain = [Configuration(c, level, Variant.PIE) for c in COMPILERS for level in LEVELS]
    return plain + [Configuration(c, "-O2", v) for v in scenario.variants for c in COMPILERS]


def cases_of(directory: Path) -> list[Case]:
    """Return the cases of one folder."""
    scenario, wheres = read_scenario(directory)
    cases = []
    for configuration in configurations(scenario):
        narrowed: Scenario | None = scenario
        for where in wheres:
            if narrowed is not None and _applies(where, configuration):
                narrowed = _narrow(narrowed, where)
        if narrowed is not None:
            check_scenario(narrowed)
            cases.append(Case(narrowed, configuration))
    return cases


def all_cases(root: Path = HERE) -> list[Case]:
    """Return every case of every folder, sorted by folder."""
    folders = sorted(path.parent for path in root.glob("*/scenario.toml"))
    return [case for folder in folders for case in cases_of(folder)]
