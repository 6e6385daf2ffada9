"""Level and line: from the exact set of updates, in any order; and what an update would do."""

from __future__ import annotations

import dataclasses
from itertools import permutations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotmend.servicing.facts import RunningImage, Update
from hotmend.servicing.install import Outcome, windows_effects
from hotmend.servicing.level import Level, linux_level, windows_level
from hotmend.servicing.releases import Calendar, Line, calendar_rows
from tests.servicing.machines import (
    AUGUST,
    BUSY,
    JULY,
    NEW,
    OCTOBER,
    OLD,
    OTHER,
    PROGRAM,
    SEPTEMBER,
    at,
    linux,
    update,
    windows,
)

CHANNEL = next(channel for channel in PROGRAM.catalogue.channel if channel.name == "Windows Server 2025")
DEBIAN = next(channel for channel in PROGRAM.catalogue.channel if channel.name == "Debian 12")
BEFORE = (JULY, AUGUST, SEPTEMBER)


def level(*updates: Update, revision: int | None = None, **changes: object) -> Level:
    return windows_level(windows(*updates, revision=revision, **changes), CHANNEL, PROGRAM.calendar)


def codes(found: Level) -> list[str]:
    return [cause.code for cause in found.causes]


def ids(found: Level) -> tuple[str, str]:
    return (found.baseline.id if found.baseline else "", found.hotpatch.id if found.hotpatch else "")


@pytest.mark.parametrize(
    ("updates", "line", "carried", "code"),
    [
        (BEFORE, Line.ON, ("KB5062553", "KB5065474"), "on-line"),
        ((JULY,), Line.ON, ("KB5062553", ""), "on-line"),
        ((*BEFORE, OCTOBER), Line.ON, ("KB5066835", ""), "on-line"),
        ((*BEFORE, update("KB5070893", "2025-10-25")), Line.ON, ("KB5070893", ""), "on-line"),
        ((OCTOBER, update("KB5070893", "2025-10-25")), Line.ON, ("KB5070893", ""), "on-line"),
        ((OCTOBER, update("KB5068966", "2025-11-12")), Line.ON, ("KB5066835", "KB5068966"), "on-line"),
        (
            (*BEFORE, update("KB5070893", "2025-10-25"), update("KB5068966", "2025-11-12")),
            Line.ON,
            ("KB5070893", "KB5068966"),
            "on-line",
        ),
        ((*BEFORE, update("KB5070881", "2025-10-24")), Line.OFF, ("KB5062553", "KB5065474"), "not-in-exact-set"),
        ((*BEFORE, update("KB5070773", "2025-10-21")), Line.OFF, ("KB5062553", "KB5065474"), "not-in-exact-set"),
        ((*BEFORE, update("KB5063878", "2025-08-13")), Line.OFF, ("KB5062553", "KB5065474"), "left-line"),
        ((OCTOBER, update("KB5070881", "2025-10-24")), Line.OFF, ("KB5066835", ""), "not-in-exact-set"),
        ((OCTOBER, update("KB5070773", "2025-10-21")), Line.OFF, ("KB5066835", ""), "not-in-exact-set"),
        (
            (OCTOBER, update("KB5070881", "2025-10-24"), update("KB5070893", "2025-10-25")),
            Line.OFF,
            ("KB5070893", ""),
            "not-in-exact-set",
        ),
        ((OCTOBER, update("KB5068861", "2025-11-12")), Line.OFF, ("KB5066835", ""), "left-line"),
        ((OCTOBER, update("KB5072359", "2025-11-19")), Line.UNKNOWN, ("KB5066835", ""), "line-not-known"),
        ((JULY, update("KB5068966", "2025-11-12")), Line.UNKNOWN, ("KB5062553", ""), "hotpatch-of-other-baseline"),
        ((SEPTEMBER,), Line.UNKNOWN, ("", ""), "no-baseline"),
        ((OCTOBER, update("KB5099999", "2025-11-12")), Line.UNKNOWN, ("KB5066835", ""), "update-not-in-calendar"),
        ((OCTOBER, update("KB5099999")), Line.UNKNOWN, ("KB5066835", ""), "update-not-in-calendar"),
        ((OCTOBER, update("KB5099999", "2025-10-15")), Line.UNKNOWN, ("KB5066835", ""), "update-not-in-calendar"),
        ((OCTOBER, update("KB5099999", "2025-10-01")), Line.ON, ("KB5066835", ""), "on-line"),
        ((OCTOBER, update("KB5099999", "2025-11-12", title="2025-11 .NET 8")), Line.ON, ("KB5066835", ""), "on-line"),
        ((OCTOBER, update("KB5070881", "2025-10-24", "uninstalled")), Line.ON, ("KB5066835", ""), "on-line"),
        ((OCTOBER, update("KB5070881", "2025-10-24", "failed")), Line.ON, ("KB5066835", ""), "on-line"),
        (
            (OCTOBER, update("KB5070881", "2025-10-24", "pending-reboot")),
            Line.OFF,
            ("KB5066835", ""),
            "not-in-exact-set",
        ),
        (
            (*BEFORE, update("KB5066835", "2025-10-15", "pending-reboot")),
            Line.ON,
            ("KB5062553", "KB5065474"),
            "on-line",
        ),
        (
            (OCTOBER, update("KB5070881", "2025-10-24"), update("KB5073379", "2026-01-14")),
            Line.ON,
            ("KB5073379", ""),
            "on-line",
        ),
        ((update("KB5046696", "2024-11-13"),), Line.UNKNOWN, ("", ""), "no-baseline"),
    ],
)
def test_the_set_since_the_baseline_decides(
    updates: tuple[Update, ...], line: Line, carried: tuple[str, str], code: str
) -> None:
    for order in list(permutations(updates))[:24]:
        found = level(*order)
        assert (found.line, ids(found), codes(found)) == (line, carried, [code])


