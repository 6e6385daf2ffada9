"""Known issues: whom they concern, by rules that answer yes, no or unknown; steps, proofs, deadlines."""

from __future__ import annotations

from datetime import date, datetime

import msgspec
import pytest

from hotmend.model.errors import InputError
from hotmend.reference.shipped import data_text
from hotmend.servicing.evaluate import evaluate
from hotmend.servicing.facts import MachineFacts, Update
from hotmend.servicing.known_issues import Concern, Condition, Subject, concerns, holds, issues_parse
from hotmend.servicing.level import windows_level
from tests.servicing.machines import AUGUST, JULY, OCTOBER, PROGRAM, SEPTEMBER, at, changed, machine, update, windows

CHANNEL = PROGRAM.catalogue.channel[0]
SERVER = machine(windows(OCTOBER))
_PRODUCT = PROGRAM.catalogue.product[0]
YES, NO = Condition(fact="machine", equals=("srv",)), Condition(fact="machine", equals=("x",))
UNREAD = Condition(fact="windows.region", equals=("x",))


def _subject(facts: MachineFacts = SERVER, installed: frozenset[str] | None = frozenset({"KB5066835"})) -> Subject:
    assert facts.windows is not None
    return Subject(
        facts, _PRODUCT, windows_level(facts.windows, CHANNEL, PROGRAM.calendar), PROGRAM.calendar, installed
    )


def _bare() -> Subject:
    return Subject(SERVER, None, None, PROGRAM.calendar, None)


@pytest.mark.parametrize(
    ("condition", "answer"),
    [
        (YES, True),
        (NO, False),
        (UNREAD, None),
        (Condition(all_of=(YES, YES)), True),
        (Condition(all_of=(YES, UNREAD)), None),
        (Condition(all_of=(UNREAD, NO)), False),
        (Condition(any_of=(NO, YES)), True),
        (Condition(any_of=(UNREAD, YES)), True),
        (Condition(any_of=(NO, UNREAD)), None),
        (Condition(any_of=(NO, NO)), False),
        (Condition(not_=YES), False),
        (Condition(not_=NO), True),
        (Condition(not_=UNREAD), None),
        (Condition(fact="machine", equals=("srv",), all_of=(NO,)), False),
        (Condition(fact="machine", equals=("srv",), not_=YES), False),
        (Condition(product=("windows-server-2025",)), True),
        (Condition(product=("debian-12",)), False),
        (Condition(line=("on", "unknown")), True),
        (Condition(line=("off",)), False),
        (Condition(installed=("KB5066835", "KB5070893")), True),
        (Condition(installed=("KB5070893",)), False),
        (Condition(from_day=date(2025, 10, 14)), True),
        (Condition(from_day=date(2025, 10, 15)), False),
        (Condition(fact="windows.workaround.mutex_present", equals=(True,)), True),
        (Condition(fact="windows.vsm.status", equals=(0, 1)), False),
        (Condition(fact="linux.root", equals=(True,)), None),
        (Condition(booted_after="windows.hotpatch.requested_at"), True),
        (Condition(booted_after="windows.workaround.changed_at"), None),
        (Condition(booted_after="booted_at"), False),
    ],
)
def test_conditions(condition: Condition, answer: bool | None) -> None:
    assert holds(condition, _subject()) is answer


def test_what_nobody_knows_is_neither_yes_nor_no() -> None:
    for condition in (
        Condition(product=("windows-server-2025",)),
        Condition(line=("on",)),
        Condition(installed=("KB5066835",)),
        Condition(from_day=date(2025, 1, 1)),
    ):
        assert holds(condition, _bare()) is None
    unbooted = _subject(changed(SERVER, booted_at=None))
    assert holds(Condition(booted_after="windows.hotpatch.requested_at"), unbooted) is None
    assert holds(Condition(from_day=date(2025, 10, 14)), _subject(installed=frozenset({"KB1234567"}))) is False
    assert holds(Condition(from_day=date(2025, 10, 14)), _subject(installed=None)) is None


def _concerns(facts: MachineFacts, day: str) -> dict[str, Concern]:
    return {each.issue.id: each for each in evaluate(facts, PROGRAM, at(day)).concerns}


