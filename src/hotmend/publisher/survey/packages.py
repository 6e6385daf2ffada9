"""One package of a survey, as steps that can each be done again: prepare, compare each file, put away."""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

from hotmend.model.errors import HotmendError
from hotmend.model.verdict import Severity, Verdict
from hotmend.publisher.pairing import FileState
from hotmend.publisher.survey.child import Answer
from hotmend.publisher.survey.nursery import Pool
from hotmend.publisher.survey.results import FileRow, PackageResult, PackageRow, ReasonRow
from hotmend.publisher.survey.store import Store, scratch
from hotmend.publisher.survey.suites import Candidate
from hotmend.publisher.survey.tasks import Compared, Comparison, PairedFile, Unpacked, Unpacking

_ORDER: Final = (Verdict.NO_CHANGE, Verdict.HOTPATCH, Verdict.HOTPATCH_WITH_NOTES, Verdict.BASELINE_REQUIRED)


class Prepared(msgspec.Struct, frozen=True):
    """A package whose files are on disk, or `error`, why they are not."""

    unpacked: Unpacked | None
    error: str | None
    fetch_seconds: float
    unpack_seconds: float
    cpu_seconds: float
    peak_rss_bytes: int


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the files of a package are on this machine."""

    directory: Path
    prepared: Prepared


class Bench:
    """What a machine needs to work on packages: its packages on disk, its children, its scratch space.

    Args:
        store: where .deb files come from.
        pool: where unpacking and comparing run.
        directory: scratch space; what a package leaves there is deleted when it is put away.
        partial: whether a refused file gets a try at a partial hotpatch.
    """

    def __init__(self, store: Store, pool: Pool, directory: Path, *, partial: bool) -> None:
        self._partial = partial
        self._store = store
        self._pool = pool
        self._directory = directory
        self._places: dict[str, _Place] = {}
        self._lock = threading.Lock()
        self.packages_done = 0

    def prepare(self, candidate: Candidate) -> Prepared:
        """Fetch and unpack both packages, unless that has been done here already."""
        with self._lock:
            place = self._places.get(candidate.package)
        if place is not None:
            return place.prepared
        directory = scratch(self._directory, candidate.package)
        prepared = self._prepare(candidate, directory)
        with self._lock:
            self._places[candidate.package] = _Place(directory, prepared)
        return prepared

    def compare(self, candidate: Candidate, file: PairedFile) -> FileRow:
        """Compare one changed file. Whatever goes wrong is in the row."""
        prepared = self.prepare(candidate)  # another machine, or one that was restarted, has nothing on disk yet
        row = file_row(candidate, file)
        if prepared.error is not None:
            return msgspec.structs.replace(row, error=prepared.error, error_kind="input")
        with self._lock:
            directory = self._places[candidate.package].directory
        comparison = Comparison(
            str(directory / file.old_file),
            str(directory / file.new_file),
            PurePosixPath(file.old_path).name,
            file.path,
            self._partial,
        )
        return compared_row(row, self._pool.run("compare", comparison))

    def put_away(self, candidate: Candidate) -> None:
        """Delete what the package has on disk here."""
        with self._lock:
            place = self._places.pop(candidate.package, None)
            self.packages_done += 1
        if place is not None:
            shutil.rmtree(place.directory, ignore_errors=True)
        self._store.release(candidate)

    def _prepare(self, candidate: Candidate, directory: Path) -> Prepared:
        began = time.monotonic()
        try:
            old, new = self._store.get(candidate)
        except HotmendError as error:
            return Prepared(None, str(error), time.monotonic() - began, 0.0, 0.0, 0)
        fetch_seconds = time.monotonic() - began
        answer = self._pool.run("unpack", Unpacking(str(old), str(new), str(directory)))
        unpacked = msgspec.convert(answer.result, Unpacked) if answer.result is not None else None
        return Prepared(
            unpacked, answer.error, fetch_seconds, answer.seconds, answer.cpu_seconds, answer.peak_rss_bytes
        )


def file_row(candidate: Candidate, file: PairedFile) -> FileRow:
    """Return the row of a file before anything has been compared."""
    return FileRow(
        source=candidate.source,
        package=candidate.package,
        old_version=candidate.old_version,
        new_version=candidate.new_version,
        path=file.path,
        old_path=file.old_path,
        state=file.state,
        old_bytes=file.old_bytes,
        new_bytes=file.new_bytes,
    )


def compared_row(row: FileRow, answer: Answer) -> FileRow:
    """Return the row with what comparing gave. A file that cannot be read is refused, as `build` does."""
    replace = msgspec.structs.replace
    row = replace(
        row,
        seconds=round(answer.seconds, 3),
        cpu_seconds=round(answer.cpu_seconds, 3),
        peak_rss_bytes=answer.peak_rss_bytes,
    )
    if answer.result is None:
        if answer.error_kind != "input":
            return replace(row, error=answer.error, error_kind=answer.error_kind)
        sentence = f"The image cannot be compared: {answer.error}."
        reason = ReasonRow("image-unreadable", Severity.REFUSAL, sentence, (row.path,), 1)
        return replace(row, verdict=Verdict.BASELINE_REQUIRED.value, reasons=(reason,))
    found = msgspec.convert(answer.result, Compared)
    if found.same_build:
        return replace(row, state=FileState.IDENTICAL.value)
    return replace(
        row,
        verdict=found.verdict,
        old_build_id=found.old_build_id,
        new_build_id=found.new_build_id,
        functions=found.functions,
        references=found.references,
        reasons=found.reasons,
        steps=found.steps,
        hotpatch_bytes=found.hotpatch_bytes,
        partial=found.partial,
    )


def package_result(candidate: Candidate, prepared: Prepared, files: list[FileRow], worker: str) -> PackageResult:
    """Put the rows of a package together."""
    states = [file.state for file in files]
    verdicts = [Verdict(file.verdict) for file in files if file.verdict is not None]
    errors = [file for file in files if file.error is not None]
    worst = max(verdicts, key=_ORDER.index, default=Verdict.NO_CHANGE)
    package = PackageRow(
        source=candidate.source,
        package=candidate.package,
        old_version=candidate.old_version,
        new_version=candidate.new_version,
        old_bytes=candidate.old_bytes,
        new_bytes=candidate.new_bytes,
        verdict=None if errors or prepared.error is not None else worst.value,
        cves=prepared.unpacked.cves if prepared.unpacked else None,
        identical=states.count("identical"),
        changed=states.count("changed"),
        added=states.count("added"),
        removed=states.count("removed"),
        fetch_seconds=round(prepared.fetch_seconds, 3),
        unpack_seconds=round(prepared.unpack_seconds, 3),
        compare_seconds=round(sum(file.seconds for file in files), 3),
        cpu_seconds=round(prepared.cpu_seconds + sum(file.cpu_seconds for file in files), 3),
        peak_rss_bytes=max([prepared.peak_rss_bytes, *(file.peak_rss_bytes for file in files)]),
        worker=worker,
        error=prepared.error,
    )
    return PackageResult(package, tuple(sorted(files, key=lambda file: file.path)))
