"""What the service manager and the kernel wrote: starts, ends and failures of units, and crashes."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from hotmend.agent.health.crashes import traps_since

_SECONDS_MAX: Final = 60
_LINES_MAX: Final = 20_000
STARTED, STOPPED, FAILED, BROKEN, EXITED = (
    "39f53479d3a045ac8e11786248231fbf",
    "9d1aaa27d60140bd96365438aad20286",
    "be02cf6855d2428ba40df7e9d022f03d",
    "d9b373ed55a64feb8242e02dbe79a49c",
    "98e322203f7a4ed290d09fe03c09fe15",
)
"""Kinds of messages, as systemd's sd-messages.h has them: a unit was started, was stopped, did not start, failed while
it ran; a process of it ended."""

_WORDS: Final = {
    STARTED: "started",
    STOPPED: "stopped",
    FAILED: "did not start",
    BROKEN: "failed",
    EXITED: "a process ended",
}


@dataclass(frozen=True, slots=True)
class UnitEvent:
    """A unit's start, stop, failure, or the end of one of its processes.

    Attributes:
        at: when, UTC.
        unit: which.
        kind: of the message.
        detail: how a process ended, such as `killed by 11`; else "".
    """

    at: datetime
    unit: str
    kind: str
    detail: str

    def __str__(self) -> str:
        """Return it as a sentence."""
        return f"{self.unit}: {_WORDS[self.kind]}" + (f": {self.detail}" if self.detail else "")


@dataclass(frozen=True, slots=True)
class CrashEvent:
    """A process that the kernel ended; all but `at` as `health.crashes.Trap` has it."""

    at: datetime
    pid: int
    comm: str
    what: str
    address: int
    file: str = ""

    def __str__(self) -> str:
        """Return it as a sentence."""
        return f"{self.comm} ({self.pid}): {self.what} at {self.address:#x}"


def parse_journal(lines: Iterator[str]) -> Iterator[UnitEvent]:
    """Yield what lines of `journalctl --output=json` say of units; others say nothing of them."""
    for line in lines:
        try:
            entry = json.loads(line)
            at = datetime.fromtimestamp(int(entry["__REALTIME_TIMESTAMP"]) / 1e6, UTC)
            kind, unit = entry["MESSAGE_ID"], entry.get("UNIT") or entry["USER_UNIT"]
        except (ValueError, KeyError, TypeError):
            continue
        if kind in _WORDS and isinstance(unit, str):
            yield UnitEvent(at, unit, kind, _end(entry) if kind == EXITED else "")


def _end(entry: dict[str, object]) -> str:
    code, status = entry.get("EXIT_CODE"), entry.get("EXIT_STATUS")
    return f"{code} {status}" if code else ""


def unit_events(since: datetime) -> tuple[UnitEvent, ...]:
    """Return what became of units since a moment, oldest first; nothing where there is no journal."""
    command = ["journalctl", "--quiet", "--no-pager", "--output=json", f"--lines={_LINES_MAX}"]
    command += [f"--since=@{since.timestamp():.6f}", "_PID=1", *(f"MESSAGE_ID={kind}" for kind in _WORDS)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_SECONDS_MAX, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(sorted(parse_journal(iter(done.stdout.splitlines())), key=lambda event: event.at))


def crash_events(since: datetime) -> tuple[CrashEvent, ...]:
    """Return the crashes in the kernel's log since a moment, oldest first; weeks after a boot moments are a bit off."""
    booted = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
    moments = [(datetime.fromtimestamp(booted + trap.at_us / 1e6, UTC), trap) for trap in traps_since(0)]
    return tuple(
        CrashEvent(at, trap.pid, trap.comm, trap.what, trap.address, trap.file)
        for at, trap in sorted(moments, key=lambda moment: moment[0])
        if at >= since
    )