BEFORE, BAD = (JULY, AUGUST, SEPTEMBER), (OCTOBER, update("KB5070881", "2025-10-24"))


@pytest.mark.parametrize(
    ("updates", "day", "expected"),
    [
        (BEFORE, "2025-10-13", {}),
        (BEFORE, "2025-10-14", {"october-2025-choice": True}),
        (BEFORE, "2026-01-12", {"october-2025-choice": True}),
        (BEFORE, "2026-01-13", {}),
        ((*BEFORE, OCTOBER), "2025-10-20", {"october-2025-licence": True}),
        (BAD, "2025-10-26", {"october-2025-off-line": True}),
        ((*BEFORE, update("KB5070881")), "2025-10-26", {"october-2025-off-line": True}),
        ((OCTOBER, update("KB5070893")), "2025-10-26", {"october-2025-licence": True}),
        ((OCTOBER, update("KB5068966")), "2025-11-12", {"october-2025-licence": True}),
    ],
)
def test_whom_the_issues_of_october_2025_concern(
    updates: tuple[Update, ...], day: str, expected: dict[str, bool]
) -> None:
    found = _concerns(machine(windows(*updates, revision=None)), day)
    assert {name: each.affected for name, each in found.items()} == expected


def test_what_failed_is_not_installed_and_what_waits_for_a_boot_is() -> None:
    for state, expected in (
        ("installed", {"october-2025-licence"}),
        ("pending-reboot", {"october-2025-licence"}),
        ("failed", {"october-2025-choice"}),
        ("uninstalled", {"october-2025-choice"}),
    ):
        facts = machine(windows(*BEFORE, Update("KB5066835", state), revision=None))  # type: ignore[arg-type]
        assert set(_concerns(facts, "2025-10-20")) == expected, state


def test_machines_that_are_not_enrolled_yet_are_concerned_and_azure_edition_is_not() -> None:
    planning = changed(SERVER, windows__hotpatch__enablement="Disabled", windows__hotpatch__requested_at=None)
    assert set(_concerns(planning, "2025-10-20")) == {"october-2025-licence"}
    assert _concerns(changed(SERVER, windows__edition="ServerTurbine"), "2025-10-20") == {}
    unread = _concerns(changed(SERVER, windows__updates=None), "2025-10-20")
    assert {name: each.affected for name, each in unread.items()} == {
        "october-2025-choice": None,
        "october-2025-licence": None,
    }


SET = {"windows__workaround__changed_at": at("2025-10-21")}
ONE = {
    **SET,
    "windows__workaround__preview_installed": True,
    "windows__workaround__preview_policy": True,
    "windows__workaround__mutex_present": False,
}
TWO = {**SET, "windows__workaround__override": 1, "windows__workaround__mutex_present": False}


@pytest.mark.parametrize(
    ("changes", "booted", "proven", "done"),
    [
        ({}, "2025-10-15", [(False, False, None, False), (None, False, None)], False),
        (ONE, "2025-10-22", [(True, True, True, True), (None, False, True)], True),
        (ONE, "2025-10-20", [(True, True, False, True), (None, False, False)], False),
        (TWO, "2025-10-22", [(False, False, True, True), (True, True, True)], True),
        (TWO, "2025-10-20", [(False, False, False, True), (True, True, False)], False),
        (
            {**TWO, "windows__workaround__override": 0},
            "2025-10-22",
            [(False, False, True, True), (False, True, True)],
            0,
        ),
    ],
)
def test_how_each_step_is_proven(
    changes: dict[str, object], booted: str, proven: list[tuple[bool | None, ...]], done: bool
) -> None:
    facts = changed(SERVER, booted_at=at(booted), **changes)
    (concern,) = _concerns(facts, "2025-10-25").values()
    if changes.get("windows__workaround__mutex_present") is False:
        # Both workarounds remove the same value.
        proven = [proven[0], (proven[1][0], True, proven[1][2])]
    assert [each.proven for each in concern.options] == proven
    assert concern.done is bool(done)
    assert [each.done for each in concern.options].count(True) == bool(done)


