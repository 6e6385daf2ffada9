"""The objects that `--json` prints. Their fields are documented in docs/commands.md; a test compares both."""

from __future__ import annotations

from datetime import date

import msgspec

from hotmend.model.addresses import JUMP_BYTES
from hotmend.model.hotpatch import (
    AddedVariable,
    GateTarget,
    Hotpatch,
    ImportTarget,
    Lazy,
    OldTarget,
    Outcome,
    Port,
    Relocation,
    ShadowTarget,
    Statistics,
    UnwindTable,
)
from hotmend.model.verdict import Reason
from hotmend.publisher.survey import results


class ErrorShape(msgspec.Struct, frozen=True):
    """Any command that fails or was used wrongly."""

    error: str
    hint: str


class ReasonShape(msgspec.Struct, frozen=True):
    """A reason, as in docs/reasons.md."""

    code: str
    severity: str
    sentence: str
    subjects: tuple[str, ...]


def reason_shapes(reasons: tuple[Reason, ...]) -> tuple[ReasonShape, ...]:
    """Return the reasons as they are printed."""
    return tuple(ReasonShape(r.code, r.severity.value, r.sentence, r.subjects) for r in reasons)


class CountShape(msgspec.Struct, frozen=True):
    """How many references were mapped by one kind of evidence."""

    evidence: str
    count: int


class FunctionCountsShape(msgspec.Struct, frozen=True):
    """How many functions of an image are what."""

    identical: int
    changed: int
    added: int
    removed: int
    reconstructed: int
    reconstructible: int
    cosmetic: int


def function_counts(counts: Statistics) -> FunctionCountsShape:
    """Return the counts as they are printed."""
    return FunctionCountsShape(
        counts.identical,
        counts.changed,
        counts.added,
        counts.removed,
        counts.reconstructed,
        counts.reconstructible,
        counts.cosmetic,
    )


def reference_counts(counts: Statistics) -> tuple[CountShape, ...]:
    """Return the references by evidence as they are printed."""
    return tuple(CountShape(evidence, count) for evidence, count in counts.references)


class SecondsShape(msgspec.Struct, frozen=True):
    """Wall time of one step of the comparison."""

    step: str
    seconds: float


class ImageShape(msgspec.Struct, frozen=True):
    """`build`: one ELF file of the update. Fields from `verdict` on are there for changed files only."""

    path: str
    old_path: str
    state: str
    verdict: str | None = None
    name: str | None = None
    old_build_id: str | None = None
    new_build_id: str | None = None
    functions: FunctionCountsShape | None = None
    types: str | None = None
    debug_information: str = ""
    references: tuple[CountShape, ...] = ()
    reasons: tuple[ReasonShape, ...] = ()
    seconds: tuple[SecondsShape, ...] = ()
    hotpatch_file: str | None = None
    hotpatch_bytes: int | None = None


def outcome_fields(shape: ImageShape, outcome: Outcome) -> ImageShape:
    """Return `shape` with what comparing the file gave."""
    return msgspec.structs.replace(
        shape,
        verdict=outcome.verdict.value,
        name=outcome.name,
        old_build_id=str(outcome.old_build_id),
        new_build_id=str(outcome.new_build_id),
        functions=function_counts(outcome.statistics),
        types=outcome.statistics.types.value,
        debug_information=outcome.debug_information,
        references=reference_counts(outcome.statistics),
        reasons=reason_shapes(outcome.reasons),
        seconds=tuple(SecondsShape(step, round(seconds, 4)) for step, seconds in outcome.seconds),
    )


class SideShape(msgspec.Struct, frozen=True):
    """`build`: one of the two builds."""

    label: str
    package: str
    version: str
    bytes: int


class FixShape(msgspec.Struct, frozen=True):
    """`build --partial`: what becomes of one CVE, and the functions that its patches touch."""

    cve: str
    state: str
    held: tuple[str, ...]
    left: tuple[str, ...]
    unknown: tuple[str, ...]


