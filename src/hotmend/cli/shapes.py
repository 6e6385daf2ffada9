"""The objects that `--json` prints. Their fields are documented in docs/commands.md; a test compares both."""

from __future__ import annotations

import msgspec

from hotmend.model.hotpatch import (
    Outcome,
    Statistics,
)
from hotmend.model.verdict import Reason


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
    functions that changed for the baseline. `withdrawn`: update and reason, where its publisher has withdrawn it by
    what the agent saw last.
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
    withdrawn: str = ""


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
