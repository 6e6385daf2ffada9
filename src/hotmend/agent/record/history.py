"""What the agent did on this machine and why, one JSON object a line: the journal and the history in one file.

A line is on the disk before what it announces is done, so that a run that was killed can be told from its last line and
from memory. Lines are never changed and never expire.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from hotmend.servicing.actions import State
from hotmend.wire.report import Issue

LINE_BYTES_MAX: Final = 4 << 20

Seen = tuple[int | str, ...]
"""What a probe keeps of before a change."""
Moment = Annotated[datetime, Meta(tz=True)]


class ChangedProcess(msgspec.Struct, frozen=True):
    """A process that runs new code.

    Attributes:
        pid, start_time_ticks, comm, unit: which.
        shadows: ranges of load addresses of its new code, for telling whose a crash was.
    """

    pid: int
    start_time_ticks: int
    comm: str
    unit: str
    shadows: tuple[tuple[int, int], ...] = ()


class OldProcess(msgspec.Struct, frozen=True):
    """A process that runs old code still; `part`: only what the hotpatch leaves for the baseline."""

    pid: int
    comm: str
    unit: str
    images: tuple[str, ...]
    part: bool


class Event(msgspec.Struct, frozen=True, tag_field="event", kw_only=True):
    """What all lines have.

    Attributes:
        at: when, UTC.
        run: id of the run it belongs to; "" for none.
    """

    at: Moment = datetime(1970, 1, 1, tzinfo=UTC)
    run: str = ""


class AgentBegan(Event, frozen=True, tag="agent-began"):
    """The agent was started; `boot` is the kernel's id of the boot."""

    version: str
    mode: str
    boot: str


class Withdrawn(msgspec.Struct, frozen=True):
    """An update that was taken here, and its publisher's reason to withdraw it since.

    Attributes:
        update: as its action had it.
        reason: as its publisher says.
        hotpatches: their ids; memory says where they run.
    """

    update: str
    reason: str
    hotpatches: tuple[str, ...]


class Waiting(msgspec.Struct, frozen=True):
    """What is known of an update that waits.

    Attributes:
        update: as PACKAGE=VERSION or a release's id and file.
        cves: that it fixes.
        builds: whose code it replaces.
        brings: PACKAGE=VERSION.
    """

    update: str
    cves: tuple[str, ...]
    builds: tuple[str, ...] = ()
    brings: str = ""


class Lost(msgspec.Struct, frozen=True):
    """A fix that was in memory here, and that processes run without.

    Attributes:
        update: as its action had it.
        cves: that it fixed.
        processes: as NAME (PID).
    """

    update: str
    cves: tuple[str, ...]
    processes: tuple[str, ...]


class Assessed(Event, frozen=True, tag="assessed"):
    """An assessment.

    Attributes:
        waiting: updates that are offered, as PACKAGE=VERSION or a release's id.
        restarts: units that run old code.
        reboot: why a reboot is due; empty where none is.
        alerts: codes of what is not as it should be.
        log_from: number of the first record of the kernel's log that has not been read for crashes; each boot counts
            from 0.
        lost: fixes that were in memory and are not any more, as after a reboot onto an old disk.
        withdrawn: updates that were taken here and are withdrawn.
        known: of those that wait or are left out, what their publisher says of them.
        line, level, why: where the machine is in its channel, as `agent.line` has it.
        ill: what health probes say that say no.
        left_out: updates that are offered and missing, and that policy or quarantine keep out.
        issues: known issues of the channel's releases that concern the machine.
    """

    waiting: tuple[str, ...]
    restarts: tuple[str, ...]
    reboot: tuple[str, ...]
    alerts: tuple[str, ...] = ()
    log_from: int = 0
    lost: tuple[Lost, ...] = ()
    withdrawn: tuple[Withdrawn, ...] = ()
    known: tuple[Waiting, ...] = ()
    line: str = "unknown"
    level: str = ""
    why: tuple[str, ...] = ()
    ill: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    issues: tuple[Issue, ...] = ()


class AssessedAgain(Event, frozen=True, tag="assessed-again"):
    """An assessment that saw what the last one saw: a line of a hundred bytes an hour, for years. Read as that one."""

    log_from: int = 0


class RunBegan(Event, frozen=True, tag="run-began"):
    """A run.

    Attributes:
        trigger: `schedule`, `command`, `order`, `upgrade`, `apt`, or `crash` where new code is taken back for one.
        source: `apt`, or the channel.
        updates: what it is about, in order.
        until: end of the window it keeps to; None: it keeps to none.
        boot: the kernel's id of the boot; "" where a version wrote the line that did not say.
        log_from: number of the first record of the kernel's log that came after it had begun.
    """

    trigger: str
    source: str
    updates: tuple[str, ...]
    until: Moment | None
    boot: str = ""
    log_from: int = 0


