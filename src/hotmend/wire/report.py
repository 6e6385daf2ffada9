"""What a machine says of itself. It is sent when it has changed, and known by its hash otherwise."""

from __future__ import annotations

import hashlib
from datetime import date
from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

REPORT_BYTES_MAX: Final = 1 << 20
FACTS_BYTES_MAX: Final = 512 << 10
RELEASE_LETTERS_MAX: Final = 90
"""Of a release's name, where a known issue of it is reported."""

Text = Annotated[str, Meta(max_length=500)]
Texts = Annotated[tuple[Text, ...], Meta(max_length=2000)]
Count = Annotated[int, Meta(ge=0, le=1 << 53)]


DUE: Final = frozenset({"update-waiting", "restart-due", "reboot-due", "fixed-in-memory-old-on-disk"})
"""Codes of notices that say what is due. They are no sign that a machine is ill: what came into memory alone is due on
the disk, and what waits may have been published meanwhile.
"""

OF_SERVER: Final = frozenset({"server-silent", "policy-ends", "reverted-by-server"})
"""Codes of notices on what the server does or leaves: somebody has to look, and no update made the machine ill."""


class Fixed(StrEnum):
    """Where the fix of a vulnerability is, for one image of one process."""

    IN_MEMORY = "in-memory"
    """The process runs the fixed code; the file on the disk is old."""
    EVERYWHERE = "everywhere"
    """The process runs the fixed code, and so does what begins anew."""
    ON_DISK = "on-disk"
    """The file on the disk is new; this process runs the old one."""
    NOWHERE = "nowhere"
    """An update waits. A word of a later version counts as this: nothing is taken for fixed that may not be."""

    @classmethod
    def _missing_(cls, value: object) -> Fixed:  # noqa: ARG003 - whatever it is
        return cls.NOWHERE


class Finding(msgspec.Struct, frozen=True):
    """One vulnerability in one process.

    Attributes:
        cve: which; "" where the update names none.
        fixed: where its fix is.
        pid: 0 where no process runs the code.
        comm, unit: which process; "" for none.
        image: file whose code it is.
        brings: PACKAGE=VERSION that brings the fix.
    """

    cve: Text
    fixed: Fixed
    pid: Count = 0
    comm: Text = ""
    unit: Text = ""
    image: Text = ""
    brings: Text = ""


class Prerequisite(msgspec.Struct, frozen=True):
    """A prerequisite: whether it holds (None: not known), and why."""

    name: Text
    holds: bool | None
    why: Text = ""


class Notice(msgspec.Struct, frozen=True):
    """Something that is not as it should be: code and sentence."""

    code: Text
    sentence: Text


class Quarantine(msgspec.Struct, frozen=True):
    """An update that this machine does not take, and why."""

    update: Text
    reason: Text = ""


class Managed(msgspec.Struct, frozen=True):
    """What else manages updates on the machine: its name, as facts have it, and what was seen of it."""

    name: Text
    detail: Text = ""


class IssueStep(msgspec.Struct, frozen=True):
    """One step of a workaround: what to do, exactly how, and whether it is proven to be done (None: not known)."""

    title: Text
    proven: bool | None = None
    commands: Annotated[tuple[Text, ...], Meta(max_length=50)] = ()
    reboot: bool = False


class IssueOption(msgspec.Struct, frozen=True):
    """One complete workaround, its steps in order; of several, one is enough."""

    title: Text
    steps: Annotated[tuple[IssueStep, ...], Meta(max_length=50)] = ()

    @property
    def done(self) -> bool:
        """Every step is proven, and there is one."""
        return bool(self.steps) and all(step.proven is True for step in self.steps)


class Issue(msgspec.Struct, frozen=True):
    """A known issue of a channel's release, as the machine itself found that it is concerned.

    Attributes:
        id: RELEASE/NUMBER.
        title: what goes wrong.
        affected: True, or None: cannot be told.
        cost: of doing nothing.
        deadline: a workaround must be complete before this day.
        overdue: it is not, and the day has come.
        options: workarounds.
    """

    id: Annotated[str, Meta(pattern=rf"\A[a-z0-9][a-z0-9.-]{{0,{RELEASE_LETTERS_MAX - 1}}}/[0-9]{{1,9}}\Z")]
    title: Text
    affected: bool | None
    cost: Text = ""
    deadline: date | None = None
    overdue: bool = False
    options: Annotated[tuple[IssueOption, ...], Meta(max_length=20)] = ()

    @property
    def done(self) -> bool:
        """One of its workarounds is complete."""
        return any(option.done for option in self.options)


class Report(msgspec.Struct, frozen=True):
    """One machine.

    Attributes:
        release: name and version of its operating system.
        kernel: that runs.
        architecture: as the kernel calls it.
        zone: IANA name of its time zone; "": not known.
        agent: version of hotmend.
        mode: in force.
        level: update level, for people: baseline and hotpatch; "" where none is known.
        line: `on`, `off` or `unknown`.
        enrollment: state of `servicing.enrollment`; "" where it is not known.
        why: what level and enrollment rest on.
        prerequisites: as `hotmend doctor` finds them.
        findings: each vulnerability in each process.
        waiting: updates that are offered.
        restarts: units that run old code.
        reboot: why a reboot is due.
        restarts_avoided, reboots_avoided: until now. Debian's kernel is not hot-patched: no reboot of it is claimed.
        alerts: what is not as it should be.
        quarantined: what is not taken.
        held: the hold in force; "" for none.
        last_run: end of the last run: state and detail; "" for none.
        facts: that a Windows machine is judged by, JSON; empty where the machine sends none.
        managers: what else manages updates on it.
        left_out: updates that are offered and missing, and that its policy or quarantine keep out.
        issues: known issues of its channel's releases that concern it.
    """

    release: Text
    kernel: Text
    architecture: Text
    zone: Text = ""
    agent: Text = ""
    mode: Text = ""
    level: Text = ""
    line: Text = "unknown"
    enrollment: Text = ""
    why: Texts = ()
    prerequisites: Annotated[tuple[Prerequisite, ...], Meta(max_length=200)] = ()
    findings: Annotated[tuple[Finding, ...], Meta(max_length=5000)] = ()
    waiting: Texts = ()
    restarts: Texts = ()
    reboot: Texts = ()
    restarts_avoided: Count = 0
    reboots_avoided: Count = 0
    alerts: Annotated[tuple[Notice, ...], Meta(max_length=200)] = ()
    quarantined: Annotated[tuple[Quarantine, ...], Meta(max_length=1000)] = ()
    held: Text = ""
    last_run: Text = ""
    facts: Annotated[bytes, Meta(max_length=FACTS_BYTES_MAX)] = b""
    managers: Annotated[tuple[Managed, ...], Meta(max_length=50)] = ()
    left_out: Texts = ()
    issues: Annotated[tuple[Issue, ...], Meta(max_length=100)] = ()


_encoder: Final = msgspec.json.Encoder()


def report_hash(report: Report) -> str:
    """Return what a report is known by: SHA-256 of its JSON."""
    return hashlib.sha256(_encoder.encode(report)).hexdigest()
