"""The scenario runner must be able to fail: engines that are wrong on purpose, and expectations that are false."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hotmend.model.addresses import BuildId, Extent, LinkAddress
from hotmend.model.hotpatch import Hotpatch, Statistics
from hotmend.model.verdict import Reason, Verdict, note, refusal

from .builds import Pair, compile_pair
from .catalog import COMPILERS, HERE, LEVELS, Case, CatalogError, Expectation, all_cases, cases_of
from .engine import Built
from .play import check_native, expect_seen, gap_marks, play
from .target import Target, TargetError

pytestmark = pytest.mark.scenario

NOTHING = Extent(LinkAddress(0), 0)
EMPTY_PATCH = Hotpatch(
    name="program", path="program", old_build_id=BuildId("00"), new_build_id=BuildId("01"), old_extent=NOTHING,
    new_extent=NOTHING, segments=(), relocations=(), functions=(), replaced=(), redirections=(),
    statistics=Statistics(0, 0, 0, 0, (), 0, 0), verdict=Verdict.HOTPATCH,
)  # fmt: skip


class FakeEngine:
    """Claims whatever it is told to claim, and does nothing."""

    def __init__(self, built: Built, applied: tuple[Reason, ...] = (), reverted: tuple[Reason, ...] = ()) -> None:
        self._built = built
        self._applied = applied
        self._reverted = reverted

    def build(self, pairs: Sequence[tuple[Path, Path]], *, partial: bool = False) -> Built:
        return self._built

    def apply(self, built: Built, pid: int, deadline_seconds: float) -> tuple[Reason, ...]:
        return self._applied

    def revert(self, built: Built, pid: int, deadline_seconds: float) -> tuple[Reason, ...]:
        return self._reverted


HOTPATCH = Built(Verdict.HOTPATCH, (), (EMPTY_PATCH,))
NO_CHANGE = Built(Verdict.NO_CHANGE, ())


def refused(code: str) -> Built:
    return Built(Verdict.BASELINE_REQUIRED, (refusal(code, "A sentence."),))


def case_named(name: str, label: str = "gcc-O2") -> Case:
    return next(case for case in cases_of(HERE / name) if case.configuration.label == label)


def pair_named(name: str) -> tuple[Case, Pair]:
    case = case_named(name)
    return case, compile_pair(case)


def expecting(case: Case, expect: Expectation, *codes: str) -> Case:
    return replace(case, scenario=replace(case.scenario, expect=expect, codes=frozenset(codes)))


def test_false_answer_is_noticed_without_engine() -> None:
    case, pair = pair_named("changed-function")
    lying = replace(case, scenario=replace(case.scenario, new="changed 33"))
    with pytest.raises(AssertionError, match="expected 'changed 33'"):
        check_native(lying, pair)


def test_builds_in_swapped_order_are_noticed() -> None:
    case, pair = pair_named("changed-function")
    with pytest.raises(AssertionError, match="answered 'changed 32', expected 'changed 23'"):
        check_native(case, Pair(pair.new, pair.old))


def test_apply_that_does_nothing_is_noticed() -> None:
    case, pair = pair_named("changed-function")
    with pytest.raises(AssertionError, match="answered 'changed 23', expected 'changed 32'"):
        play(case, pair, FakeEngine(HOTPATCH))


def test_hotpatch_expected_refusal_is_noticed() -> None:
    case, pair = pair_named("changed-function")
    with pytest.raises(AssertionError, match="expected a hotpatch"):
        play(case, pair, FakeEngine(refused("some-code")))


def test_hotpatch_expected_no_change_is_noticed() -> None:
    case, pair = pair_named("swapped-callee")
    with pytest.raises(AssertionError, match="expected a hotpatch, got no change"):
        play(case, pair, FakeEngine(NO_CHANGE))


def test_apply_refused_is_noticed() -> None:
    case, pair = pair_named("changed-function")
    with pytest.raises(AssertionError, match="apply refused"):
        play(case, pair, FakeEngine(HOTPATCH, applied=(refusal("some-code", "A sentence."),)))


def test_missing_refusal_is_noticed() -> None:
    case, pair = pair_named("changed-function")
    with pytest.raises(AssertionError, match="expected a refusal"):
        play(expecting(case, Expectation.REFUSED, "some-code"), pair, FakeEngine(HOTPATCH))


@pytest.mark.parametrize("expect", [Expectation.REFUSED, Expectation.SAFE])
def test_refusal_for_another_reason_is_noticed(expect: Expectation) -> None:
    case, pair = pair_named("changed-function")
    with pytest.raises(AssertionError, match="refused for"):
        play(expecting(case, expect, "right-code"), pair, FakeEngine(refused("wrong-code")))


def test_refusal_without_reason_is_noticed() -> None:
    case, pair = pair_named("changed-function")
    silent = Built(Verdict.BASELINE_REQUIRED, (note("right-code", "Only a note."),))
    with pytest.raises(AssertionError, match="without a reason"):
        play(expecting(case, Expectation.REFUSED, "right-code"), pair, FakeEngine(silent))


def test_safe_does_not_excuse_a_wrong_answer() -> None:
    case, pair = pair_named("changed-function")
    with pytest.raises(AssertionError, match="expected 'changed 32'"):
        play(expecting(case, Expectation.SAFE, "right-code"), pair, FakeEngine(HOTPATCH))


def test_change_where_none_is_expected_is_noticed() -> None:
    case, pair = pair_named("same-build")
    with pytest.raises(AssertionError, match="expected no change"):
        play(case, pair, FakeEngine(HOTPATCH))


def test_apply_while_active_is_noticed() -> None:
    case, pair = pair_named("blocked-below")
    with pytest.raises(AssertionError, match="refused without a reason"):
        play(case, pair, FakeEngine(HOTPATCH))


class GrudgingEngine(FakeEngine):
    """Refuses while busy and for ever after, the second time for another reason."""

    def apply(self, built: Built, pid: int, deadline_seconds: float) -> tuple[Reason, ...]:
        first, self._applied = self._applied[:1], self._applied[1:]
        return first


@pytest.mark.parametrize(
    ("expect", "code", "complaint"),
    [
        (Expectation.HOTPATCH, "right-code", "nothing is active any more, yet refused"),
        (Expectation.SAFE, "wrong-code", "refused for"),
    ],
)
def test_refusal_after_the_function_was_left_is_noticed(expect: Expectation, code: str, complaint: str) -> None:
    case, pair = pair_named("blocked-below")
    reasons = (refusal("right-code", "A sentence."), refusal(code, "A sentence."))
    with pytest.raises(AssertionError, match=complaint):
        play(expecting(case, expect, "right-code"), pair, GrudgingEngine(HOTPATCH, applied=reasons))


def test_known_gap_has_to_fail_and_by_an_assertion(tmp_path: Path) -> None:
    gap = '[[where]]\ncompiler = "gcc"\nlevel = "-O3"\ngap = true\nbecause = "rule R0 is missing"\n'
    text = 'description = "One line."\nexpect = "hotpatch"\nold = "a"\nnew = "b"\n'
    (tmp_path / "scenario.toml").write_text(text + gap)
    marks = {case.configuration.label: gap_marks(case) for case in cases_of(tmp_path)}
    assert [label for label, found in marks.items() if found] == ["gcc-O3"]
    (mark,) = marks["gcc-O3"]
    reason = "known gap: rule R0 is missing"
    assert (mark.name, dict(mark.kwargs)) == ("xfail", {"reason": reason, "raises": AssertionError, "strict": True})


def test_worker_that_falls_back_is_noticed() -> None:
    """A worker that saw the old answer again would have a third entry."""
    case, pair = pair_named("changed-function")
    old = pair.old.program
    with Target(old, 1) as target, pytest.raises(AssertionError, match="a worker was answered"):
        expect_seen(target, [case.scenario.old, case.scenario.new])


class Told:
    """A target whose one worker was answered this."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)

    def seen(self) -> list[list[str]]:
        return [self.answers]


