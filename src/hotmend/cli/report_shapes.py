"""What the commands that look at the machine print with `--json`. docs/commands.md has the fields; a test compares."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from hotmend.agent.census.alerts import Alert
    from hotmend.agent.census.assessment import OldCode
    from hotmend.agent.census.code_state import RunningImage
    from hotmend.agent.census.restarts import Ended, Need
    from hotmend.agent.report.timeline import Entry


class OldImageShape(msgspec.Struct, frozen=True):
    """An image of a process, and what a restart would make of it.

    Attributes:
        path: in the process's own mount namespace.
        state: as in docs/agent.md.
        build_id, effective_build_id: in memory, and whose code runs.
        disk_path, disk_build_id: what is there now; null where there is no readable ELF file.
        hotpatch: id of the one whose code runs; "" for none.
        part: that one leaves functions for the baseline.
    """

    path: str
    state: str
    build_id: str
    effective_build_id: str
    disk_path: str
    disk_build_id: str | None
    hotpatch: str
    part: bool


class OldProcessShape(msgspec.Struct, frozen=True):
    """A process that runs old code, and which."""

    pid: int
    comm: str
    images: tuple[OldImageShape, ...]


class NeedShape(msgspec.Struct, frozen=True):
    """What takes one owner's processes to the new code.

    Attributes:
        name: unit, or whatever else they belong to.
        how: `restart`, `reboot` or `by hand`.
        reason: why not a restart by hotmend; "" where it is one.
        processes: that run old code.
    """

    name: str
    how: str
    reason: str
    processes: tuple[OldProcessShape, ...]


class RestartShape(msgspec.Struct, frozen=True):
    """One restart: `restarted`, `already` or `failed`."""

    unit: str
    outcome: str
    detail: str


class RestartsShape(msgspec.Struct, frozen=True):
    """`restarts`: all that is due.

    Attributes:
        restarts: in the order in which they are safe.
        others: what hotmend does not restart.
        reboot: why a reboot is due besides.
        done: with `--do`: what was restarted.
    """

    restarts: tuple[NeedShape, ...]
    others: tuple[NeedShape, ...]
    reboot: tuple[str, ...]
    done: tuple[RestartShape, ...]


class AlertShape(msgspec.Struct, frozen=True):
    """What is not as it should be, and what that rests on."""

    alert: str
    sentence: str
    subjects: tuple[str, ...]


class MetricShape(msgspec.Struct, frozen=True):
    """`metrics`: one value."""

    metric: str
    labels: dict[str, str]
    value: float


class NagiosShape(msgspec.Struct, frozen=True):
    """`nagios`: how the machine is, and why."""

    level: str
    alerts: tuple[AlertShape, ...]


class TimelineShape(msgspec.Struct, frozen=True):
    """`timeline`: one thing that happened.

    Attributes:
        at: UTC, ISO 8601.
        source: `history`, `audit`, `units` or `kernel`.
        text: what, for people.
        units, pids: that it is about.
        audit_line: number of the line of the audit record; 0 for others.
    """

    at: str
    source: str
    text: str
    units: tuple[str, ...]
    pids: tuple[int, ...]
    audit_line: int


class PlaceShape(msgspec.Struct, frozen=True):
    """`explain`: one image of one process, and on what that rests.

    Attributes:
        pid, comm, owner: the process, and whom it belongs to.
        path, state, build_id, effective_build_id, disk_path, disk_build_id: as for `restarts`.
        fixed: whether the process has what was asked for.
        hotpatch, package, version: of the hotpatch whose code runs, and the version that it brings; "" for none.
        since: when that was placed, UTC; "" for none.
        update, release: of the history that brought it; "" where it has none.
        audit_lines: numbers of lines of the audit record about this hotpatch in this process.
        withdrawn: update and reason, where its publisher has withdrawn it; "" where it stands.
    """

    pid: int
    comm: str
    owner: str
    path: str
    state: str
    build_id: str
    effective_build_id: str
    disk_path: str
    disk_build_id: str | None
    fixed: bool
    hotpatch: str
    package: str
    version: str
    since: str
    update: str
    release: str
    audit_lines: tuple[int, ...]
    withdrawn: str = ""


class ExplainShape(msgspec.Struct, frozen=True):
    """`explain`: what is known of a CVE, a process, a unit or a file.

    Attributes:
        subject, kind: what was asked: `cve`, `process`, `unit` or `file`.
        answer: in one sentence.
        was_it_us: `yes`, `possible`, `no`, `unknown`, or "" where nothing ended.
        why: on what that rests.
        places: in memory now.
        disk: package and version of files on the disk.
        events: of history, audit record, units and kernel.
    """

    subject: str
    kind: str
    answer: str
    was_it_us: str
    why: str
    places: tuple[PlaceShape, ...]
    disk: tuple[str, ...]
    events: tuple[TimelineShape, ...]


class SupportShape(msgspec.Struct, frozen=True):
    """`support`: where the bundle is, and its size in bytes."""

    file: str
    size: int


class VexShape(msgspec.Struct, frozen=True):
    """`vex`: what is said of one CVE of one package."""

    cve: str
    package: str
    version: str
    status: str
    sentence: str
    since: str


def entry_shape(entry: Entry) -> TimelineShape:
    """Return something that happened as `--json` has it."""
    return TimelineShape(
        entry.at.isoformat(timespec="milliseconds"),
        entry.source,
        entry.text,
        tuple(sorted(entry.units)),
        tuple(sorted(entry.pids)),
        entry.line,
    )


def alert_shape(alert: Alert) -> AlertShape:
    """Return an alert as `--json` has it."""
    return AlertShape(alert.code.value, alert.sentence, alert.subjects)


def image_shape(image: RunningImage) -> OldImageShape:
    """Return an image as `--json` has it."""
    return OldImageShape(
        image.path,
        image.state.value,
        image.build_id,
        image.effective_build_id,
        image.disk_path,
        image.disk_build_id,
        image.patch.id if image.patch else "",
        image.patch is not None and image.patch.part,
    )


def old_shape(old: OldCode) -> OldProcessShape:
    """Return a process with old code as `--json` has it."""
    return OldProcessShape(old.pid, old.comm, tuple(map(image_shape, old.images)))


def need_shape(need: Need) -> NeedShape:
    """Return what is due as `--json` has it."""
    return NeedShape(need.name, need.how.value, need.reason, tuple(map(old_shape, need.processes)))


def ended_shape(ended: Ended) -> RestartShape:
    """Return a restart as `--json` has it."""
    return RestartShape(ended.unit, ended.outcome, ended.detail)
