"""Releases and channels: what was published when, what it builds on, and whether it keeps a machine on the line.

A row's *type* says what it is, never its month, and never its build: a hotpatch's build is lower than that of the same
month's cumulative update, and two updates have shared one.
"""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum
from typing import Final

from dateutil.relativedelta import TU, relativedelta

from hotmend.model.errors import InputError

CALENDAR_BYTES_MAX: Final = 32 << 20
ROWS_MAX: Final = 100_000


class Kind(StrEnum):
    """What a release is."""

    BASELINE = "baseline"
    UNPLANNED_BASELINE = "unplanned_baseline"
    HOTPATCH = "hotpatch"
    OOB_HOTPATCH = "oob_hotpatch"
    CUMULATIVE = "lcu"
    OOB_CUMULATIVE = "oob_lcu"
    OOB_SECURITY = "oob_security"

    @property
    def is_baseline(self) -> bool:
        """Planned or not."""
        return self is Kind.BASELINE or self is Kind.UNPLANNED_BASELINE

    @property
    def is_hotpatch(self) -> bool:
        """In the cycle or out of band."""
        return self is Kind.HOTPATCH or self is Kind.OOB_HOTPATCH


class Line(StrEnum):
    """Where a machine is, or where a release leaves it."""

    ON = "on"
    OFF = "off"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Release:
    """One release of one channel.

    Attributes:
        channel: its stream, by the calendar's name for it.
        month: `YYYY-MM` of the cycle.
        label: such as `2025.10 OOB`.
        kind: what it is.
        reboot: it needs one; None: the source does not say.
        published: the day; None: planned without a day, or not found.
        planned: not published yet.
        id: exact identity, a KB or the name of a baseline manifest; "" where it has none yet.
        build: version text, for people alone.
        requires: id of the baseline it builds on; "" unknown or none.
        line: whether a machine that installs it stays on the line.
        line_basis: `documented` or `inferred`.
        confidence: `high`, `medium`, `low`.
        source, note: where the row comes from, and a remark.
        images: Linux: old build-id to the new one.
    """

    channel: str
    month: str
    label: str
    kind: Kind
    reboot: bool | None
    published: date | None
    planned: bool
    id: str
    build: str
    requires: str
    line: Line
    line_basis: str
    confidence: str
    source: str
    note: str
    images: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def day(self) -> date:
        """The day it was or will be published; where the calendar has none, the second Tuesday of its month."""
        return self.published or second_tuesday(int(self.month[:4]), int(self.month[5:]))

    @property
    def revision(self) -> int | None:
        """Last part of the build."""
        last = self.build.rpartition(".")[2]
        return int(last) if last.isdigit() else None


@functools.cache
def second_tuesday(year: int, month: int) -> date:
    """Return the day of a month on which releases are published."""
    return date(year, month, 1) + relativedelta(weekday=TU(2))


def month_of(day: date) -> str:
    """Return `YYYY-MM`."""
    return f"{day.year:04d}-{day.month:02d}"


@functools.lru_cache(maxsize=1024)
def quarter_end(day: date, quarters_on: int = 0) -> date:
    """Return the last day of the quarter that a day is in, or of a later one."""
    first = date(day.year, 3 * ((day.month - 1) // 3) + 1, 1)
    return first + relativedelta(months=3 * (quarters_on + 1)) - timedelta(days=1)


class Calendar:
    """All releases, by channel and identity. Does not change once it is made."""

    def __init__(self, releases: Iterable[Release]) -> None:
        """Sort them by channel and day.

        Raises:
            InputError: two releases of a channel have the same identity.
        """
        self._channels: dict[str, list[Release]] = {}
        self._ids: dict[str, dict[str, Release]] = {}
        for release in sorted(releases, key=lambda r: (r.day, r.id)):
            self._channels.setdefault(release.channel, []).append(release)
            known = self._ids.setdefault(release.channel, {})
            if release.id in known:
                raise InputError(
                    "calendar: {update} stands twice in {channel}", update=release.id, channel=release.channel
                )
            if release.id:
                known[release.id] = release

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of all channels."""
        return tuple(sorted(self._channels))

    def releases(self, channel: str) -> tuple[Release, ...]:
        """Return a channel's releases, earliest first."""
        return tuple(self._channels.get(channel, ()))

    def find(self, channel: str, identity: str) -> Release | None:
        """Return a release by its exact identity."""
        return self._ids.get(channel, {}).get(identity)

    def elsewhere(self, identity: str) -> tuple[str, ...]:
        """Return the channels that have a release of this identity."""
        return tuple(sorted(channel for channel, ids in self._ids.items() if identity in ids))


CALENDAR_COLUMNS: Final = [
    "product",
    "month",
    "label",
    "type",
    "restart_required",
    "status",
    "release_date",
    "kb",
    "build",
    "requires_baseline_kb",
    "hotpatch_line",
    "hotpatch_line_basis",
    "confidence",
    "source",
    "note",
]
_REBOOT: Final = {"yes": True, "no": False, "unknown": None}


def calendar_rows(text: str, source: str = "calendar") -> tuple[Release, ...]:
    """Return the releases of a CSV file with the columns of `data/windows.csv`, and optionally `images`.

    `images` holds `old>new` pairs of build-ids, with spaces between them.

    Raises:
        InputError: too large, a column is missing, or a row does not fit; the message has the line.
    """
    if len(text) > CALENDAR_BYTES_MAX:
        raise InputError("{source}: larger than {limit} bytes", source=source, limit=CALENDAR_BYTES_MAX)
    reader = csv.DictReader(io.StringIO(text))
    missing = set(CALENDAR_COLUMNS) - set(reader.fieldnames or ())
    if missing:
        raise InputError("{source}: columns are missing: {names}", source=source, names=", ".join(sorted(missing)))
    rows: list[Release] = []
    try:
        for row in reader:
            if len(rows) == ROWS_MAX:
                raise ValueError(f"more than {ROWS_MAX} rows")
            rows.append(_release(row))
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise InputError(
            "{source}: line {number}: {why}", source=source, number=reader.line_num, why=str(error)
        ) from error
    return tuple(rows)


def _release(row: Mapping[str, str]) -> Release:
    second_tuesday(int(row["month"][:4]), int(row["month"][5:]))
    if row["confidence"] not in {"high", "medium", "low"}:
        raise ValueError(f"confidence {row['confidence']!r}")
    if row["status"] not in {"planned", "released"}:
        raise ValueError(f"status {row['status']!r}")
    pairs = (pair.partition(">") for pair in (row.get("images") or "").split())
    return Release(
        channel=row["product"],
        month=row["month"],
        label=row["label"],
        kind=Kind(row["type"]),
        reboot=_REBOOT[row["restart_required"]],
        published=date.fromisoformat(row["release_date"]) if row["release_date"] else None,
        planned=row["status"] == "planned",
        id=row["kb"],
        build=row["build"],
        requires=row["requires_baseline_kb"],
        line=Line(row["hotpatch_line"]),
        line_basis=row["hotpatch_line_basis"],
        confidence=row["confidence"],
        source=row["source"],
        note=row["note"],
        images={old: new for old, _, new in pairs},
    )
