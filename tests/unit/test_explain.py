"""What is known of a CVE, a process, a unit or a file, and whether it was us; and the timeline that it rests on."""

from __future__ import annotations

import functools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotmend.agent.census.assessment import RunningProcess
from hotmend.agent.record.history import (
    Action,
    AnyEvent,
    ChangedProcess,
    Crashed,
    DiskBegan,
    DiskEnded,
    Ordered,
    Rebooting,
    Restarted,
)
from hotmend.agent.report.explain import NEAR, Explanation, Known, Ours, explain
from hotmend.agent.report.system_log import BROKEN, STARTED, STOPPED, CrashEvent, UnitEvent, parse_journal
from hotmend.agent.report.telling import told
from hotmend.agent.report.timeline import merge, since_when
from hotmend.live.chain import AuditRecord
from hotmend.model.errors import UsageError
from hotmend.servicing.actions import State
from tests.unit.test_assessment import NEW, NEXT, NGINX, PATCH, REDIS, image, process

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
CVE = PATCH.cves[0]
SHADOW = (0x7000, 0x8000)


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def record(number: int, minutes: float, pid: int, phase: str = "after") -> AuditRecord:
    return AuditRecord(
        number, "", ago(minutes).isoformat(), phase, deed="apply", pid=pid, start_time_ticks=7, hotpatches=(PATCH.id,)
    )


def action(minutes: float, pid: int, release: str = "") -> Action:
    changed = (ChangedProcess(pid, 7, "nginx", "nginx.service", (SHADOW,)),)
    return Action(
        at=ago(minutes), run="r", update="nginx=2", state=State.SUCCEEDED, cves=PATCH.cves, hotpatches=(PATCH.id,),
        release=release, changed=changed,
    )  # fmt: skip


def known(
    *processes: RunningProcess,
    history: tuple[AnyEvent, ...] = (),
    audit: tuple[AuditRecord, ...] = (),
    units: tuple[UnitEvent, ...] = (),
    crashes: tuple[CrashEvent, ...] = (),
) -> Known:
    entries = merge(history, audit, units, crashes, ago(1e6))
    return Known(processes, history, audit, entries, units, crashes, lambda path: f"of {path}")


def ended(minutes: float, unit: str = "nginx.service") -> UnitEvent:
    return UnitEvent(ago(minutes), unit, BROKEN, "killed 11")


def test_a_cve_is_fixed_where_a_hotpatch_or_its_build_runs() -> None:
    seen = known(
        process(5, image(patch=PATCH)), process(6, image(NEW, NEW)), process(8, image(NEXT, NEXT)), process(9, image()),
        history=(action(10, 5, "2026-11"),), audit=(record(3, 10, 5), record(4, 10, 6)),
    )  # fmt: skip
    found = explain(CVE.lower(), seen)
    assert [(place.process.pid, place.fixed) for place in found.places] == [
        (5, True),
        (6, True),
        (8, False),
        (9, False),
    ]
    assert "2 of 4 places" in found.answer
    first = found.places[0]
    assert (first.update, first.release, first.audit_lines, first.since) == (
        "nginx=2", "2026-11", (3,), "1970-01-01T00:00:01+00:00",
    )  # fmt: skip
    assert len(found.entries) == 1
    assert found.known


PATH = "usr/lib/libcrypto.so.3"


def brought(minutes: float, pid: int) -> Action:
    """Return the line of a hotpatch that a release brought, with what it was for."""
    return msgspec.structs.replace(
        action(minutes, pid, "2026-11"), images=(PATH,), new_builds=(NEW,), brings="openssl=3.0.18"
    )


def after_a_start(*events: UnitEvent, history: tuple[AnyEvent, ...] = (), runs: str = NEW) -> Explanation:
    """Ask for the CVE when the process that had it in memory is gone and another one runs a build from the disk."""
    seen = known(process(6, image(runs, runs)), history=(brought(60, 5), *history), units=events)
    seen = replace(seen, package_of=lambda path: "openssl 3.0.19", build_at=lambda path: runs)
    return explain(CVE, seen)


def stop(minutes: float) -> UnitEvent:
    return UnitEvent(ago(minutes), "nginx.service", STOPPED, "")


