"""What installing a release would do on Linux, asked before."""

from __future__ import annotations

import pytest

from hotmend.model.errors import InputError
from hotmend.servicing.evaluate import effects
from hotmend.servicing.facts import RunningImage
from hotmend.servicing.install import Outcome
from hotmend.servicing.install_linux import linux_effects
from hotmend.servicing.releases import Calendar, Line, calendar_rows
from tests.servicing.machines import NEW, OLD, OTHER, PROGRAM, at, because, changed, linux, machine, windows

THIRD = "dd" * 20
CHANNEL = next(channel for channel in PROGRAM.catalogue.channel if channel.name == "Debian 12")
_HEAD = (
    "product,month,label,type,restart_required,status,release_date,kb,build,requires_baseline_kb,hotpatch_line,"
    "hotpatch_line_basis,confidence,source,note,images\n"
)
CALENDAR = Calendar(
    calendar_rows(
        _HEAD
        + f"""\
Debian 12,2026-07,2026.07 B,baseline,yes,released,2026-07-14,2026-07,,,on,documented,high,manifest,,
Debian 12,2026-10,2026.10 B,baseline,yes,released,2026-10-13,2026-10,,,on,documented,high,manifest,,
Debian 12,2026-11,2026.11 B,hotpatch,no,released,2026-11-10,2026-11,,2026-10,on,documented,high,m,,{OLD}>{NEW}
Debian 12,2026-12,2026.12 B,hotpatch,no,released,2026-12-08,2026-12,,2026-10,on,documented,high,m,,{NEW}>{OTHER}
Debian 12,2026-12,2026.12 C,hotpatch,no,released,2026-12-08,2026-12-c,,2026-10,on,documented,high,m,,{OTHER}>{THIRD}
Debian 12,2026-12,2026.12 D,hotpatch,no,released,2026-12-09,orphan,,,on,documented,high,manifest,,{OTHER}>{THIRD}
Debian 12,2026-12,2026.12 S,lcu,yes,released,2026-12-08,regular,,,unknown,documented,high,manifest,,
Debian 12,2026-12,2026.12 U,unplanned_baseline,yes,released,2026-12-15,2026-12-u,,,on,documented,high,manifest,,
Debian 12,2027-02,2027.02 B,hotpatch,no,released,2027-02-09,2027-02,,2027-01,on,documented,high,manifest,,
Debian 13,2026-10,2026.10 B,baseline,yes,released,2026-10-13,trixie,,,on,documented,high,manifest,,
"""
    )
)


def _running(build_id: str | None) -> tuple[RunningImage, ...]:
    return (RunningImage("/usr/sbin/nginx", OLD, OTHER, build_id),)


