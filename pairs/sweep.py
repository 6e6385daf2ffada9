"""Judges pairs: compile, compare, and prove what can be proven; one result for each pair and configuration."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from hotmend.model.verdict import Verdict
from pairs.catalog import Class, PairCase
from pairs.matrix import case_of
from pairs.proof import native_answer, prove_harm, prove_live, prove_part
from tests.scenarios.builds import CompileError, Pair, compile_pair, run_tool
from tests.scenarios.catalog import Case, Configuration
from tests.scenarios.engine import Built, Engine, HotmendEngine, refusals


class Outcome(StrEnum):
    """What came out for one pair at one configuration."""

    REFUSED = "refused"  # dangerous: right; undecidable: caught all the same
    PASSED = "passed"  # dangerous: DEFECT; undecidable: what the docs say
    LIVE = "live"  # harmless: accepted, and proven in a process; dangerous: what passed was shown to do no harm
    ACCEPTED = "accepted"  # harmless: accepted, no proof was asked for
    BROKEN = "broken"  # harmless: accepted, and the process went wrong: DEFECT
    FALSE_ALARM = "false alarm"  # harmless, and refused
    NO_CHANGE = "no change"  # the compiler made one code of both builds, and they behave alike
    BROKEN_PART = "broken part"  # dangerous and refused, but what `--partial` makes of it breaks the process: DEFECT
    MISSED = "missed"  # the builds behave differently, and "no change" was said: DEFECT
    CRASHED = "crashed"  # the comparison raised: DEFECT
    NOT_BUILT = "not built"  # the compiler or the program itself failed: a DEFECT of the pair


DEFECTS = frozenset({Outcome.BROKEN, Outcome.BROKEN_PART, Outcome.MISSED, Outcome.CRASHED, Outcome.NOT_BUILT})


@dataclass(frozen=True, slots=True)
class Result:
    """One pair at one configuration.

    Attributes:
        pair, configuration: their names.
        kind: class of the pair.
        outcome: what came out.
        codes: of the refusals, sorted.
        harm: whether blindly applied code was seen to do harm; None where that was not tried.
        note: what there is to say about it.
        old, new: the two images.
    """

    pair: str
    configuration: str
    kind: Class
    outcome: Outcome
    codes: tuple[str, ...] = ()
    harm: bool | None = None
    note: str = ""
    old: str = ""
    new: str = ""

    @property
    def defect(self) -> bool:
        """Whether the engine, or the pair, has to be mended."""
        return self.outcome in DEFECTS or (self.kind is Class.DANGEROUS and self.outcome is Outcome.PASSED)


@dataclass(frozen=True, slots=True)
class Proofs:
    """Which proofs are made in running processes (they need root)."""

    live: bool = True
    harm: bool = True


def judge_pair(pair: PairCase, configuration: Configuration, proofs: Proofs, engine: Engine | None = None) -> Result:
    """Compile one pair, ask the engine, prove."""
    case = case_of(pair, configuration)

    def result(outcome: Outcome, note: str = "", built: Built | None = None, harm: bool | None = None) -> Result:
        codes = tuple(sorted({reason.code for reason in refusals(built.reasons)})) if built else ()
        images = [str(build.image(case.scenario.images[0])) for build in (made.old, made.new)] if made else ["", ""]
        return Result(pair.name, configuration.label, pair.kind, outcome, codes, harm, note, *images)

    made: Pair | None = None
    try:
        made = compile_pair(case)
        old, new = native_answer(made.old.program), native_answer(made.new.program)
    except (CompileError, AssertionError, subprocess.TimeoutExpired) as error:
        return result(Outcome.NOT_BUILT, str(error))
    try:
        built = (engine or HotmendEngine()).build(
            [(made.old.image(k), made.new.image(k)) for k in case.scenario.images]
        )
    except Exception as error:  # noqa: BLE001 - whatever it raises is a defect to show
        return result(Outcome.CRASHED, f"{type(error).__name__}: {error}")
    if built.verdict is Verdict.NO_CHANGE:
        outcome, note = _unchanged(case, made, old, new, pair.kind)
        return result(outcome, note, built)
    if pair.kind is Class.HARMLESS:
        return result(*_harmless(case_of(pair, configuration, old, new), made, built, proofs), built)
    outcome = Outcome.PASSED if built.patches else Outcome.REFUSED
    if outcome is Outcome.REFUSED and pair.kind is Class.DANGEROUS and proofs.live:
        went_wrong = prove_part(case, made, old, new)
        if went_wrong:
            return result(Outcome.BROKEN_PART, went_wrong, built)
    if not proofs.harm:
        return result(outcome, "", built)
    harm = prove_harm(case, made, new)
    if pair.kind is Class.DANGEROUS and outcome is Outcome.PASSED and not harm.proven:
        # A compiler may leave nothing of the danger; that is believed where the process shows it.
        outcome, note = _harmless(case_of(pair, configuration, old, new), made, built, proofs)
        if outcome is Outcome.LIVE:
            return result(outcome, f"does no harm in this configuration: {harm.said!r}", built, harm.proven)
        return result(Outcome.PASSED, note, built, harm.proven)
    return result(outcome, f"right {new!r}, blindly applied {harm.said!r}", built, harm.proven)


def _harmless(case: Case, made: Pair, built: Built, proofs: Proofs) -> tuple[Outcome, str]:
    if not built.patches:
        return Outcome.FALSE_ALARM, "; ".join(
            f"{r.code}: {r.sentence} {r.subjects[:2]}" for r in refusals(built.reasons)
        )
    if not proofs.live:
        return Outcome.ACCEPTED, ""
    went_wrong = prove_live(case, made, built)
    return (Outcome.BROKEN, went_wrong) if went_wrong else (Outcome.LIVE, "")


def _unchanged(case: Case, made: Pair, old: str, new: str, kind: Class) -> tuple[Outcome, str]:
    """`no change` is believed where both builds are equal, or harmless and alike in what they do."""
    if old != new:
        return Outcome.MISSED, f"the old build answers {old!r}, the new one {new!r}"
    image = case.scenario.images[0]
    if contents(made.old.image(image)) == contents(made.new.image(image)):
        return Outcome.NO_CHANGE, "the compiler made the two builds equal"
    outcome = Outcome.NO_CHANGE if kind is Class.HARMLESS else Outcome.MISSED
    return outcome, f"the builds differ, and both answer {old!r}"


def contents(image: Path) -> bytes:
    """Return all of an image but its build-id and what stripping removes."""
    target = image.with_name(f"{image.name}.without-id")
    run_tool(["objcopy", "--strip-all", "--remove-section=.note.gnu.build-id", str(image), str(target)])
    try:
        return target.read_bytes()
    finally:
        target.unlink()


def _judge_task(task: tuple[PairCase, Configuration, Proofs]) -> Result:
    return judge_pair(*task)


def sweep(tasks: list[tuple[PairCase, Configuration]], proofs: Proofs, jobs: int) -> Iterator[Result]:
    """Yield the result of every task, in order, made by `jobs` processes."""
    work = [(pair, configuration, proofs) for pair, configuration in tasks]
    if jobs == 1:
        yield from map(_judge_task, work)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(_judge_task, work, chunksize=1)