def test_a_hotpatch_whose_baseline_nobody_knows_proves_nothing() -> None:
    rows = [r for r in PROGRAM.calendar.releases(CHANNEL.name) if r.id in {"KB5050009", "KB5052105"}]
    calendar = Calendar([rows[0], dataclasses.replace(rows[1], requires="")])
    found = windows_level(windows(update(rows[0].id), update(rows[1].id), revision=None), CHANNEL, calendar)
    assert (found.line, codes(found), found.hotpatch) == (Line.UNKNOWN, ["baseline-of-hotpatch-unknown"], None)


def test_what_waits_for_a_boot_is_pending() -> None:
    found = level(*BEFORE, update("KB5066835", "2025-10-15", "pending-reboot"))
    assert [release.id for release in found.pending] == ["KB5066835"]
    waiting = level(update("KB5066835", "2025-10-15", "pending-reboot"))
    assert (codes(waiting), [release.id for release in waiting.pending]) == (["no-baseline"], ["KB5066835"])
    hot = level(OCTOBER, update("KB5068966", "2025-11-12", "pending-reboot"))
    assert (hot.hotpatch, [release.id for release in hot.pending]) == (None, ["KB5068966"])


def test_an_unknown_history_is_an_unknown_line() -> None:
    found = windows_level(windows(updates=None), CHANNEL, PROGRAM.calendar)
    assert (found.line, codes(found)) == (Line.UNKNOWN, ["updates-unknown"])


def test_a_history_that_begins_after_the_baseline_proves_nothing() -> None:
    assert codes(level(OCTOBER, updates_since=at("2025-10-15"))) == ["on-line"]
    assert codes(level(OCTOBER, updates_since=at("2025-10-16"))) == ["history-incomplete"]
    assert codes(level(OCTOBER, updates_since=None)) == ["history-incomplete"]
    undated = update("KB5066835")
    assert codes(level(undated, updates_since=at("2025-10-14"))) == ["on-line"]
    assert codes(level(undated, updates_since=at("2025-10-15"))) == ["history-incomplete"]


def test_a_build_that_no_update_gives_is_a_gap_in_the_history() -> None:
    assert codes(level(OCTOBER, revision=6899)) == ["on-line"]
    assert codes(level(OCTOBER, revision=6905)) == ["build-contradicts-history"]
    assert codes(level(OCTOBER, AUGUST, revision=4851)) == ["build-contradicts-history"]
    assert codes(level(*BEFORE, update("KB5066835", None, "pending-reboot"), revision=6508)) == ["on-line"]
    assert codes(level(*BEFORE, update("KB5066835", None, "pending-reboot"), revision=6899)) == [
        "build-contradicts-history"
    ]


def test_an_off_line_update_beats_whatever_is_unknown() -> None:
    found = level(OCTOBER, update("KB5070881"), updates_since=None)
    assert (found.line, codes(found)) == (Line.OFF, ["not-in-exact-set", "history-incomplete"])