@pytest.mark.parametrize(
    ("baseline", "running", "ids", "told", "line", "hotpatch"),
    [
        ("2026-10", OLD, ["2026-11"], [(Outcome.STAYS, False, "hotpatch-of-baseline")], Line.ON, "2026-11"),
        ("2026-10", OLD, ["2026-12"], [(Outcome.STAYS, False, "hotpatch-of-baseline")], Line.ON, "2026-12"),
        ("2026-10", NEW, ["2026-11"], [(Outcome.ALREADY, False, "already-installed")], Line.ON, "2026-11"),
        ("2026-10", OTHER, ["2026-11"], [(Outcome.NOT_APPLICABLE, None, "superseded-by")], Line.ON, "2026-12"),
        ("2026-10", OTHER, ["2026-12-c"], [(Outcome.STAYS, False, "hotpatch-of-baseline")], Line.ON, "2026-12-c"),
        ("2026-10", OTHER, ["orphan"], [(Outcome.NEEDS_BASELINE, None, "needs-baseline")], Line.ON, "2026-12"),
        ("2026-10", NEW, ["2026-10"], [(Outcome.ALREADY, False, "already-installed")], Line.ON, "2026-11"),
        ("2026-10", NEW, ["2026-07"], [(Outcome.NOT_APPLICABLE, None, "superseded-by")], Line.ON, "2026-11"),
        ("2026-07", OLD, ["2026-11"], [(Outcome.NEEDS_BASELINE, None, "needs-baseline")], Line.ON, ""),
        ("2026-10", OTHER, ["2027-02"], [(Outcome.NEEDS_BASELINE, None, "needs-baseline")], Line.ON, "2026-12"),
        ("2026-10", NEW, ["2026-12-u"], [(Outcome.STAYS, True, "is-baseline")], Line.ON, ""),
        ("2026-10", None, ["2026-12"], [(Outcome.UNKNOWN, None, "build-id-unknown")], Line.UNKNOWN, ""),
        ("2026-10", None, ["2026-12-u"], [(Outcome.RETURNS, True, "is-baseline")], Line.ON, ""),
        (None, OLD, ["2026-10"], [(Outcome.RETURNS, True, "is-baseline")], Line.ON, ""),
        (None, OLD, ["2026-11"], [(Outcome.UNKNOWN, None, "no-baseline-recorded")], Line.UNKNOWN, ""),
        ("2026-10", NEW, ["regular"], [(Outcome.UNKNOWN, True, "line-not-known")], Line.ON, "2026-11"),
        ("2026-10", NEW, ["nothing"], [(Outcome.UNKNOWN, None, "update-not-in-calendar")], Line.ON, "2026-11"),
        ("2026-10", NEW, ["trixie"], [(Outcome.NOT_APPLICABLE, None, "other-channel")], Line.ON, "2026-11"),
        (
            *("2026-07", OLD, ["2026-10", "2026-11"]),
            [(Outcome.STAYS, True, "is-baseline"), (Outcome.STAYS, False, "hotpatch-of-baseline")],
            *(Line.ON, "2026-11"),
        ),
        (
            *("2026-07", OLD, ["2026-11", "nothing", "2026-10"]),
            [
                (Outcome.NEEDS_BASELINE, None, "needs-baseline"),
                (Outcome.UNKNOWN, None, "update-not-in-calendar"),
                (Outcome.STAYS, True, "is-baseline"),
            ],
            *(Line.ON, ""),
        ),
    ],
)
def test_what_a_release_would_do(
    baseline: str | None,
    running: str | None,
    ids: list[str],
    told: list[tuple[str, bool | None, str]],
    line: Line,
    hotpatch: str,
) -> None:
    found, after = linux_effects(linux(baseline=baseline, images=_running(running)), CHANNEL, CALENDAR, ids)
    assert [(each.outcome, each.reboot, each.causes[0].code) for each in found] == told
    assert [each.id for each in found] == ids
    assert (after.line, after.hotpatch.id if after.hotpatch else "") == (line, hotpatch)
    assert after.pending == ()
    assert because(after.causes)


@pytest.mark.parametrize(
    ("identity", "text"),
    [
        ("2026-10", "2026-10 is installed."),
        ("2026-07", "2026-07 is not newer than 2026-11, which contains it."),
        ("2026-12", "Hotpatch 2026-12 builds on 2026-10, which is what the machine has."),
        ("2026-12-u", "2026-12-u is a baseline; it needs a reboot."),
        ("2027-02", "Hotpatch 2027-02 is only for machines that are on the line with baseline 2027-01."),
        ("orphan", "Hotpatch orphan is only for machines that are on the line with baseline ?."),
        ("regular", "Whether regular (2026.12 S) keeps a machine on the line is not known."),
    ],
)
def test_it_says_why(identity: str, text: str) -> None:
    (found,), _ = linux_effects(linux(images=_running(NEW)), CHANNEL, CALENDAR, [identity])
    assert because(found.causes)[0][1] == text
    assert found.release is CALENDAR.find("Debian 12", identity)


def test_what_is_not_known_has_the_reasons_of_the_level() -> None:
    (found,), after = linux_effects(linux(images=_running(None)), CHANNEL, CALENDAR, ["2026-12"])
    assert because(found.causes) == [("build-id-unknown", "Of 1 running images the build is not known.")]
    assert found.release is CALENDAR.find("Debian 12", "2026-12")
    assert after.causes == found.causes
    _, back = linux_effects(linux(images=_running(None)), CHANNEL, CALENDAR, ["2026-12-u"])
    assert because(back.causes) == [("is-baseline", "2026-12-u is a baseline; it needs a reboot.")]
    assert back.baseline is CALENDAR.find("Debian 12", "2026-12-u")


def test_it_is_asked_through_one_function_for_both_platforms() -> None:
    now = at("2025-10-20")
    (found,), _ = effects(machine(linux()), PROGRAM, ["2026-11"], now)
    assert found.outcome is Outcome.UNKNOWN
    (found,), _ = effects(machine(windows(revision=None)), PROGRAM, ["KB5066835"], now)
    assert found.outcome is Outcome.STAYS
    for facts in (changed(machine(windows()), windows__build=20348), changed(machine(windows()), windows__build=None)):
        with pytest.raises(InputError) as caught:
            effects(facts, PROGRAM, ["KB5066835"], now)
        assert str(caught.value) == "what an update would do can be told of machines alone whose product has a channel"
        assert caught.value.hint == (
            "hotmend check without --if-installed says which product the machine is, or what is missing to tell"
        )
