"""The configurations of the sweep, and how a pair becomes a case that the scenarios' compiler understands."""

from __future__ import annotations

import itertools
from pathlib import Path

from pairs.catalog import PairCase
from tests.scenarios.builds import CACHE
from tests.scenarios.catalog import HERE as SCENARIOS
from tests.scenarios.catalog import Case, Configuration, Expectation, Scenario, Variant
from tests.scenarios.rust import RUST_COMPILERS, is_rust

LEVELS = ("-O0", "-O1", "-O2", "-O3", "-Os")
C_COMPILERS = ("gcc", "clang")
AS_DEBIAN = "gcc-O2-hardened"
RUST_AS_DEBIAN = "rustc-O2"
SOURCES = CACHE.parent / "pairs"
PRELUDE = Path(__file__).with_name("prelude.h")


def c_configurations() -> list[Configuration]:
    """Every level with and without CET, LTO with and without CET, and how distributions link."""
    points = [(level, variant) for level in LEVELS for variant in (Variant.PIE, Variant.CET)]
    points += [("-O2", v) for v in (Variant.LTO, Variant.CET_LTO, Variant.HARDENED, Variant.NO_PIE, Variant.DEBUG)]
    return [Configuration(c, level, variant) for c in C_COMPILERS for level, variant in points]


def rust_configurations() -> list[Configuration]:
    """Every level; unwinding and aborting panics, each with and without LTO. rustc makes no CET code."""
    points = [(level, Variant.PIE) for level in LEVELS]
    points += [("-O2", v) for v in (Variant.LTO, Variant.ABORT, Variant.ABORT_LTO, Variant.DEBUG)]
    return [Configuration(c, level, variant) for c in RUST_COMPILERS for level, variant in points]


def all_configurations() -> list[Configuration]:
    """The whole matrix."""
    return [*c_configurations(), *rust_configurations()]


def fits(pair: PairCase, configuration: Configuration) -> bool:
    """Whether the configuration's compiler is one of the pair's language."""
    return is_rust(configuration.compiler) == (pair.suffix == ".rs")


def tasks(pairs: list[PairCase], configurations: list[Configuration]) -> list[tuple[PairCase, Configuration]]:
    """Every pair at every configuration of its language, configuration by configuration."""
    return [(p, c) for c, p in itertools.product(configurations, pairs) if fits(p, c)]


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}.scratch")
        scratch.write_text(text)
        scratch.rename(path)


AGAIN = """
/* What setup() calls can be called at any time: nothing but the pairs about start-up rests on its running once. */
void hold(void) { setup(); }
"""


def write_sources(pair: PairCase) -> Path:
    """Write both builds' sources and return their folder."""
    folder = SOURCES / pair.name
    if pair.suffix == ".rs":
        text = pair.program + (SCENARIOS / "harness.rs").read_text()
        for build in ("old", "new"):
            _write(folder / build / "program.rs", text)
        return folder
    again = AGAIN if "void setup(void)" in pair.program and pair.family != "start" else ""
    for part, text in (("program", pair.program + again), ("library", pair.library)):
        for build, define in (("old", ""), ("new", "#define NEW 1\n")):
            _write(
                folder / build / f"{part}{pair.suffix}",
                f"#define {part.upper()} 1\n{define}{PRELUDE.read_text()}{text}",
            )
    return folder


def case_of(pair: PairCase, configuration: Configuration, old: str = "", new: str = "") -> Case:
    """Return the pair as a case of the scenarios; `old` and `new` are the answers, once they are known."""
    scenario = Scenario(
        name=f"pair-{pair.name}",
        description=pair.says,
        expect=Expectation.HOTPATCH,
        old=old,
        new=new,
        reverted=old,
        directory=write_sources(pair),
        program=(f"@/program{pair.suffix}",),
        library=(f"@/library{pair.suffix}",) if pair.library else (),
        images=("library",) if pair.library else ("program",),
        flags=() if pair.suffix == ".rs" else ("-w", *pair.flags),
        workers=0,
    )
    return Case(scenario, configuration)