def test_another_channel_has_no_exact_set() -> None:
    azure = next(channel for channel in PROGRAM.catalogue.channel if channel.name.startswith("Windows Server 2022"))
    updates = (update("KB5066782", "2025-10-15"), update("KB5070884", "2025-10-24"))
    found = windows_level(windows(*updates, revision=None), azure, PROGRAM.calendar)
    assert (found.line, codes(found)) == (Line.UNKNOWN, ["line-not-known"])
    found = windows_level(windows(updates[0], update("KB5068840"), revision=4346), azure, PROGRAM.calendar)
    assert (found.line, ids(found)) == (Line.ON, ("KB5066782", "KB5068840"))


_ALL = [release.id for release in PROGRAM.calendar.releases(CHANNEL.name) if release.id]


@BUSY
@given(st.lists(st.sampled_from([*_ALL, "KB5099999"]), unique=True, min_size=1, max_size=8), st.randoms())
def test_no_sequence_of_installs_gives_a_level_that_the_facts_do_not_carry(chosen: list[str], random: Random) -> None:
    found = level(*(update(kb) for kb in chosen))
    release = {r.id: r for r in PROGRAM.calendar.releases(CHANNEL.name)}
    if found.baseline is not None:
        assert found.baseline.id in chosen
        newer = [r for kb in chosen if (r := release.get(kb)) and r.kind.is_baseline and r.day > found.baseline.day]
        assert not newer
    if found.hotpatch is not None:
        assert found.hotpatch.id in chosen
        assert found.baseline is not None
        assert found.hotpatch.kind.is_hotpatch
        assert found.hotpatch.requires in {found.baseline.id, "KB5066835"}
    if found.line is Line.ON:
        assert found.baseline is not None
        assert "KB5099999" not in chosen
        for kb in chosen:
            after = release[kb]
            if after.day > found.baseline.day:
                assert after.line is Line.ON
        if found.baseline.month == "2025-10":
            assert not {"KB5070881", "KB5070773"} & set(chosen)
    again = list(chosen)
    random.shuffle(again)
    assert level(*(update(kb) for kb in again)) == found


def would(updates: tuple[Update, ...], *kbs: str, **changes: object) -> tuple[list[tuple[str, bool | None]], Line]:
    effects, after = windows_effects(windows(*updates, **changes), CHANNEL, PROGRAM.calendar, kbs)
    return [(effect.outcome, effect.reboot) for effect in effects], after.line


@pytest.mark.parametrize(
    ("updates", "kbs", "outcomes", "line"),
    [
        (BEFORE, ["KB5066835"], [(Outcome.STAYS, True)], Line.ON),
        (BEFORE, ["KB5070893"], [(Outcome.STAYS, None)], Line.ON),
        (BEFORE, ["KB5070881"], [(Outcome.LEAVES, True)], Line.OFF),
        ((OCTOBER,), ["KB5070881", "KB5070893"], [(Outcome.LEAVES, True), (Outcome.STAYS_OFF, None)], Line.OFF),
        ((OCTOBER,), ["KB5068966"], [(Outcome.STAYS, False)], Line.ON),
        ((OCTOBER,), ["KB5068861"], [(Outcome.LEAVES, True)], Line.OFF),
        ((OCTOBER,), ["KB5072359"], [(Outcome.UNKNOWN, True)], Line.UNKNOWN),
        ((OCTOBER,), ["KB5099999"], [(Outcome.UNKNOWN, None)], Line.UNKNOWN),
        ((OCTOBER,), ["KB5066835"], [(Outcome.ALREADY, False)], Line.ON),
        ((OCTOBER,), ["KB5064010"], [(Outcome.NOT_APPLICABLE, None)], Line.ON),
        ((OCTOBER,), ["KB5066782"], [(Outcome.NOT_APPLICABLE, None)], Line.ON),
        (BEFORE, ["KB5068966"], [(Outcome.NEEDS_BASELINE, None)], Line.ON),
        ((update("KB5070893", "2025-10-25"),), ["KB5068966"], [(Outcome.STAYS, False)], Line.ON),
        (BEFORE, ["KB5066835", "KB5068966"], [(Outcome.STAYS, True), (Outcome.STAYS, False)], Line.ON),
        ((OCTOBER, update("KB5070881")), ["KB5068966"], [(Outcome.NEEDS_BASELINE, None)], Line.OFF),
        ((OCTOBER, update("KB5070881")), ["KB5073379"], [(Outcome.RETURNS, True)], Line.ON),
        ((OCTOBER, update("KB5072359")), ["KB5068966"], [(Outcome.UNKNOWN, None)], Line.UNKNOWN),
    ],
)
def test_what_an_update_would_do(
    updates: tuple[Update, ...], kbs: list[str], outcomes: list[tuple[str, bool | None]], line: Line
) -> None:
    assert would(updates, *kbs, revision=None) == (outcomes, line)


