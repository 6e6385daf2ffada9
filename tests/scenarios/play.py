"""Plays a case: what is built, what happens to the running process, and what it must answer all the time.

A wrong engine ends in an AssertionError here; `test_runner.py` shows that with engines that are wrong on purpose.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Protocol

import pytest

from hotmend.model.verdict import Reason

from .builds import Pair
from .catalog import Case, Expectation, Flow, Scenario, Variant
from .engine import Built, Engine, refusals
from .target import Target

ASKS = 12
BUSY_SECONDS = 0.4
DEADLINE_SECONDS = 20.0


class Answered(Protocol):
    """What was answered to workers."""

    def seen(self) -> list[list[str]]:
        """One list for each; what was answered again and again stands there twice."""


def check_native(case: Case, pair: Pair) -> None:
    """Each build answers as declared, without any engine."""
    workers = case.scenario.worker_count(case.configuration.level)
    for build, declared in ((pair.old, case.scenario.old), (pair.new, case.scenario.new)):
        with Target(build.program, workers) as target:
            expect_answers(target, declared)
            expect_seen(target, [declared])
            target.quit()


def expect_answers(target: Target, expected: str, prefix: str = "") -> None:
    """The main thread answers `expected`, and nothing else, many times."""
    for _ in range(ASKS):
        answer = target.say(f"{prefix}ask")
        assert answer == expected, f"answered {answer!r}, expected {expected!r}"


def expect_seen(target: Answered, history: Sequence[str]) -> None:
    """No worker was ever answered anything but `history`, in this order.

    The code that puts an answer together does not change: a switch may fall between two of its calls, and that one
    answer is part old and part new. A second one like it means that the process stayed half changed.
    """
    expected = [answer for answer, _ in groupby(history)]
    for seen in target.seen():
        runs = [(answer, len(list(times))) for answer, times in groupby(seen)]
        torn = {
            i
            for i in range(1, len(runs) - 1)
            if runs[i][1] == 1 and is_torn(runs[i - 1][0].split(), runs[i][0].split(), runs[i + 1][0].split())
        }
        whole = [answer for i, (answer, _) in enumerate(runs) if i not in torn]
        assert whole == expected, f"a worker was answered {seen}, expected {expected}"


def is_torn(before: Sequence[str], words: Sequence[str], after: Sequence[str]) -> bool:
    """Whether `words` begin as one and end as the other; compilers evaluate arguments from either end."""
    return words not in (before, after) and any(
        words in ([*before[:cut], *after[cut:]], [*after[:cut], *before[cut:]]) for cut in range(1, len(words))
    )


def check_reasons(reasons: Sequence[Reason], scenario: Scenario, *, named: bool) -> None:
    """A refusal has a declared code, beside it only what may stand there, and names the subject where symbols allow."""
    stopping = refusals(reasons)
    assert stopping, "refused without a reason"
    codes = {reason.code for reason in stopping}
    right = bool(codes & scenario.codes) and codes <= scenario.codes | scenario.beside
    assert right, f"refused for {sorted(codes)}, not for {sorted(scenario.codes)}: {stopping}"
    assert all(reason.sentence for reason in stopping)
    if scenario.subject and named:
        text = " ".join(part for reason in stopping for part in (reason.sentence, *reason.subjects))
        assert scenario.subject in text, f"{scenario.subject} is not named in {stopping}"


def gap_marks(case: Case) -> list[pytest.MarkDecorator]:
    """A known gap has to fail, by a wrong answer or refusal: an error of another kind is none, and success is news."""
    if not case.scenario.gap:
        return []
    return [pytest.mark.xfail(reason=f"known gap: {case.scenario.gap}", raises=AssertionError, strict=True)]


def build_case(case: Case, pair: Pair, engine: Engine) -> Built:
    """Let the engine compare the images of the case."""
    images = [(pair.old.image(kind), pair.new.image(kind)) for kind in case.scenario.images]
    return engine.build(images, partial=case.scenario.partial)


def play(case: Case, pair: Pair, engine: Engine) -> None:
    """Play the whole case."""
    scenario = case.scenario
    built = build_case(case, pair, engine)
    stopped = refusals(built.reasons)
    if scenario.expect is Expectation.NO_CHANGE:
        assert (stopped, built.patches) == ((), ()), f"expected no change, got {built.verdict}: {built.reasons}"
        return
    if scenario.expect is Expectation.REFUSED and scenario.stage == "build":
        assert not built.patches, f"expected a refusal, got {built.verdict}"
        check_reasons(built.reasons, scenario, named=case.configuration.variant is Variant.SYMBOLS)
        return
    if scenario.expect is Expectation.SAFE and not built.patches:
        check_reasons(built.reasons, scenario, named=False)
        return
    assert built.patches, f"expected a hotpatch, got {built.verdict}: {built.reasons}"
    FLOWS[scenario.flow](case, pair, engine, built)


def play_plain(case: Case, pair: Pair, engine: Engine, built: Built) -> None:
    """Old answer, apply, new answer, revert, old answer; and once more."""
    scenario = case.scenario
    with Target(pair.old.program, scenario.worker_count(case.configuration.level)) as target:
        expect_answers(target, scenario.old)
        expect_seen(target, [scenario.old])
        reasons = engine.apply(built, target.pid, DEADLINE_SECONDS)
        if reasons and (scenario.expect is Expectation.SAFE or scenario.stage == "apply"):
            check_reasons(reasons, scenario, named=case.configuration.variant is Variant.SYMBOLS)
            expect_answers(target, scenario.old)
            expect_seen(target, [scenario.old])
            target.quit()
            return
        assert not reasons, f"apply refused: {reasons}"
        assert scenario.expect is not Expectation.REFUSED, "applied what must be refused"
        history = [scenario.old, scenario.new, scenario.reverted]
        expect_answers(target, scenario.new)
        expect_seen(target, history[:2])
        revert(built, target, engine, scenario.reverted)
        expect_seen(target, history)
        if scenario.reverted == scenario.old:
            again(built, target, engine, scenario)
        target.quit()


def revert(built: Built, target: Target, engine: Engine, answer: str) -> None:
    """Take the patch back and see the answer."""
    reasons = engine.revert(built, target.pid, DEADLINE_SECONDS)
    assert not reasons, f"revert refused: {reasons}"
    expect_answers(target, answer)


def again(built: Built, target: Target, engine: Engine, scenario: Scenario) -> None:
    """Apply and revert a second time: shadows are reused, the result is the same."""
    reasons = engine.apply(built, target.pid, DEADLINE_SECONDS)
    assert not reasons, f"the second apply refused: {reasons}"
    expect_answers(target, scenario.new)
    revert(built, target, engine, scenario.old)


def play_busy(case: Case, pair: Pair, engine: Engine, built: Built) -> None:
    """Refused while the function is active, done afterwards; the same for the revert."""
    scenario = case.scenario
    named = case.configuration.variant is Variant.SYMBOLS
    with Target(pair.old.program) as target:
        expect_answers(target, scenario.old)
        assert target.say("hold") == "held"
        reasons = engine.apply(built, target.pid, BUSY_SECONDS)
        check_reasons(reasons, scenario, named=named)
        expect_answers(target, scenario.old)
        assert target.say("release") == "released"
        reasons = engine.apply(built, target.pid, DEADLINE_SECONDS)
        if reasons and scenario.expect is Expectation.SAFE:
            check_reasons(reasons, scenario, named=named)
            expect_answers(target, scenario.old)
            target.quit()
            return
        assert not reasons, f"nothing is active any more, yet refused: {reasons}"
        expect_answers(target, scenario.new)
        assert target.say("hold") == "held"
        check_reasons(engine.revert(built, target.pid, BUSY_SECONDS), scenario, named=named)
        expect_answers(target, scenario.new)
        assert target.say("release") == "released"
        revert(built, target, engine, scenario.old)
        target.quit()


def play_always_active(case: Case, pair: Pair, engine: Engine, built: Built) -> None:
    """Refused with the name; the process never noticed."""
    scenario = case.scenario
    with Target(pair.old.program) as target:
        expect_answers(target, scenario.old)
        reasons = engine.apply(built, target.pid, BUSY_SECONDS)
        check_reasons(reasons, scenario, named=case.configuration.variant is Variant.SYMBOLS)
        assert any(reason.subjects for reason in refusals(reasons)), "nobody is named"
        expect_answers(target, scenario.old)
        target.quit()


def play_fork(case: Case, pair: Pair, engine: Engine, built: Built) -> None:
    """Children from before the apply are old, from after it new; each process is reverted by itself."""
    scenario = case.scenario
    with Target(pair.old.program) as target:
        early = int(target.say("fork"))
        expect_answers(target, scenario.old, "child 0 ")
        assert not engine.apply(built, target.pid, DEADLINE_SECONDS)
        expect_answers(target, scenario.new)
        expect_answers(target, scenario.old, "child 0 ")
        late = int(target.say("fork"))
        expect_answers(target, scenario.new, "child 1 ")
        revert(built, target, engine, scenario.old)
        expect_answers(target, scenario.new, "child 1 ")
        assert not engine.revert(built, late, DEADLINE_SECONDS)
        expect_answers(target, scenario.old, "child 1 ")
        assert not engine.apply(built, early, DEADLINE_SECONDS)
        expect_answers(target, scenario.new, "child 0 ")
        expect_answers(target, scenario.old)
        target.quit()


FLOWS = {
    Flow.PLAIN: play_plain,
    Flow.BUSY: play_busy,
    Flow.ALWAYS_ACTIVE: play_always_active,
    Flow.FORK: play_fork,
}
