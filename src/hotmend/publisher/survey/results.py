"""The rows of a survey: one for each ELF file, each package, each source, and one for the whole. docs/commands.md."""

from __future__ import annotations

from typing import Final

import msgspec

from hotmend.model.verdict import Severity, Verdict

SUBJECTS_MAX: Final = 20
"""Subjects of one reason that a row keeps; `subject_count` says how many there were."""


class ReasonRow(msgspec.Struct, frozen=True):
    """A reason of a file."""

    code: str
    severity: str
    sentence: str
    subjects: tuple[str, ...]
    subject_count: int


class CountRow(msgspec.Struct, frozen=True):
    """How many references were mapped by one kind of evidence."""

    evidence: str
    count: int


class FunctionsRow(msgspec.Struct, frozen=True):
    """How many functions of a file are what, and how the proof came out."""

    identical: int
    changed: int
    added: int
    removed: int
    cosmetic: int
    reconstructed: int
    reconstructible: int


class StepRow(msgspec.Struct, frozen=True):
    """Wall time of one step, in seconds."""

    step: str
    seconds: float


class PartialRow(msgspec.Struct, frozen=True):
    """What `build --partial` makes of a refused file: `taken` of `functions` changed and added ones go in."""

    verdict: str
    taken: int
    functions: int
    hotpatch_bytes: int


class FileRow(msgspec.Struct, frozen=True, tag="file", tag_field="kind"):
    """One ELF file of a package.

    `state` is identical, changed, added or removed. Fields from `verdict` on are there for changed files.
    `error` is why there is no verdict: the comparison crashed, took too long, or needed too much memory.
    """

    source: str
    package: str
    old_version: str
    new_version: str
    path: str
    old_path: str
    state: str
    old_bytes: int
    new_bytes: int
    verdict: str | None = None
    old_build_id: str | None = None
    new_build_id: str | None = None
    functions: FunctionsRow | None = None
    references: tuple[CountRow, ...] = ()
    reasons: tuple[ReasonRow, ...] = ()
    steps: tuple[StepRow, ...] = ()
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_rss_bytes: int = 0
    hotpatch_bytes: int | None = None
    partial: PartialRow | None = None
    error: str | None = None
    error_kind: str | None = None

    @property
    def has_changed_code(self) -> bool:
        """Whether functions differ; a file without an answer counts as one."""
        if self.state != "changed" or self.verdict == Verdict.NO_CHANGE:
            return False
        counts = self.functions
        return counts is None or counts.changed + counts.added > 0 or self.verdict == Verdict.BASELINE_REQUIRED

    @property
    def unresolved(self) -> int:
        """References of the new code for which nothing was found."""
        return sum(c.count for c in self.references if c.evidence == "unresolved")

    @property
    def functions_taken(self) -> int:
        """How many of the changed and added functions a hotpatch of the whole or of a part takes in."""
        if self.verdict in (Verdict.HOTPATCH, Verdict.HOTPATCH_WITH_NOTES):
            return self.functions_changed
        return self.partial.taken if self.partial else 0

    @property
    def functions_changed(self) -> int:
        """How many functions are changed or added."""
        return self.functions.changed + self.functions.added if self.functions else 0

    @property
    def refusals(self) -> tuple[str, ...]:
        """The codes that stop it, each once."""
        return tuple(dict.fromkeys(r.code for r in self.reasons if r.severity == Severity.REFUSAL))


class PackageRow(msgspec.Struct, frozen=True, tag="package", tag_field="kind"):
    """One binary package. `verdict` is the worst of its files; `error` is why it could not be looked at."""

    source: str
    package: str
    old_version: str
    new_version: str
    old_bytes: int
    new_bytes: int
    verdict: str | None
    cves: tuple[str, ...] | None
    identical: int
    changed: int
    added: int
    removed: int
    fetch_seconds: float
    unpack_seconds: float
    compare_seconds: float
    cpu_seconds: float
    peak_rss_bytes: int
    worker: str
    error: str | None = None


class SourceRow(msgspec.Struct, frozen=True, tag="source", tag_field="kind"):
    """One source package: an update as an administrator sees it.

    `outcome` is one of `OUTCOMES`. `unseen` are packages of it that a survey does not look into.
    """

    source: str
    old_versions: tuple[str, ...]
    new_versions: tuple[str, ...]
    outcome: str
    packages: tuple[str, ...]
    unseen: tuple[str, ...]
    cves: tuple[str, ...] | None
    changed_files: int
    files_with_changed_code: int
    files_hotpatched: int
    files_partial: int
    functions_changed: int
    functions_taken: int
    refusals: tuple[str, ...]
    errors: int
    seconds: float


OUTCOMES: Final = ("no code changed", "hotpatch", "hotpatch with notes", "partly", "baseline required", "no answer")
"""What an update can be, from the best to the worst.

`hotpatch` and `hotpatch with notes` need no restart: every changed ELF file of every package has that verdict or
no change. `partly`: some files with changed code have it, or a part of a file, and the rest needs a baseline.
`no answer`: a file or a package could not be looked at, which counts like a baseline.
"""


class PackageResult(msgspec.Struct, frozen=True):
    """What the survey of one package gave: what the queue keeps of it."""

    package: PackageRow
    files: tuple[FileRow, ...]


class CodeCountRow(msgspec.Struct, frozen=True):
    """How many files and sources need a baseline for one reason; several reasons may stop one file."""

    code: str
    files: int
    sources: int


class OutcomeCountRow(msgspec.Struct, frozen=True):
    """How many updates have one outcome."""

    outcome: str
    sources: int


class AboutRow(msgspec.Struct, frozen=True):
    """How a survey was made: what a reader needs to make it again.

    `wall_seconds` and `packages_done` are those of the last run, which may have gone on with work of earlier ones.
    """

    old_suite: str
    new_suite: str
    only: tuple[str, ...]
    command: str
    finished: str
    hotmend_version: str
    workers: int
    memory_bytes: int
    file_seconds: float
    wall_seconds: float
    packages_done: int


class SummaryRow(msgspec.Struct, frozen=True, tag="summary", tag_field="kind"):
    """The survey as a whole.

    `sources_with_changed_code` counts the updates in which any file has changed code; `without_restart` those of
    them that need none. `mapped_files` of `files_with_changed_code` have every reference of their new code mapped.
    """

    about: AboutRow
    sources: int
    unseen_sources: int
    packages: int
    outcomes: tuple[OutcomeCountRow, ...]
    sources_with_changed_code: int
    without_restart: int
    files: int
    changed_files: int
    files_with_changed_code: int
    files_hotpatched: int
    files_partial: int
    functions_changed: int
    functions_taken: int
    files_with_errors: int
    mapped_files: int
    references: tuple[CountRow, ...]
    functions: FunctionsRow
    codes: tuple[CodeCountRow, ...]
    peak_rss_bytes: int
    compare_seconds: float
    cpu_seconds: float
    hotpatch_bytes: int


Row = FileRow | PackageRow | SourceRow | SummaryRow