class BuildShape(msgspec.Struct, frozen=True):
    """`build`: the update. `file` is what `apply` takes; None when nothing was written."""

    old: SideShape
    new: SideShape
    verdict: str
    cves: tuple[str, ...]
    notes: tuple[ReasonShape, ...]
    images: tuple[ImageShape, ...]
    file: str | None
    file_bytes: int
    update_bytes: int
    fixes: tuple[FixShape, ...] = ()


class ExtentShape(msgspec.Struct, frozen=True):
    """A range of link addresses."""

    address: int
    size: int


class FunctionShape(msgspec.Struct, frozen=True):
    """`inspect`: a function of the new code. `old` is None when the new build added it."""

    name: str
    new: ExtentShape
    old: ExtentShape | None


class ReplacedShape(msgspec.Struct, frozen=True):
    """`inspect`: an old function that no thread may be inside when the code is switched."""

    name: str
    old: ExtentShape
    sha256: str


class RedirectionShape(msgspec.Struct, frozen=True):
    """`inspect`: an old entry that will lead to new code."""

    name: str
    old: int
    new: int
    entry: str


class SegmentShape(msgspec.Struct, frozen=True):
    """`inspect`: a run of bytes of the shadow."""

    section: str
    address: int
    size: int
    file_bytes: int
    permissions: str


class RelocationShape(msgspec.Struct, frozen=True):
    """`inspect`: a field of the shadow. `symbol` is old_image, new_image, hotmend_gate or `name@VERSION`."""

    address: int
    kind: str
    symbol: str
    target: int | None
    addend: int
    evidence: str
    votes: int


def relocation_shape(relocation: Relocation) -> RelocationShape:
    """Return the relocation as it is printed."""
    target = None
    match relocation.target:
        case OldTarget(address):
            symbol, target = "old_image", int(address)
        case ShadowTarget(address):
            symbol, target = "new_image", int(address)
        case ImportTarget(name, version, _):
            symbol = f"{name}@{version}" if version else name
        case GateTarget():
            symbol = "hotmend_gate"
    return RelocationShape(
        int(relocation.address),
        relocation.kind.value,
        symbol,
        target,
        relocation.addend,
        relocation.evidence,
        relocation.votes,
    )


class UnwindingShape(msgspec.Struct, frozen=True):
    """`inspect`: the table by which the process's unwinder finds the new functions' frames."""

    address: int
    functions: int
    needed: bool


class AddedShape(msgspec.Struct, frozen=True):
    """`inspect`: a variable that the new build added, or the jump that stands for an added function elsewhere.

    By its `marks` a later hotpatch of the same old build knows it again; `function` is what the jump leads to.
    """

    name: str
    address: int
    size: int
    function: int | None
    marks: tuple[str, ...]


class LazyShape(msgspec.Struct, frozen=True):
    """`inspect`: whether old invocations may go on in old code, what shows it, and what is in the way."""

    proven: bool
    evidence: tuple[str, ...]
    obstacles: tuple[ReasonShape, ...]


class InspectShape(msgspec.Struct, frozen=True):
    """`inspect`: everything in the hotpatch of one image."""

    name: str
    path: str
    package: str
    old_version: str
    new_version: str
    old_build_id: str
    new_build_id: str
    verdict: str
    cves: tuple[str, ...]
    reasons: tuple[ReasonShape, ...]
    update_bytes: int
    functions: FunctionCountsShape
    types: str
    references: tuple[CountShape, ...]
    segments: tuple[SegmentShape, ...]
    new_functions: tuple[FunctionShape, ...]
    replaced: tuple[ReplacedShape, ...]
    redirections: tuple[RedirectionShape, ...]
    relocations: tuple[RelocationShape, ...]
    unwinding: UnwindingShape | None
    variables: tuple[AddedShape, ...] | None
    ports: tuple[AddedShape, ...]
    lazy: LazyShape | None