def test_after_a_restart_onto_the_fixed_file_it_tells_where_it_was_before_and_who_did_it() -> None:
    found = after_a_start(stop(50))
    assert "fixed on the disk, and by a start from there in all 1 places" in found.answer
    assert f"it was in memory by 2026-11 from {ago(60).isoformat(timespec='seconds')}" in found.answer
    assert (found.ours, "hotmend asked for nothing" in found.why) == (Ours.NO, True)
    assert [place.fixed for place in found.places] == [True]
    began, done = DiskBegan(at=ago(51), updates=("nginx=2",), held=()), DiskEnded(at=ago(49), updates=("nginx=2",))
    assert after_a_start(stop(50), history=(began, done)).ours is Ours.YES
    assert after_a_start(stop(50), history=(Restarted(at=ago(51), unit="nginx.service", outcome=""),)).ours is Ours.YES
    assert after_a_start(ended(50), stop(49.9)).ours is Ours.NO  # it had failed: nobody asked
    assert after_a_start(history=(Rebooting(at=ago(51), reasons=()),)).ours is Ours.YES
    assert after_a_start().ours is Ours.UNKNOWN


def test_a_later_package_has_it_too_and_an_older_file_has_not() -> None:
    assert [place.fixed for place in after_a_start(runs=NEXT).places] == [True]
    seen = known(process(6, image()), history=(brought(60, 5),))
    for package in ("openssl 3.0.17", "openssl not a version", "other 3.0.19", ""):
        old = replace(seen, package_of=functools.partial(str.format, package), build_at=lambda path: image().build_id)
        assert [place.fixed for place in explain(CVE, old).places] == [False]
    elsewhere = replace(seen, package_of=lambda path: "openssl 3.0.19", build_at=lambda path: NEXT)
    assert "fixed in 0 of 1 places" in explain(CVE, elsewhere).answer


def test_a_cve_that_nobody_knows() -> None:
    found = explain("CVE-2020-1234", known(process(5, image(patch=PATCH))))
    assert (found.known, found.places) == (False, ())


def test_a_process_that_began_anew_with_an_old_number_has_no_lines_of_the_other() -> None:
    other = RunningProcess(5, "nginx", 8, NGINX, (image(patch=PATCH),))
    (place,) = explain("5", known(other, audit=(record(3, 10, 5),))).places
    assert place.audit_lines == ()


def test_a_file() -> None:
    found = explain("/usr/lib/libcrypto.so.3", known(process(5, image(patch=PATCH)), process(6, image(disk=NEW))))
    assert (len(found.places), found.answer) == (
        2, "mapped by 2 processes: 1 run new code by a hotpatch, 1 run old code",
    )  # fmt: skip
    assert found.disk == ("of /usr/lib/libcrypto.so.3",)


def of_unit(**records: tuple[object, ...]) -> Explanation:
    return explain("nginx", known(process(5, image(patch=PATCH)), **records))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("records", "ours", "words"),
    [
        ({"units": (ended(5),)}, Ours.NO, "no change of ours within 15 minutes"),
        ({"units": (ended(5),), "audit": (record(3, 8, 5),)}, Ours.POSSIBLE, "lines 3 of the audit record"),
        ({"units": (ended(5),), "audit": (record(3, 4, 5),)}, Ours.NO, ""),
        ({"units": (ended(5),), "audit": (record(3, 21, 5),)}, Ours.NO, ""),
        ({"units": (ended(5),), "audit": (record(3, 8, 77),)}, Ours.NO, ""),
        ({"units": (ended(5),), "audit": (record(3, 8, 77),), "history": (action(8, 77),)}, Ours.POSSIBLE, ""),
        ({"units": (ended(5, "redis.service"),)}, None, "nothing of it ended"),
        (
            {"units": (ended(5),), "history": (Restarted(at=ago(5.1), unit="nginx.service", outcome=""),)},
            Ours.YES,
            "hotmend restarted it",
        ),
        (
            {
                "units": (ended(5),),
                "history": (Crashed(at=ago(4), pid=5, comm="nginx", unit="nginx.service", address=1, ours=True),),
            },
            Ours.YES,
            "a crash in new code",
        ),
        (
            {
                "units": (ended(5),),
                "history": (Crashed(at=ago(4), pid=5, comm="nginx", unit="nginx.service", address=1, ours=False),),
            },
            Ours.NO,
            "",
        ),
    ],
)
def test_was_it_us(records: dict[str, tuple[object, ...]], ours: Ours | None, words: str) -> None:
    found = of_unit(**records)
    assert found.ours is ours
    assert words in found.why


