"""One server of October 2025, carried from September to January by commands, on each of the ways that it could take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.servicing import traces as t
from tests.servicing.traces import Seen, Trace, check
from tests.traceability import ROOT, Output, Row, ran, stands, table

PAGE = ROOT / "docs" / "servicing.md"


def _at(day: str) -> tuple[str, str]:
    return ("--at", f"{day}T12:00:00Z")


def _asked(day: str, case: str, *updates: str) -> tuple[str, ...]:
    return check(f"october-{case}", *(part for kb in updates for part in ("--if-installed", kb)), at=_at(day))


def _answer(day: str, case: str, *updates: str, code: int = 0) -> Any:
    output = ran(*_asked(day, case, *updates), "--json", "--language", "en")
    assert output.code == code, output
    return output.json


def _days(due: list[Any]) -> list[str]:
    assert all(each["need"] == "reboot" for each in due)
    return [each["day"] for each in due]


def test_in_september_the_server_is_on_the_line() -> None:
    answer = _answer("2025-09-15", "1-before")
    assert (answer["level"]["line"], answer["level"]["hotpatch"]["id"]) == ("on", "KB5065474")
    assert _days(answer["forecast"]["due"]) == ["2025-10-14"]
    assert answer["issues"] == []


def test_the_bad_update_is_refused_before_it_is_installed_and_the_reason_is_told() -> None:
    answer = _answer("2025-10-24", "1-before", "KB5070881", code=4)
    (effect,) = answer["effects"]
    assert (effect["outcome"], effect["refused"], effect["reboot"]) == ("leaves-line", True, True)
    assert effect["causes"][0]["code"] == "not-in-exact-set"
    assert "only KB5066835 or KB5070893" in effect["causes"][0]["text"]
    (issue,) = answer["issues"]
    assert (issue["id"], issue["deadline"]) == ("october-2025-choice", "2025-11-11")
    after = _answer("2025-10-24", "2-right", "KB5070881", code=4)["effects"][0]["causes"][0]
    assert after["code"] == "not-in-exact-set"
    assert "only KB5066835 or KB5070893" in after["text"]
    for right in ("KB5066835", "KB5070893"):
        assert _answer("2025-10-24", "1-before", right)["effects"][0]["outcome"] == "stays-on-line"


def test_after_it_three_reboots_are_due() -> None:
    answer = _answer("2025-10-26", "3-left")
    assert answer["level"]["line"] == "off"
    assert _days(answer["forecast"]["due"]) == ["2025-11-11", "2025-12-09", "2026-01-13"]
    assert answer["forecast"]["due"] == answer["forecast"]["due_with_workaround"]
    assert [each["id"] for each in answer["issues"]] == ["october-2025-off-line"]
    assert _answer("2025-11-11", "3-left", "KB5068966", code=4)["effects"][0]["outcome"] == "needs-baseline"
    # Its build is that of the right update; the set tells them apart.
    assert _answer("2025-10-26", "3-left", "KB5070893", code=4)["level_after"]["line"] == "off"


def test_the_licence_bug_has_two_workarounds_before_a_deadline() -> None:
    answer = _answer("2025-10-26", "2-right")
    (issue,) = answer["issues"]
    assert (issue["id"], issue["deadline"], issue["overdue"]) == ("october-2025-licence", "2025-11-11", False)
    assert [each["remedy"] for each in issue["options"]] == ["licence-bug-option-1", "licence-bug-option-2"]
    assert [[step["reboot"] for step in each["steps"]].index(True) for each in issue["options"]] == [2, 2]
    assert _days(answer["forecast"]["due"]) == ["2025-11-11", "2025-12-09", "2026-01-13"]
    assert _days(answer["forecast"]["due_with_workaround"]) == ["2025-10-26", "2026-01-13"]
    late = _answer("2025-11-11", "2-right")
    assert late["issues"][0]["overdue"] is True
    assert late["forecast"]["due"] == late["forecast"]["due_with_workaround"]


def test_either_workaround_is_complete_and_only_after_its_boot() -> None:
    for case, option in (("4-option-1", 0), ("5-option-2", 1)):
        answer = _answer("2025-10-30", case)
        assert [each["done"] for each in answer["issues"][0]["options"]] == [option == 0, option == 1]
        assert _days(answer["forecast"]["due"]) == ["2026-01-13"]
    waiting = _answer("2025-10-30", "6-option-2-not-booted")
    assert [each["done"] for each in waiting["issues"][0]["options"]] == [False, False]
    assert _days(waiting["forecast"]["due"]) == ["2025-11-11", "2025-12-09", "2026-01-13"]


def test_a_server_that_did_everything_right_has_one_reboot_a_quarter_and_the_other_is_back_in_january() -> None:
    for kb in ("KB5068966", "KB5072014"):
        assert _answer("2025-11-11", "5-option-2", kb)["effects"][0]["reboot"] is False
    december = _answer("2025-12-15", "7-december")
    assert (december["level"]["line"], december["level"]["hotpatch"]["id"]) == ("on", "KB5072014")
    assert (december["avoided"]["reboots"], _days(december["forecast"]["due"])) == (4, ["2026-01-13"])
    right, left = (_answer("2026-01-15", case) for case in ("8-january-right", "9-january-left"))
    assert [each["level"]["baseline"]["id"] for each in (right, left)] == ["KB5073379"] * 2
    assert [each["level"]["line"] for each in (right, left)] == ["on", "on"]
    assert [each["avoided"]["reboots"] for each in (right, left)] == [4, 2]
    assert [each["issues"] for each in (right, left)] == [[], []]


def _and(*observers: Callable[[Output], Seen]) -> Callable[[Output], Seen]:
    def observe(output: Output) -> Seen:
        seen = [each(output) for each in observers]
        return "\n".join(code for code, _ in seen), " ".join(text for _, text in seen if text)

    return observe


STEPS = [
    ("2025-09-15", "on the line", "1-before", (), _and(t.level, t.forecast)),
    ("2025-10-24", "before the bad update: refused", "1-before", ("KB5070881",), t.effects),
    ("2025-10-24", "the same, KB5066835 installed", "2-right", ("KB5070881",), t.effects),
    ("2025-10-24", "the right ones", "1-before", ("KB5066835", "KB5070893"), t.effects),
    ("2025-10-26", "after the bad update", "3-left", (), _and(t.level, t.forecast)),
    ("2025-11-11", "... no hotpatch comes to it", "3-left", ("KB5068966",), t.effects),
    ("2025-10-26", "on the line, with the licence bug", "2-right", (), _and(t.issues, t.forecast)),
    ("2025-10-30", "workaround, option 1", "4-option-1", (), _and(t.steps(0), t.forecast)),
    ("2025-10-30", "workaround, option 2, not booted yet", "6-option-2-not-booted", (), t.steps(1)),
    ("2025-10-30", "workaround, option 2", "5-option-2", (), _and(t.steps(1), t.forecast)),
    ("2025-11-11", "too late", "2-right", (), _and(t.issues, t.forecast)),
    ("2025-11-11", "everything right: November", "5-option-2", ("KB5068966",), t.effects),
    ("2025-12-15", "everything right: December", "7-december", (), _and(t.level, t.avoided)),
    ("2026-01-15", "everything right: January", "8-january-right", (), _and(t.level, t.avoided)),
    ("2026-01-15", "the one that left is back", "9-january-left", (), _and(t.level, t.avoided)),
]


def test_the_page_shows_the_way() -> None:
    rows = []
    for day, server, case, updates, observe in STEPS:
        command, observed = Trace(day, server, _asked(day, case, *updates), observe).told()
        rows.append(Row(day, server, command, observed))
    assert stands(PAGE, "october", table(rows, "day", "server")), "the page was out of date and is written anew"