def inspect_shape(hotpatch: Hotpatch) -> InspectShape:
    """Return the hotpatch as it is printed."""
    return InspectShape(
        name=hotpatch.name,
        path=hotpatch.path,
        package=hotpatch.package,
        old_version=hotpatch.versions[0],
        new_version=hotpatch.versions[1],
        old_build_id=str(hotpatch.old_build_id),
        new_build_id=str(hotpatch.new_build_id),
        verdict=hotpatch.verdict.value,
        cves=hotpatch.cves,
        reasons=reason_shapes(hotpatch.reasons),
        update_bytes=hotpatch.update_bytes,
        functions=function_counts(hotpatch.statistics),
        types=hotpatch.statistics.types.value,
        references=reference_counts(hotpatch.statistics),
        segments=tuple(
            SegmentShape(s.section, s.extent.start, s.extent.size, len(s.content), s.permissions)
            for s in hotpatch.segments
        ),
        new_functions=tuple(
            FunctionShape(
                f.name,
                ExtentShape(f.new.start, f.new.size),
                ExtentShape(f.old.start, f.old.size) if f.old.size else None,
            )
            for f in hotpatch.functions
        ),
        replaced=tuple(
            ReplacedShape(r.name, ExtentShape(r.old.start, r.old.size), r.sha256) for r in hotpatch.replaced
        ),
        redirections=tuple(RedirectionShape(r.name, r.old, r.new, r.entry.hex()) for r in hotpatch.redirections),
        relocations=tuple(map(relocation_shape, hotpatch.relocations)),
        unwinding=_unwinding_shape(hotpatch.unwinding),
        variables=None if hotpatch.variables is None else tuple(map(_variable_shape, hotpatch.variables)),
        ports=tuple(map(_port_shape, hotpatch.ports)),
        lazy=_lazy_shape(hotpatch.lazy),
    )


def _lazy_shape(lazy: Lazy | None) -> LazyShape | None:
    return None if lazy is None else LazyShape(lazy.proven, lazy.evidence, reason_shapes(lazy.obstacles))


def _variable_shape(variable: AddedVariable) -> AddedShape:
    marks = tuple(mark.text for mark in variable.marks)
    return AddedShape(variable.name, variable.extent.start, variable.extent.size, None, marks)


def _port_shape(port: Port) -> AddedShape:
    return AddedShape(port.name, port.address, JUMP_BYTES, port.function, tuple(mark.text for mark in port.marks))


def _unwinding_shape(table: UnwindTable | None) -> UnwindingShape | None:
    return UnwindingShape(table.extent.start, table.functions, table.needed) if table is not None else None


class MappedImageShape(msgspec.Struct, frozen=True):
    """`ps`: an image in a process. `state` is current, outdated or deleted; `hotpatches` are their ids."""

    path: str
    build_id: str
    load_address: int
    disk_build_id: str | None
    state: str
    hotpatches: tuple[str, ...]


class ProcessShape(msgspec.Struct, frozen=True):
    """`ps`: a process. `start_time_ticks` is field 22 of /proc/PID/stat."""

    pid: int
    comm: str
    start_time_ticks: int
    images: tuple[MappedImageShape, ...]


class ShadowShape(msgspec.Struct, frozen=True):
    """`apply` and `revert`: where the new code of one image is."""

    name: str
    hotpatch_id: str
    load_address: int
    size: int


class StandInShape(msgspec.Struct, frozen=True):
    """`apply --rehearse`: how the stand-in of a process fared."""

    passed: bool
    processes: int
    redirected: int
    pause_us: float
    seconds: float


class ChangeShape(msgspec.Struct, frozen=True):
    """`apply` and `revert`: what happened to one process.

    `pause_us` is the longest time that its threads stood still at once, in microseconds.
    """

    pid: int
    comm: str
    start_time_ticks: int
    state: str
    threads: int
    attempts: int
    pause_us: float
    redirected: int
    shadows: tuple[ShadowShape, ...]
    bytes_mapped: int
    dry_run: bool
    stand_in: StandInShape | None
    reasons: tuple[ReasonShape, ...]


