"""The sweep must be able to fail: pairs in the wrong class, and engines that are wrong on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import pairs.__main__ as command
from hotmend.model.verdict import Verdict, refusal
from pairs.catalog import Class, PairCase, PairError, read_family, read_pairs
from pairs.matrix import all_configurations
from pairs.proof import BlindEngine
from pairs.report import summary, table, write_json
from pairs.sweep import Outcome, Proofs, Result, judge_pair
from tests.scenarios.engine import Built, HotmendEngine

ROOT = Path(__file__).parents[2]
NO_PROOF = Proofs(live=False, harm=False)
(GCC_O2,) = [c for c in all_configurations() if c.label == "gcc-O2"]


def pair_named(name: str) -> PairCase:
    (pair,) = [pair for pair in read_pairs() if pair.name == name]
    return pair


class RefusingEngine(HotmendEngine):
    """Says no to everything."""

    def build(self, pairs: Sequence[tuple[Path, Path]], *, partial: bool = False) -> Built:
        return Built(Verdict.BASELINE_REQUIRED, (refusal("some-code", "A sentence."),))


class BlindToChanges(HotmendEngine):
    """Says that nothing changed."""

    def build(self, pairs: Sequence[tuple[Path, Path]], *, partial: bool = False) -> Built:
        return Built(Verdict.NO_CHANGE, ())


class BrokenEngine(HotmendEngine):
    """Ends in an exception."""

    def build(self, pairs: Sequence[tuple[Path, Path]], *, partial: bool = False) -> Built:
        raise IndexError("out of range")


@pytest.mark.scenario
@pytest.mark.parametrize("name", ["member-in-middle", "enum-renumbered", "initial-value-changed", "class-member-added"])
def test_blind_engine_lets_dangerous_pairs_pass_and_is_noticed(name: str) -> None:
    result = judge_pair(pair_named(name), GCC_O2, NO_PROOF, BlindEngine())
    assert result.outcome in (Outcome.PASSED, Outcome.MISSED)
    assert result.defect


@pytest.mark.scenario
@pytest.mark.parametrize("name", ["member-in-middle", "class-member-added"])
def test_dangerous_pair_in_the_harmless_class_breaks_its_process(name: str) -> None:
    swapped = replace(pair_named(name), kind=Class.HARMLESS)
    result = judge_pair(swapped, GCC_O2, Proofs(), BlindEngine())
    assert result.outcome is Outcome.BROKEN
    assert result.defect
    assert judge_pair(swapped, GCC_O2, Proofs()).outcome is Outcome.FALSE_ALARM


@pytest.mark.scenario
def test_harmless_pair_in_the_dangerous_class_makes_the_sweep_fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    swapped = replace(pair_named("bounds-check-added"), kind=Class.DANGEROUS)
    monkeypatch.setattr(command, "read_pairs", lambda: [swapped])
    arguments = ["--only", swapped.name, "--configuration", "gcc-O2", "--no-proof", "--jobs", "1"]
    assert command.main(arguments) == 1
    assert "defects: 1" in capsys.readouterr().out


@pytest.mark.scenario
def test_engine_that_refuses_everything_shows_as_false_alarms() -> None:
    result = judge_pair(pair_named("bounds-check-added"), GCC_O2, NO_PROOF, RefusingEngine())
    assert (result.outcome, result.codes, result.defect) == (Outcome.FALSE_ALARM, ("some-code",), False)


@pytest.mark.scenario
@pytest.mark.parametrize(("engine", "outcome"), [(BlindToChanges(), Outcome.MISSED), (BrokenEngine(), Outcome.CRASHED)])
def test_change_not_seen_and_crash_are_defects(engine: HotmendEngine, outcome: Outcome) -> None:
    for name in ("bounds-check-added", "member-in-middle", "hash-bucket-count"):
        result = judge_pair(pair_named(name), GCC_O2, NO_PROOF, engine)
        assert (result.outcome, result.defect) == (outcome, True)


@pytest.mark.scenario
def test_source_that_does_not_compile_is_a_defect() -> None:
    broken = replace(pair_named("bounds-check-added"), name="test-broken", program="int x = ;")
    assert judge_pair(broken, GCC_O2, NO_PROOF).outcome is Outcome.NOT_BUILT


@pytest.mark.scenario
def test_same_source_is_no_change() -> None:
    same = replace(
        pair_named("bounds-check-added"), name="test-same", program="void answer(char *l, size_t s) { *l = 0; }\n"
    )
    assert judge_pair(same, GCC_O2, NO_PROOF).outcome is Outcome.NO_CHANGE


def test_the_set_is_as_large_as_the_docs_say() -> None:
    kinds = [pair.kind for pair in read_pairs()]
    assert len(kinds) >= 150
    assert kinds.count(Class.DANGEROUS) >= 75
    assert kinds.count(Class.HARMLESS) >= 75


def test_every_undecidable_pair_has_its_sentence_in_the_docs() -> None:
    limits = " ".join((ROOT / "docs" / "limits.md").read_text().replace("*", "").split())
    section = limits.partition("## Cannot be decided from two builds")[2].partition("## ")[0]
    missing = [pair.name for pair in read_pairs() if pair.limit and pair.limit not in section]
    assert not missing


@pytest.mark.parametrize(
    "text",
    [
        "//@ pair one dangerous\nint x;\n",
        "//@ pair one undecidable\n//@ says Something.\n",
        "//@ pair one dangerous\n//@ says Something.\n//@ limit words\n",
        "//@ pair one dangerous\n//@ sais Something.\n",
        "//@ says Something.\n",
    ],
)
def test_wrong_files_are_errors(tmp_path: Path, text: str) -> None:
    path = tmp_path / "family.c"
    path.write_text(text)
    with pytest.raises(PairError):
        read_family(path)


def test_two_pairs_of_one_name_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "family.c"
    path.write_text("//@ pair one harmless\n//@ says Something.\n" * 2)
    with pytest.raises(PairError, match="one"):
        read_pairs([path])


def test_table_counts_every_outcome() -> None:
    pairs = [pair_named("member-in-middle"), pair_named("bounds-check-added")]
    results = [
        Result("member-in-middle", "gcc-O2", Class.DANGEROUS, Outcome.REFUSED, ("a-code",), harm=True),
        Result("member-in-middle", "gcc-O3", Class.DANGEROUS, Outcome.PASSED),
        Result("bounds-check-added", "gcc-O2", Class.HARMLESS, Outcome.LIVE),
        Result("bounds-check-added", "gcc-O3", Class.HARMLESS, Outcome.FALSE_ALARM, ("b-code",)),
    ]
    text = table(results, pairs)
    assert "DEFECT at gcc-O3: passed" in text
    assert "a-code x1" in text
    assert "b-code x1" in text
    assert summary(results)[-1] == "defects: 1"
    assert "1 live" in text
    assert "1 false alarm" in text


def test_rows_of_the_docs_come_from_what_was_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    write_json(first, [
        Result("one", "gcc-O2", Class.DANGEROUS, Outcome.PASSED),
        Result("two", "gcc-O2", Class.DANGEROUS, Outcome.REFUSED, ("a-code",)),
        Result("three", "gcc-O2", Class.HARMLESS, Outcome.FALSE_ALARM, ("b-code",)),
        Result("four", "gcc-O2", Class.HARMLESS, Outcome.ACCEPTED),
        Result("five", "gcc-O2", Class.UNDECIDABLE, Outcome.PASSED),
    ])  # fmt: skip
    write_json(second, [Result("one", "gcc-O2", Class.DANGEROUS, Outcome.LIVE, harm=False)])
    assert command.main(["--rows", str(first)]) == 1
    assert "| gcc-O2 | 1 of 2 | 0 | 1 | 1 of 2 |  | 1 | 0 | 1 of 1 |" in capsys.readouterr().out
    assert command.main(["--rows", str(first), str(second)]) == 0
    said = capsys.readouterr().out
    assert "| gcc-O2 | 1 of 2 | 1 | 0 | 1 of 2 |  | 1 | 0 | 1 of 1 |" in said
    assert "gcc-O2: b-code 1" in said


def test_unknown_names_are_refused() -> None:
    with pytest.raises(SystemExit, match="no pair"):
        command.main(["--only", "no-such-pair"])
    with pytest.raises(SystemExit, match="no configuration"):
        command.main(["--configuration", "gcc-O9"])
