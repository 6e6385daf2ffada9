"""Each code with its sentence, in English and, by `because`, in German."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from hotmend.servicing.facts import Offer, RunningImage, Update, Windows
from hotmend.servicing.install import windows_effects
from hotmend.servicing.level import linux_level, windows_level
from hotmend.servicing.maintenance import Interval, Policy, may_start
from hotmend.servicing.releases import Calendar, Line, calendar_rows
from hotmend.servicing.selection import choose
from tests.servicing.machines import (
    AUGUST,
    JULY,
    NEW,
    OCTOBER,
    OLD,
    PROGRAM,
    SEPTEMBER,
    at,
    because,
    linux,
    update,
    windows,
)

CHANNEL = PROGRAM.catalogue.channel[0]
DEBIAN = next(channel for channel in PROGRAM.catalogue.channel if channel.name == "Debian 12")
BEFORE = (JULY, AUGUST, SEPTEMBER)
_EXACTLY = (
    " takes the machine off the line: of that month only ('KB5066835', 'KB5070893') keep it there, and no later update"
    " is proven to bring it back before 2026-01-13."
)


def _server(*updates: Update, **changes: object) -> Windows:
    return windows(*updates, **{"revision": None, **changes})


@pytest.mark.parametrize(
    ("found", "code", "text"),
    [
        (_server(updates=None), "updates-unknown", "The update history is not known."),
        (_server(SEPTEMBER), "no-baseline", "No baseline of this channel is among the installed updates."),
        (_server(OCTOBER), "on-line", "Every update installed since KB5066835 keeps the machine on the line."),
        (_server(OCTOBER, update("KB5070881")), "not-in-exact-set", "KB5070881" + _EXACTLY),
        (
            *(_server(*BEFORE, update("KB5063878", "2025-08-13")), "left-line"),
            "KB5063878 (2025.08 B) is an update of the standard line; only the next baseline leads back.",
        ),
        (
            *(_server(OCTOBER, update("KB5072359", "2025-11-19")), "line-not-known"),
            "Whether KB5072359 (2025.11 OOB) keeps a machine on the line is not known.",
        ),
        (
            *(_server(JULY, update("KB5068966", "2025-11-12")), "hotpatch-of-other-baseline"),
            "Hotpatch KB5068966 builds on KB5066835, and the baseline is KB5062553.",
        ),
        (
            *(_server(OCTOBER, update("KB5099999", "2025-11-12")), "update-not-in-calendar"),
            "KB5099999 is not in the calendar, and what it does is not known.",
        ),
        (
            *(_server(OCTOBER, updates_since=None), "history-incomplete"),
            "The update history does not reach back to baseline KB5066835.",
        ),
        (
            *(_server(OCTOBER, revision=6905), "build-contradicts-history"),
            "The machine's build ends in 6905, which no update of its history gives.",
        ),
    ],
)
def test_the_line_of_a_windows_machine(found: Windows, code: str, text: str) -> None:
    assert because(windows_level(found, CHANNEL, PROGRAM.calendar).causes) == [(code, text)]


_HEAD = (
    "product,month,label,type,restart_required,status,release_date,kb,build,requires_baseline_kb,hotpatch_line,"
    "hotpatch_line_basis,confidence,source,note\n"
)


def _calendar(*rows: str) -> Calendar:
    return Calendar(calendar_rows(_HEAD + "\n".join(rows) + "\n"))


def test_a_hotpatch_whose_baseline_nobody_knows() -> None:
    rows = [r for r in PROGRAM.calendar.releases(CHANNEL.name) if r.id in {"KB5050009", "KB5052105"}]
    calendar = Calendar([rows[0], dataclasses.replace(rows[1], requires="")])
    found = windows_level(_server(update(rows[0].id), update(rows[1].id)), CHANNEL, calendar)
    assert because(found.causes) == [
        ("baseline-of-hotpatch-unknown", "Which baseline hotpatch KB5052105 builds on is not known.")
    ]


def test_what_is_of_the_baselines_own_day_counts_and_the_baseline_itself_does_not() -> None:
    name = CHANNEL.name
    calendar = _calendar(
        f"{name},2027-01,2027.01 B,baseline,yes,released,2027-01-12,KB6000001,,,unknown,documented,high,s,",
        f"{name},2027-01,2027.01 L,lcu,yes,released,2027-01-12,KB6000002,,,off,documented,high,s,",
        f"{name},2026-12,2026.12 L,lcu,yes,released,2026-12-08,KB6000003,,,off,documented,high,s,",
    )
    base, same, older = update("KB6000001", "2027-01-12"), update("KB6000002", "2027-01-12"), update("KB6000003")
    assert windows_level(_server(base), CHANNEL, calendar).line is Line.ON
    assert windows_level(_server(base, older), CHANNEL, calendar).line is Line.ON
    assert windows_level(_server(base, same), CHANNEL, calendar).line is Line.OFF


@pytest.mark.parametrize(
    ("title", "classification", "line"),
    [
        ("2025-11 .NET 8.0.22", None, Line.ON),
        (None, "Drivers", Line.ON),
        ("Contoso", "Drivers", Line.ON),
        ("2025-11 Preview", "Updates", Line.UNKNOWN),
        (None, None, Line.UNKNOWN),
    ],
)
def test_what_is_none_of_the_operating_systems_own(title: str | None, classification: str | None, line: Line) -> None:
    other = Update("KB5099999", "installed", at("2025-11-12"), title, classification)
    assert windows_level(_server(OCTOBER, other), CHANNEL, PROGRAM.calendar).line is line


def test_the_line_of_a_linux_machine() -> None:
    calendar = _calendar(
        "Debian 12,2026-10,2026.10 B,baseline,yes,released,2026-10-13,2026-10,,,on,documented,high,manifest,",
    )
    images = (RunningImage("/a", OLD, NEW, None), RunningImage("/b", OLD, NEW, NEW), RunningImage("/c", OLD, NEW, None))
    cases = {
        "No baseline is recorded on this machine.": linux(baseline=None),
        "The channel has no baseline called 2026-07.": linux(baseline="2026-07"),
        "What the processes map is not known.": linux(images=None),
        "Of 2 running images the build is not known.": linux(images=images),
        "Every update installed since 2026-10 keeps the machine on the line.": linux(),
    }
    for text, facts in cases.items():
        found = linux_level(facts, DEBIAN, calendar)
        assert [told for _, told in because(found.causes)] == [text]
        assert (found.pending, found.hotpatch) == ((), None)
    assert linux_level(linux(images=images), DEBIAN, calendar).line is Line.UNKNOWN


_CODES = {
    "is installed.": "already-installed",
    "is older than": "superseded",
    "is a release of": "other-channel",
    "is not in the calendar": "update-not-in-calendar",
    "which is what the machine has": "hotpatch-of-baseline",
    "is only for machines": "needs-baseline",
    "keeps the machine on the line": "on-line",
    "takes the machine off the line": "not-in-exact-set",
    "is a baseline": "is-baseline",
    "keeps a machine on the line is not known": "line-not-known",
}


def _code(text: str) -> str:
    return next(code for words, code in _CODES.items() if words in text)


def test_a_hotpatch_without_a_known_baseline_is_for_nobody() -> None:
    name = CHANNEL.name
    calendar = _calendar(
        f"{name},2027-01,2027.01 B,baseline,yes,released,2027-01-12,KB6000001,,,on,documented,high,s,",
        f"{name},2027-02,2027.02 B,hotpatch,no,released,2027-02-09,KB6000002,,,on,documented,high,s,",
    )
    (found,), _ = windows_effects(_server(update("KB6000001", "2027-01-12")), CHANNEL, calendar, ["KB6000002"])
    assert because(found.causes)[0] == (
        "needs-baseline",
        "Hotpatch KB6000002 is only for machines that are on the line with baseline ?.",
    )


@pytest.mark.parametrize(
    ("updates", "identity", "texts"),
    [
        ((OCTOBER,), "KB5066835", ["KB5066835 is installed."]),
        ((OCTOBER,), "KB5064010", ["KB5064010 is older than baseline KB5066835, which contains it."]),
        (
            (OCTOBER,),
            "KB5066782",
            ["KB5066782 is a release of ('Windows Server 2022 Azure Edition',), not of Windows Server 2025."],
        ),
        ((OCTOBER,), "KB5099999", ["KB5099999 is not in the calendar, and what it does is not known."]),
        ((OCTOBER,), "KB5068966", ["Hotpatch KB5068966 builds on KB5066835, which is what the machine has."]),
        (
            BEFORE,
            "KB5068966",
            [
                "Hotpatch KB5068966 is only for machines that are on the line with baseline KB5066835.",
                "Every update installed since KB5062553 keeps the machine on the line.",
            ],
        ),
        ((OCTOBER,), "KB5070881", ["KB5070881" + _EXACTLY]),
        ((OCTOBER, update("KB5070881")), "KB5070773", ["KB5070773" + _EXACTLY]),
        ((OCTOBER, update("KB5070881")), "KB5070893", ["KB5070881" + _EXACTLY]),
        (
            BEFORE,
            "KB5066835",
            [
                "KB5066835 is a baseline; it needs a reboot.",
                "Every update installed since KB5066835 keeps the machine on the line.",
            ],
        ),
        (
            (OCTOBER, update("KB5072359")),
            "KB5068966",
            ["Whether KB5072359 (2025.11 OOB) keeps a machine on the line is not known."],
        ),
    ],
)
def test_what_an_update_would_do(updates: tuple[Update, ...], identity: str, texts: list[str]) -> None:
    (found,), _ = windows_effects(_server(*updates), CHANNEL, PROGRAM.calendar, [identity])
    assert [told for _, told in because(found.causes)] == texts
    assert [code for code, _ in because(found.causes)] == [_code(text) for text in texts]
    assert found.id == identity
    assert found.release is PROGRAM.calendar.find(CHANNEL.name, identity)


OFFER = Offer("KB5068966", "2025-11 Hotpatch", "Security Updates", needs_reboot=False)


@pytest.mark.parametrize(
    ("offer", "policy", "text"),
    [
        (OFFER, Policy(), "Updates of class Security Updates are installed."),
        (OFFER, Policy(mode="notify"), "Offered; the policy asks before it installs."),
        (
            *(OFFER, Policy(mode="manual")),
            "Installed on command alone, which is not availability-first: all machines chosen are patched at once.",
        ),
        (OFFER, Policy(exclude=("KB1", "*Hotpatch")), "Excluded by *Hotpatch; excludes win."),
        (OFFER, Policy(include=("KB506*",)), "Included by KB506*."),
        (
            *(Offer("KB1", None, "Security"), Policy(reboot="never")),
            "It needs a reboot, or it is not known that it needs none; the policy allows none.",
        ),
        (Offer("KB1"), Policy(), "Its classification is not known."),
        (Offer("KB1", None, "Drivers"), Policy(), "Updates of class Drivers are listed, not installed."),
    ],
)
def test_what_happens_with_an_offered_update(offer: Offer, policy: Policy, text: str) -> None:
    choice = choose(offer, policy)
    assert choice.offer is offer
    assert [told for _, told in because([choice.cause])] == [text]


def test_masks_are_compared_with_id_and_title_and_case_counts() -> None:
    assert choose(OFFER, Policy(exclude=("kb5068966",))).cause.code == "classification-wanted"
    assert choose(OFFER, Policy(exclude=("2025-11 *",))).cause.code == "excluded"
    assert choose(Offer("KB1", None, "Security"), Policy(exclude=("None",))).cause.code == "classification-wanted"
    for name in ("Critical", "Critical Updates", "Security", "Security Updates"):
        assert choose(Offer("KB1", None, name), Policy()).deed == "install"
        assert choose(Offer("KB1", None, name), Policy(mode="manual", include=("KB1",))).deed == "list"
    assert choose(Offer("KB1", None, "Security", True), Policy()).deed == "install"


def test_whether_something_may_start() -> None:
    start = datetime(2026, 6, 10, 20, tzinfo=UTC)
    one = Interval(start, start + timedelta(hours=2), "w")
    cases = [
        (0, 120, ("window-open", "The window is open until 2026-06-10 22:00:00+00:00.")),
        (
            *(0, 121),
            (
                "window-too-short",
                "The open window ends at 2026-06-10 22:00:00+00:00, too early for what takes 121 minutes.",
            ),
        ),
        (130, 1, ("window-closed", "No maintenance window is open.")),
    ]
    for minute, needed, expected in cases:
        decision = may_start([one], start + timedelta(minutes=minute), timedelta(minutes=needed))
        assert because([decision.cause]) == [expected]