class WatchedShape(msgspec.Struct, frozen=True):
    """`watch`: a process that was changed, or refused.

    `since_start_ms` is the time from its execve to the end of the change; null where the kernel did not tell of that.
    """

    at: str
    pid: int
    comm: str
    start_time_ticks: int
    state: str
    redirected: int
    pause_us: float
    since_start_ms: float | None
    reasons: tuple[ReasonShape, ...]


class AppliedFunctionShape(msgspec.Struct, frozen=True):
    """`status`: a redirected function, with load addresses. `live`: whether calls reach the new code."""

    name: str
    old_load_address: int
    new_load_address: int
    live: bool


class AppliedShape(msgspec.Struct, frozen=True):
    """`status`: one image's hotpatch in a process. `applied_at` is in seconds since 1970, UTC.

    `replaced_by` is the `id` of the hotpatch that took over from it, while its state is `replaced`. `part`: it leaves
    functions that changed for the baseline.
    """

    id: str
    name: str
    path: str
    package: str
    state: str
    active: bool
    old_build_id: str
    new_build_id: str
    old_version: str
    new_version: str
    cves: tuple[str, ...]
    redirections: tuple[AppliedFunctionShape, ...]
    applied_at: float
    bytes_mapped: int
    replaced_by: str
    part: bool


class StatusShape(msgspec.Struct, frozen=True):
    """`status`: a process and what is in it."""

    pid: int
    comm: str
    start_time_ticks: int
    hotpatches: tuple[AppliedShape, ...]


class AuditedImageShape(msgspec.Struct, frozen=True):
    """`audit`: an image that a change was about."""

    path: str
    old_build_id: str
    new_build_id: str


class AuditShape(msgspec.Struct, frozen=True):
    """`audit`: one line of the record."""

    number: int
    previous: str
    at: str
    phase: str
    change: int
    deed: str
    steps: tuple[str, ...]
    uid: int
    login_uid: int | None
    patcher_pid: int
    patcher_command_line: str
    pid: int
    start_time_ticks: int
    command_line: str
    hotpatches: tuple[str, ...]
    images: tuple[AuditedImageShape, ...]
    shadow_sha256: str
    list_sha256: str
    entries_sha256: str
    state: str
    outcome: str


class AuditCheckShape(msgspec.Struct, frozen=True):
    """`audit`: what checking the chain gave; the last object."""

    file: str
    sound: bool
    lines: int
    head: str
    torn_bytes: int
    unfinished: tuple[int, ...]
    error: str


class SymbolFileShape(msgspec.Struct, frozen=True):
    """`symbols`: the symbol file of one hotpatch."""

    file: str
    name: str
    id: str
    new_build_id: str
    load_bias: int


class SymbolsShape(msgspec.Struct, frozen=True):
    """`symbols`: the files that were written."""

    files: tuple[SymbolFileShape, ...]
    gdb_script: str
    perf_map: str


class CheckShape(msgspec.Struct, frozen=True):
    """`doctor`: one thing that was looked at."""

    name: str
    found: str
    needed: bool
    detail: str
    remedy: str


class DifferenceShape(msgspec.Struct, frozen=True):
    """`verify`: a piece of output that differs, and where it does first. `line` is 0 where it is not text."""

    case: str
    item: str
    expected: str
    got: str
    offset: int
    line: int


class VerifyShape(msgspec.Struct, frozen=True):
    """`verify`: what came out. `changed` compares old and new, `differences` new and hotpatched."""

    state: str
    cases: int
    images: tuple[str, ...]
    redirected: int
    reached: tuple[str, ...]
    changed: tuple[DifferenceShape, ...]
    differences: tuple[DifferenceShape, ...]
    pause_us: float
    reasons: tuple[ReasonShape, ...]


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
    """`readiness`: a year of a machine, and what it would have been."""

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
