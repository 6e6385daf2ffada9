"""The objects that `--json` of the commands of channels, surveys and readiness prints."""

from __future__ import annotations

from datetime import date

import msgspec

from hotmend.cli.shapes import ReasonShape
from hotmend.publisher.survey import results


class RefusedShape(msgspec.Struct, frozen=True):
    """`channel`: what was asked for is refused."""

    reasons: tuple[ReasonShape, ...]


class ChannelKeyShape(msgspec.Struct, frozen=True):
    """`channel key`: a key. `file` is its public half."""

    key: str
    scheme: str
    file: str


class RoleShape(msgspec.Struct, frozen=True):
    """`channel keys`: who signs for a role."""

    role: str
    threshold: int
    keys: tuple[str, ...]


class RequestChangeShape(msgspec.Struct, frozen=True):
    """One thing that a request does."""

    role: str
    sentence: str


class MissingShape(msgspec.Struct, frozen=True):
    """How many signatures a role still needs."""

    role: str
    signatures: int


class RequestShape(msgspec.Struct, frozen=True):
    """`channel`: a request to whoever holds offline keys. `age_hours` since it was made."""

    request: str
    request_file: str
    changes: tuple[RequestChangeShape, ...]
    missing: tuple[MissingShape, ...]
    age_hours: float
    stale: bool


class PublishedShape(msgspec.Struct, frozen=True):
    """`channel`: what was published at once, and what waits for signatures."""

    published: tuple[str, ...]
    waiting: RequestShape | None


class PublishShape(msgspec.Struct, frozen=True):
    """`publish run`: what it did; `collected` files were deleted, `problems` are for a person."""

    published: tuple[str, ...]
    withdrawn: tuple[str, ...]
    waiting: RequestShape | None
    collected: int
    problems: tuple[str, ...]


class ReplayedShape(msgspec.Struct, frozen=True):
    """`readiness`: one update of the machine. `security` is null where the changelog does not say."""

    day: date
    package: str
    old_version: str
    new_version: str
    replay: str
    exact: bool
    like: str | None
    security: bool | None
    codes: tuple[str, ...]
    cves: tuple[str, ...]


class CodeShape(msgspec.Struct, frozen=True):
    """`readiness`: a reason and the number of updates that it stops."""

    code: str
    updates: int


class ReadinessShape(msgspec.Struct, frozen=True):
    """`readiness`: a year of a machine, and what it would have been.

    `survey`: what it was compared with: suites, and the day on which that ended.
    """

    survey: str
    since: date
    until: date
    complete: bool
    updates: tuple[ReplayedShape, ...]
    counts: dict[str, int]
    restart_days: int
    restart_days_left: int
    restart_days_left_if_alike: int
    restart_days_saved_a_year: float
    reboot_days: int
    codes: tuple[CodeShape, ...]


class RecheckShape(msgspec.Struct, frozen=True):
    """`publish check`: a bundle; `same` is null where it could not be built here, for `error`."""

    bundle: str
    same: bool | None
    error: str


class RecheckedShape(msgspec.Struct, frozen=True):
    """`publish check`: a release, built again."""

    release: str
    bundles: tuple[RecheckShape, ...]


class WorkedShape(msgspec.Struct, frozen=True):
    """`publish worker`: how many builds were done here."""

    builds: int


class SignedShape(msgspec.Struct, frozen=True):
    """`channel sign`: what was signed, and where the signatures are."""

    request: str
    changes: tuple[RequestChangeShape, ...]
    roles: tuple[str, ...]
    file: str


class ChannelReleaseShape(msgspec.Struct, frozen=True):
    """A release in short. `waiting_hours`: not in the stable tier yet, since then."""

    id: str
    kind: str
    title: str
    made: str
    classification: str
    urgency: str
    requires: str
    supersedes: tuple[str, ...]
    withdrawn: str | None
    waiting_hours: float | None = None


class TierShape(msgspec.Struct, frozen=True):
    """What a tier of a channel offers."""

    channel: str
    tier: str
    releases: tuple[ChannelReleaseShape, ...]


class ExpiryShape(msgspec.Struct, frozen=True):
    """When a role's signatures end; `alert`: soon."""

    role: str
    version: int
    expires: str
    alert: bool


class ChannelStatusShape(msgspec.Struct, frozen=True):
    """`channel status`."""

    sound: bool
    expiries: tuple[ExpiryShape, ...]
    tiers: tuple[TierShape, ...]
    requests: tuple[RequestShape, ...]
    unasked: tuple[str, ...]


class ArchiveShape(msgspec.Struct, frozen=True):
    """`channel bundle`: the file and how many files are in it."""

    file: str
    files: int
    bytes: int


class FetchShape(msgspec.Struct, frozen=True):
    """`channel fetch` without a release: what is offered; with one, where it was written."""

    channel: str
    tier: str
    releases: tuple[ChannelReleaseShape, ...]
    files: tuple[str, ...]


SURVEY_SHAPES = (
    results.SummaryRow,
    results.AboutRow,
    results.OutcomeCountRow,
    results.CodeCountRow,
    results.SourceRow,
    results.PackageRow,
    results.FileRow,
    results.FunctionsRow,
    results.CountRow,
    results.ReasonRow,
    results.StepRow,
    results.PartialRow,
)
"""`survey`: the rows of its results; `--json` prints the first."""
