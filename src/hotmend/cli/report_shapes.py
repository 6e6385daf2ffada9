"""What the commands that look at the machine print with `--json`. docs/commands.md has the fields; a test compares."""

from __future__ import annotations

import msgspec

from hotmend.agent.alerts import Alert
from hotmend.agent.assessment import OldCode
from hotmend.agent.code_state import RunningImage
from hotmend.agent.restarts import Ended, Need


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