@pytest.mark.parametrize(
    ("address", "comm", "file", "ours"),
    [
        (0x7123, "nginx", "", Ours.YES),
        (0x7123, "its-thread", "", Ours.YES),
        (0x8000, "nginx", "", Ours.POSSIBLE),
        (0x7123, "other", "python3.11", Ours.POSSIBLE),
    ],
)
def test_a_process_that_crashed_is_judged_by_its_address(address: int, comm: str, file: str, ours: Ours) -> None:
    crash = CrashEvent(ago(2), 5, comm, "segfault", address, file)
    found = explain("5", known(history=(action(8, 5),), audit=(record(3, 8, 5),), crashes=(crash,)))
    assert found.ours is ours
    assert "it is gone: " in found.answer


def test_processes_that_are_gone_without_a_trace() -> None:
    assert explain("5", known()).known is False
    found = explain("5", known(audit=(record(3, 8, 5),)))
    assert (found.ours, "line 3" in found.why) == (Ours.UNKNOWN, True)


@settings(deadline=None)  # a busy machine is no mistake
@given(st.integers(-60, 60))
def test_only_a_change_shortly_before_may_have_to_do_with_it(minutes: int) -> None:
    found = of_unit(units=(ended(60),), audit=(record(3, 60 + minutes, 5),))
    assert (found.ours is Ours.POSSIBLE) == (timedelta(0) <= timedelta(minutes=minutes) <= NEAR)


@settings(deadline=None)  # a busy machine is no mistake
@given(st.lists(st.tuples(st.floats(0, 300), st.sampled_from(["history", "audit", "units", "kernel"])), max_size=20))
def test_the_timeline_is_in_order_and_complete(things: list[tuple[float, str]]) -> None:
    since = ago(150)
    entries = merge(
        [action(m, 5) for m, kind in things if kind == "history"],
        [record(n, m, 5) for n, (m, kind) in enumerate(things, 1) if kind == "audit"],
        [UnitEvent(ago(m), "a.service", STARTED, "") for m, kind in things if kind == "units"],
        [CrashEvent(ago(m), 5, "x", "segfault", 1) for m, kind in things if kind == "kernel"],
        since,
    )
    assert [entry.at for entry in entries] == sorted(entry.at for entry in entries)
    assert len(entries) == sum(ago(minutes) >= since for minutes, _ in things)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2h", NOW - timedelta(hours=2)),
        ("30m", ago(30)),
        ("3d", NOW - timedelta(days=3)),
        ("2026-11-29T08:00+00:00", datetime(2026, 11, 29, 8, tzinfo=UTC)),
    ],
)
def test_since(text: str, moment: datetime) -> None:
    assert since_when(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "yesterday", "2", "-2h"])
def test_since_what(text: str) -> None:
    with pytest.raises(UsageError):
        since_when(text, NOW)


def test_the_journal() -> None:
    lines = [
        '{"__REALTIME_TIMESTAMP":"1795953600000000","MESSAGE_ID":"39f53479d3a045ac8e11786248231fbf","UNIT":"a.service"}',
        '{"__REALTIME_TIMESTAMP":"1795953600000000","MESSAGE_ID":"98e322203f7a4ed290d09fe03c09fe15","UNIT":"a.service",'
        '"EXIT_CODE":"killed","EXIT_STATUS":"11"}',
        '{"__REALTIME_TIMESTAMP":"x","MESSAGE_ID":"39f53479d3a045ac8e11786248231fbf","UNIT":"a.service"}',
        '{"MESSAGE":"else"}',
        "nonsense",
    ]
    assert [str(event) for event in parse_journal(iter(lines))] == [
        "a.service: started",
        "a.service: a process ended: killed 11",
    ]


def test_owners_of_other_units_are_left_out() -> None:
    other = RunningProcess(6, "redis", 1, REDIS, (image(patch=PATCH),))
    assert [
        place.process.pid for place in explain("nginx.service", known(process(5, image(patch=PATCH)), other)).places
    ] == [5]


@pytest.mark.parametrize(
    ("order", "sentence"),
    [
        (Ordered(order="1", kind="assess"), "the server asks: assess"),
        (Ordered(order="1", kind="install", reason="now"), "the server asks: install all that waits: now"),
        (Ordered(order="1", kind="revert"), "the server asks: revert all that was brought"),
        (Ordered(order="1", kind="revert", updates=("nginx=2",)), "the server asks: revert nginx=2"),
        (Ordered(order="1", kind="undo", undoes="7"), "the server asks: undo what its order 7 brought"),
    ],
)
def test_an_order_without_updates_is_about_all_and_not_about_nothing(order: Ordered, sentence: str) -> None:
    assert told(order) == sentence