@pytest.mark.parametrize("torn", ["a 1 d 2", "c 1 b 2"])
def test_one_answer_may_be_given_while_the_code_changes(torn: str) -> None:
    expect_seen(Told("a 1 b 2", "a 1 b 2", torn, "c 1 d 2"), ["a 1 b 2", "c 1 d 2"])


@pytest.mark.parametrize(
    "answers",
    [
        ["a 1 b", "a 1 d", "a 1 d", "c 1 d"],  # it stayed half changed
        ["a 1 b", "a 1 d", "c 1 b", "c 1 d"],
        ["a 1 b", "a 1 e", "c 1 d"],
        ["a 1 b", "a 1 d"],
        ["a 1 b", "c 1 d", "a 1 d", "c 1 d"],
    ],
)
def test_half_a_change_is_noticed(answers: list[str]) -> None:
    with pytest.raises(AssertionError, match="a worker was answered"):
        expect_seen(Told(*answers), ["a 1 b", "c 1 d"])


def test_crash_is_told_from_silence() -> None:
    _, pair = pair_named("changed-function")
    with Target(pair.old.program) as target:
        os.kill(target.pid, signal.SIGSEGV)
        with pytest.raises(TargetError, match="died with status"):
            target.ask()


def test_every_configuration_is_there_or_has_a_reason() -> None:
    """What is left out is left out by a [[where]] with a reason: its number is known here."""
    labels = {case.label for case in all_cases()}
    folders = sorted(path.parent for path in HERE.glob("*/scenario.toml"))
    missing = [
        f"{folder.name}-{compiler}{level}"
        for folder in folders
        for compiler in COMPILERS
        for level in LEVELS
        if f"{folder.name}-{compiler}{level}" not in labels
    ]
    assert missing == ["tls-descriptor-clang-O0", "tls-descriptor-clang-O2", "tls-descriptor-clang-O3"]
    assert len(folders) >= 70


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('expect = "hotpatch"\nold = "a"\nnew = "a"', "answer the same"),
        ('expect = "refused"\nold = "a"\nnew = "b"', "codes belong to refusals"),
        ('expect = "hotpatch"\nold = "a"\nnew = "b"\ncodes = ["x"]', "codes belong to refusals"),
        ('expect = "hotpatch"\nold = "a"\nnew = "b"\nworker = 0', "unknown keys"),
        ('expect = "hotpatch"\nold = "a"\nnew = "b"\n[[where]]\nskip = true', "has a reason"),
    ],
)
def test_bad_scenario_file_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "scenario.toml").write_text('description = "One line."\n' + text)
    with pytest.raises(CatalogError, match=complaint):
        cases_of(tmp_path)