class RunState(Event, frozen=True, tag="run-state"):
    """A run as a whole comes to a state.

    Attributes:
        state: which.
        detail: why, for people.
        watched: at `PRE_EVENT`, what probes saw before anything was changed, by their names.
    """

    state: State
    detail: str = ""
    watched: tuple[tuple[str, Seen], ...] = ()


class Action(Event, frozen=True, tag="action"):
    """An action comes to a state.

    Attributes:
        update: which, as PACKAGE=VERSION or a release's id and file.
        state: about to be done, or how it ended.
        detail: why, for people.
        cves: what the update fixes.
        hotpatches, old_builds: ids and the builds they apply to, from `APPLYING` on: what memory is looked at for
            after a crash, and before the update is taken up again.
        release: of a channel that it came by; "" for none.
        brings: PACKAGE=VERSION, whatever the source.
        images, new_builds: paths that the hotpatches are for, in their package, and the builds whose code they bring.
        changed: processes that run the new code, at the end.
        old: processes that run old code still, at the end.
        watched: from `APPLYING` on, what was seen of the units concerned before anything was changed.
        file: SHA-256 of the channel's bundle, by which a later release that holds it too is known; "" for none.
        cut_off: its run was: what is old still was perhaps never tried.
    """

    update: str
    state: State
    detail: str = ""
    cves: tuple[str, ...] = ()
    hotpatches: tuple[str, ...] = ()
    old_builds: tuple[str, ...] = ()
    release: str = ""
    brings: str = ""
    images: tuple[str, ...] = ()
    new_builds: tuple[str, ...] = ()
    changed: tuple[ChangedProcess, ...] = ()
    old: tuple[OldProcess, ...] = ()
    watched: tuple[tuple[str, Seen], ...] = ()
    file: str = ""
    cut_off: bool = False

    @property
    def says_of_memory(self) -> bool:
        """Whether it takes the place of what was said before of its new code; what was blocked has changed nothing."""
        return bool(self.hotpatches) and self.state is not State.BLOCKED

    @property
    def runs(self) -> bool:
        """Whether processes run its new code: it ended well, or could not be taken back from them."""
        return self.state.good or bool(self.changed)


class DiskBegan(Event, frozen=True, tag="disk-began"):
    """The package manager is about to install."""

    updates: tuple[str, ...]
    held: tuple[str, ...]


class DiskLeft(Event, frozen=True, tag="disk-left"):
    """Updates stay off the disk.

    Attributes:
        updates: which.
        because: apt would bring these, which are in quarantine, as PACKAGE=VERSION; empty where it is for the moment.
        why: a hold, the end of the window, or a restart; "" where it is for `because`.
        restart: to install them takes restarts that are not wanted now.
    """

    updates: tuple[str, ...]
    because: tuple[str, ...]
    why: str = ""
    restart: bool = False


class DiskEnded(Event, frozen=True, tag="disk-ended"):
    """It has; `error` is why not, "" where it has."""

    updates: tuple[str, ...]
    error: str = ""


class RunEnded(Event, frozen=True, tag="run-ended"):
    """A run is over; `outcome` is the worst of its actions' states."""

    outcome: State
    detail: str = ""


class Quarantined(Event, frozen=True, tag="quarantined"):
    """An update is not taken on this machine any more, or (`lifted`) again."""

    update: str
    reason: str
    lifted: bool = False


class Held(Event, frozen=True, tag="hold"):
    """A hold begins, or (`released`) ends."""

    until: Moment | None
    reason: str
    released: bool = False


class Reverted(Event, frozen=True, tag="reverted"):
    """Processes were taken back to old code, by hand."""

    hotpatches: tuple[str, ...]
    processes: tuple[ChangedProcess, ...]
    reason: str = ""


class Restarted(Event, frozen=True, tag="restarted"):
    """A unit was restarted, or is about to be (`outcome` is "")."""

    unit: str
    outcome: str
    detail: str = ""


class Rebooting(Event, frozen=True, tag="rebooting"):
    """The machine is about to be rebooted."""

    reasons: tuple[str, ...]