def test_what_an_update_would_do_says_why() -> None:
    (effect,), _ = windows_effects(windows(OCTOBER), CHANNEL, PROGRAM.calendar, ["KB5070881"])
    assert "KB5066835" in str(effect.causes[0].message)
    (effect,), _ = windows_effects(windows(OCTOBER), CHANNEL, PROGRAM.calendar, ["KB5066782"])
    assert (effect.causes[0].code, effect.release) == ("other-channel", None)
    assert "Windows Server 2022 Azure Edition" in str(effect.causes[0].message)
    (effect,), _ = windows_effects(windows(OCTOBER), CHANNEL, PROGRAM.calendar, ["KB5064010"])
    assert effect.causes[0].code == "superseded"
    effects, _ = windows_effects(windows(OCTOBER, update("KB5070881")), CHANNEL, PROGRAM.calendar, ["KB5068966"])
    assert [cause.code for cause in effects[0].causes] == ["needs-baseline", "not-in-exact-set"]
    effects, _ = windows_effects(windows(OCTOBER, update("KB5070881")), CHANNEL, PROGRAM.calendar, ["KB5073379"])
    assert [cause.code for cause in effects[0].causes] == ["is-baseline", "on-line"]
    effects, _ = windows_effects(windows(updates=None), CHANNEL, PROGRAM.calendar, ["KB5068966", "KB5073379"])
    assert [effect.outcome for effect in effects] == [Outcome.UNKNOWN, Outcome.UNKNOWN]


_LINUX = f"""product,month,label,type,restart_required,status,release_date,kb,build,requires_baseline_kb,hotpatch_line,\
hotpatch_line_basis,confidence,source,note,images
Debian 12,2026-10,2026.10 B,baseline,yes,released,2026-10-13,2026-10,,,on,documented,high,manifest,,
Debian 12,2026-11,2026.11 B,hotpatch,no,released,2026-11-10,2026-11,,2026-10,on,documented,high,manifest,,{OLD}>{NEW}
Debian 12,2026-12,2026.12 B,hotpatch,no,released,2026-12-08,2026-12,,2026-10,on,documented,high,manifest,,{NEW}>{OTHER}
"""


def _image(build_id: str | None) -> RunningImage:
    return RunningImage("/usr/sbin/nginx", OLD, OTHER, build_id)


@pytest.mark.parametrize(
    ("effective", "line", "hotpatch"),
    [
        ([OLD], Line.ON, ""),
        ([NEW], Line.ON, "2026-11"),
        ([OTHER], Line.ON, "2026-12"),
        ([NEW, OLD], Line.ON, ""),
        ([], Line.ON, "2026-12"),
        ([NEW, None], Line.UNKNOWN, ""),
    ],
)
def test_linux_a_hotpatch_counts_when_no_process_runs_what_it_replaces(
    effective: list[str | None], line: Line, hotpatch: str
) -> None:
    calendar = Calendar(calendar_rows(_LINUX))
    found = linux_level(linux(images=tuple(map(_image, effective))), DEBIAN, calendar)
    assert (found.line, ids(found)) == (line, ("2026-10", hotpatch))


def test_linux_what_is_not_known() -> None:
    calendar = Calendar(calendar_rows(_LINUX))
    assert codes(linux_level(linux(baseline=None), DEBIAN, calendar)) == ["no-baseline-recorded"]
    assert codes(linux_level(linux(baseline="2026-11"), DEBIAN, calendar)) == ["baseline-not-in-channel"]
    assert codes(linux_level(linux(baseline="2020-01"), DEBIAN, calendar)) == ["baseline-not-in-channel"]
    found = linux_level(linux(images=None), DEBIAN, calendar)
    assert (found.line, codes(found), ids(found)) == (Line.UNKNOWN, ["images-unknown"], ("2026-10", ""))
    found = linux_level(linux(images=(_image(None), _image(None), _image(NEW))), DEBIAN, calendar)
    assert "2 running images" in str(found.causes[0].message)