@pytest.mark.parametrize(("day", "overdue"), [("2025-11-10", False), ("2025-11-11", True)])
def test_the_deadline_is_the_day_before_the_next_update(day: str, overdue: bool) -> None:
    (concern,) = _concerns(SERVER, day).values()
    assert concern.issue.deadline == date(2025, 11, 11)
    assert concern.overdue is overdue
    (done,) = _concerns(changed(SERVER, booted_at=at("2025-10-22"), **TWO), day).values()
    assert done.overdue is False
    assert done.done


def test_an_issue_without_a_deadline_is_never_late() -> None:
    (concern,) = _concerns(machine(windows(*BAD, revision=None)), "2026-01-05").values()
    assert (concern.overdue, concern.done, concern.options) == (False, False, ())


def test_issues_are_asked_one_by_one() -> None:
    past = msgspec.structs.replace(PROGRAM.issues[2], until=date(2025, 10, 15))
    others = msgspec.structs.replace(PROGRAM.issues[0], since=date(2025, 10, 14))
    found = concerns((past, others, PROGRAM.issues[2]), _subject(), date(2025, 10, 20))
    assert [each.issue for each in found] == [PROGRAM.issues[2]]
    assert concerns((), _subject(), date(2025, 10, 20)) == ()
    found = concerns(PROGRAM.issues, _subject(), date(2025, 10, 20))
    assert [each.issue.id for each in found] == ["october-2025-licence"]


HEAD = "[[issue]]\nid='a'\ntitle='b'\nsince=2025-01-01\nuntil=2026-01-01\ncost='c'\nsource='d'\naffected = "


@pytest.mark.parametrize(
    ("affected", "words"),
    [
        ("{}", "a condition says nothing"),
        ("{ fact = 'windows.region' }", "`fact` and `equals` belong together"),
        ("{ equals = [true], line = ['on'] }", "`fact` and `equals` belong together"),
        ("{ fact = 'windows.colour', equals = [1] }", "no fact is called 'windows.colour'"),
        ("{ fact = 'windows.vsm.status.x', equals = [1] }", "no fact is called 'windows.vsm.status.x'"),
        ("{ booted_after = 'windows.then' }", "no fact is called 'windows.then'"),
        ("{ any_of = [{ line = ['on'] }, {}] }", "a condition says nothing"),
        ("{ all_of = [{ fact = 'x', equals = [1] }] }", "no fact is called 'x'"),
        ("{ not = { fact = 'y', equals = [1] } }", "no fact is called 'y'"),
        ("{ lines = ['on'] }", "lines"),
        ("{", "known issues: "),
    ],
)
def test_issues_that_make_no_sense_are_refused(affected: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        issues_parse(HEAD + affected)
    assert str(caught.value).startswith("known issues: ")
    assert words in str(caught.value)
    if words.endswith("together"):
        assert str(caught.value) == f"known issues: {words}"


def test_proofs_are_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = "{ line = ['on'] }\n[[issue.options]]\nid='o'\ntitle='t'\n[[issue.options.steps]]\ntitle='s'\nproof = "
    (issue,) = issues_parse(HEAD + steps + "{ fact = 'windows.vsm.status', equals = [2] }")
    assert issue.options[0].steps[0].proof.equals == (2,)
    with pytest.raises(InputError, match="mine: a condition says nothing"):
        issues_parse(HEAD + steps + "{}", "mine")
    text = data_text("known_issues.toml")
    monkeypatch.setattr("hotmend.servicing.known_issues.ISSUES_BYTES_MAX", len(text))
    assert len(issues_parse(text)) == 3
    with pytest.raises(InputError, match=r"^mine: larger than \d+ bytes$"):
        issues_parse(text + " ", "mine")


def test_a_boot_is_compared_with_times_alone() -> None:
    assert holds(Condition(booted_after="windows.build"), _subject()) is None
    later = msgspec.structs.replace(SERVER, booted_at=datetime.fromisoformat("2025-07-10T12:00:01+00:00"))
    assert holds(Condition(booted_after="windows.hotpatch.requested_at"), _subject(later)) is True
    same = msgspec.structs.replace(SERVER, booted_at=datetime.fromisoformat("2025-07-10T12:00:00+00:00"))
    assert holds(Condition(booted_after="windows.hotpatch.requested_at"), _subject(same)) is False