class Crashed(Event, frozen=True, tag="crashed"):
    """A process that had been changed crashed.

    Attributes:
        pid, comm, unit: which.
        address: of the instruction.
        ours: in new code; `hotpatches` says whose.
        what: as the kernel calls it.
        at_us: when, on the clock of the kernel's log, microseconds since the boot: not the one of any other clock.
    """

    pid: int
    comm: str
    unit: str
    address: int
    ours: bool
    hotpatches: tuple[str, ...] = ()
    what: str = ""
    at_us: int = 0


class Ordered(Event, frozen=True, tag="ordered"):
    """What the machine's server asks for is about to be done: `order` is the action's id there, as `undoes` is."""

    order: str
    kind: str
    updates: tuple[str, ...] = ()
    reason: str = ""
    undoes: str = ""


class OrderEnded(Event, frozen=True, tag="order-ended"):
    """It has ended, and is never done again."""

    order: str
    state: State
    detail: str = ""


AnyEvent = (
    AgentBegan
    | Assessed
    | RunBegan
    | RunState
    | Action
    | DiskBegan
    | DiskLeft
    | DiskEnded
    | RunEnded
    | Quarantined
    | Held
    | Reverted
    | Restarted
    | Rebooting
    | Crashed
    | Ordered
    | OrderEnded
)
"""What is read; of what is written, `AssessedAgain` is read as `Assessed`."""
_decoder: msgspec.json.Decoder[AnyEvent | AssessedAgain] = msgspec.json.Decoder(AnyEvent | AssessedAgain)


@dataclass(frozen=True, slots=True)
class Read:
    """What reading the file gave.

    Attributes:
        events: oldest first.
        unreadable: numbers of lines that are none of these; a crash leaves half a line behind.
    """

    events: tuple[AnyEvent, ...]
    unreadable: tuple[int, ...]


class History:
    """One machine's file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def append(self, event: AnyEvent | AssessedAgain, now: datetime | None = None) -> None:
        """Write a line behind the last one; it is on the disk when this returns.

        Args:
            event: its moment becomes `now`.
            now: the system's time by default.

        Raises:
            OSError: it cannot be written.
        """
        event = msgspec.structs.replace(event, at=now or datetime.now(UTC))
        self.file.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.file, flags, 0o640)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            line = msgspec.json.encode(event) + b"\n"
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line  # what a crash cut off stays a line of its own
            if os.write(descriptor, line) != len(line):
                raise OSError("the disk is full")
            os.fdatasync(descriptor)
            if not size:
                self._sync_folder()
        finally:
            os.close(descriptor)

    def _sync_folder(self) -> None:
        descriptor = os.open(self.file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read(self) -> Read:
        """Return all of it.

        Raises:
            OSError: it cannot be read. That it is not there is an empty history.
        """
        try:
            with self.file.open("rb") as stream:
                return decode(stream)
        except FileNotFoundError:
            return Read((), ())


def decode(lines: Iterable[bytes]) -> Read:
    """Return the events of lines."""
    events: list[AnyEvent] = []
    unreadable: list[int] = []
    last: Assessed | None = None
    for number, line in enumerate(lines, 1):
        try:
            event = _decoder.decode(line)
            if isinstance(event, AssessedAgain):
                if last is None:
                    unreadable.append(number)
                    continue
                event = msgspec.structs.replace(last, at=event.at, run=event.run, log_from=event.log_from)
            last = event if isinstance(event, Assessed) else last
            events.append(event)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            if line.strip():
                unreadable.append(number)
    return Read(tuple(events), tuple(unreadable))


def unless_the_same(line: Assessed, events: Sequence[AnyEvent]) -> Assessed | AssessedAgain:
    """Return how an assessment is written behind events: in short where it saw what the last one saw."""
    last = next((event for event in reversed(events) if isinstance(event, Assessed)), None)
    if last is None or msgspec.structs.replace(line, at=last.at, run=last.run, log_from=last.log_from) != last:
        return line
    return AssessedAgain(at=line.at, run=line.run, log_from=line.log_from)


def unfinished(events: Iterable[AnyEvent]) -> RunBegan | None:
    """Return the first run that has begun and not ended; None where there is none."""
    begun: dict[str, RunBegan] = {}
    for event in events:
        if isinstance(event, RunBegan):
            begun[event.run] = event
        elif isinstance(event, RunEnded):
            begun.pop(event.run, None)
    return next(iter(begun.values()), None)


def last_actions(events: Iterable[AnyEvent], run: str) -> dict[str, Action]:
    """Return the last line of each action of a run, by its update, in order."""
    return {event.update: event for event in events if isinstance(event, Action) and event.run == run}


def of_run(events: Iterable[AnyEvent], run: str) -> Iterator[AnyEvent]:
    """Yield the lines of a run."""
    return (event for event in events if event.run == run)
