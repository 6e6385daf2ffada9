"""Property: whatever is installed in whatever order, the level is one that the facts carry."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hotmend.servicing.facts import RunningImage
from hotmend.servicing.install import Outcome, windows_effects
from hotmend.servicing.install_linux import linux_effects
from hotmend.servicing.level import linux_level
from hotmend.servicing.releases import Calendar, Kind, Line, Release, calendar_rows
from tests.servicing.machines import BUSY, PROGRAM, linux, update, windows

_SKIPPED = {Outcome.ALREADY, Outcome.NOT_APPLICABLE, Outcome.NEEDS_BASELINE}
CHANNEL = PROGRAM.catalogue.channel[0]
RELEASES = {release.id: release for release in PROGRAM.calendar.releases(CHANNEL.name) if release.id}
_IDS = st.lists(st.sampled_from([*RELEASES, "KB5099999", "KB5066782"]), max_size=6)


@BUSY
@given(_IDS, _IDS)
def test_windows(before: list[str], then: list[str]) -> None:
    machine = windows(*(update(kb) for kb in dict.fromkeys(before)), updates_since=None, revision=None)
    effects, after = windows_effects(machine, CHANNEL, PROGRAM.calendar, then)
    assert [each.id for each in effects] == then
    installed = {*(before or [each.kb for each in machine.updates or ()])}
    installed |= {each.id for each in effects if each.outcome not in _SKIPPED}
    # The history is not known to be complete: nothing is ever proven to be on the line, and nothing harmful is missed.
    assert after.line is not Line.ON
    for carried in (after.baseline, after.hotpatch):
        assert carried is None or carried.id in installed
    if after.hotpatch is not None:
        assert after.baseline is not None
        assert after.hotpatch.requires in {after.baseline.id, "KB5066835", "KB5070893"}


@BUSY
@given(_IDS)
def test_windows_from_the_line(then: list[str]) -> None:
    effects, after = windows_effects(windows(revision=None), CHANNEL, PROGRAM.calendar, then)
    installed = [RELEASES[each.id] for each in effects if each.outcome not in _SKIPPED and each.id in RELEASES]
    strangers = [each.id for each in effects if each.outcome not in _SKIPPED and each.id not in RELEASES]
    if after.line is Line.ON:
        assert after.baseline is not None
        since = [each for each in installed if each.day > after.baseline.day]
        assert strangers == []
        assert all(_keeps(each) for each in since)
    elif not strangers:
        assert any(not _keeps(each) for each in installed)


def _keeps(release: Release) -> bool:
    """Say whether a release keeps machines on the line, by the calendar and the exact set of October 2025."""
    if release.month == "2025-10":
        return release.id in {"KB5066835", "KB5070893"}
    return release.line is Line.ON


_BUILDS = [f"{letter * 2}" * 20 for letter in "abcdef"]


@st.composite
def _channels(draw: st.DrawFn) -> Calendar:
    """Return a channel of two baselines and hotpatches that lead from build to build."""
    rows = ["Debian 12,2026-10,2026.10 B,baseline,yes,released,2026-10-01,base-1,,,on,documented,high,m,,"]
    rows.append("Debian 12,2027-01,2027.01 B,baseline,yes,released,2027-01-01,base-2,,,on,documented,high,m,,")
    for number in range(draw(st.integers(0, 5))):
        base = draw(st.sampled_from(["base-1", "base-2"]))
        year, month = ("2026", "11") if base == "base-1" else ("2027", "02")
        old, new = draw(st.sampled_from(_BUILDS)), draw(st.sampled_from(_BUILDS))
        rows.append(
            f"Debian 12,{year}-{month},x,hotpatch,no,released,{year}-{month}-{number + 1:02},hot-{number},,{base},on,"
            f"documented,high,m,,{old}>{new}"
        )
    head = (
        "product,month,label,type,restart_required,status,release_date,kb,build,requires_baseline_kb,hotpatch_line,"
        "hotpatch_line_basis,confidence,source,note,images\n"
    )
    return Calendar(calendar_rows(head + "\n".join(rows) + "\n"))


@BUSY
@given(
    _channels(),
    st.sampled_from(["base-1", "base-2", None]),
    st.lists(st.sampled_from([*_BUILDS, None]), max_size=3),
    st.lists(st.sampled_from(["base-1", "base-2", "hot-0", "hot-1", "hot-2", "hot-3"]), max_size=5),
)
def test_linux(calendar: Calendar, baseline: str | None, running: list[str | None], then: list[str]) -> None:
    images = tuple(RunningImage("/x", effective_build_id=build) for build in running)
    channel = next(each for each in PROGRAM.catalogue.channel if each.name == "Debian 12")
    facts = linux(baseline=baseline, images=images)
    level = linux_level(facts, channel, calendar)
    assert (level.baseline.id if level.baseline else None) == baseline
    if None in running or baseline is None:
        assert level.line is Line.UNKNOWN
    if level.hotpatch is not None:
        assert level.hotpatch.requires == baseline
        assert not level.hotpatch.images.keys() & {*running, None}
    effects, after = linux_effects(facts, channel, calendar, then)
    assert [each.id for each in effects] == then
    taken = {each.id for each in effects if each.outcome in {Outcome.STAYS, Outcome.RETURNS}}
    for carried, was in ((after.baseline, level.baseline), (after.hotpatch, level.hotpatch)):
        assert carried is None or carried == was or carried.id in taken
    if after.hotpatch is not None:
        assert after.baseline is not None
        assert after.hotpatch.requires == after.baseline.id
        assert after.hotpatch.kind is Kind.HOTPATCH
