"""A survey on the durable queue (`publisher.durable`): one workflow for each package, one step for each file."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import msgspec

import hotmend.durable.queue as durable
from hotmend.durable.queue import Fields, Item, Kind, Queue, Workflow
from hotmend.publisher.survey.packages import Bench, Prepared, file_row, package_result
from hotmend.publisher.survey.results import FileRow, PackageResult
from hotmend.publisher.survey.suites import Candidate
from hotmend.publisher.survey.tasks import PairedFile

QUEUE: Final = "hotmend-survey"
VERSION: Final = "1"
_WORKFLOW: Final = "survey-package"


@dataclass(frozen=True, slots=True)
class Entry:
    """A package on the queue. `result` is there when it is done; `error` when its workflow itself failed."""

    id: str
    done: bool
    result: PackageResult | None
    error: str | None


def entry_id(survey: str, candidate: Candidate) -> str:
    """Return the id of a package's workflow: the same package in the same survey is never worked on twice."""
    return f"{survey}/{candidate.package}/{candidate.old_version}/{candidate.new_version}"


class Work:
    """The queue of surveys. Use `open_work`."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue

    def enqueue(self, survey: str, candidates: Sequence[Candidate], progress: Callable[[int], None]) -> None:
        """Put the packages on the queue that are not there yet, the first ones to be done first.

        Packages that could not be looked at in an earlier run, for example because they could not be fetched, are
        done again.
        """
        wanted = {entry_id(survey, c): (rank, c) for rank, c in enumerate(candidates, 1)}
        known = {entry.id: entry for entry in self.entries(survey)}
        failed = [i for i, e in known.items() if i in wanted and e.done and _failed(e)]
        self.queue.delete(failed)
        new = [item for item in wanted.items() if item[0] not in known or item[0] in failed]
        arguments: dict[str, Fields] = {identity: msgspec.to_builtins(candidate) for identity, (_, candidate) in new}
        self.queue.enqueue(arguments, progress, {identity: rank for identity, (rank, _) in new})

    def entries(self, survey: str) -> Iterator[Entry]:
        """Yield the packages of a survey, with what is known of them."""
        yield from map(_entry, self.queue.items(f"{survey}/"))

    def open_entries(self, survey: str | None = None) -> int:
        """Return how many packages are not done; of all surveys when none is named."""
        return self.queue.open_count(_prefix(survey))

    def forget(self, survey: str) -> None:
        """Take the packages of a survey off the queue, with all that is known of them."""
        self.queue.forget(f"{survey}/")


def _prefix(survey: str | None) -> str | None:
    return f"{survey}/" if survey else None


def _failed(entry: Entry) -> bool:
    return entry.error is not None or (entry.result is not None and entry.result.package.error is not None)


def _entry(item: Item) -> Entry:
    result = msgspec.convert(item.result, PackageResult) if item.result is not None else None
    return Entry(item.id, item.done, result, item.error)


@contextmanager
def open_work(database: str, bench: Bench, *, workers: int | None) -> Iterator[Work]:
    """Open the queue and begin to take work from it (`durable.open_queue`).

    Args:
        database: an SQLAlchemy URL of SQLite or PostgreSQL.
        bench: what this machine works with.
        workers: how many packages a process works on at once.

    Raises:
        InputError: the database cannot be opened.
    """
    kind = Kind(QUEUE, VERSION, _WORKFLOW, lambda worker: _register(bench, worker))
    with durable.open_queue(database, kind, workers=workers) as queue:
        yield Work(queue)


def _register(bench: Bench, worker: str) -> Workflow:
    """Tell the queue what a package's work consists of. The steps that are done are never done again."""

    @durable.step("prepare")
    def prepare(package: Fields) -> Fields:
        return _builtins(bench.prepare(msgspec.convert(package, Candidate)))

    @durable.step("compare")
    def compare(package: Fields, file: Fields) -> Fields:
        row = bench.compare(msgspec.convert(package, Candidate), msgspec.convert(file, PairedFile))
        return _builtins(row)

    @durable.workflow(_WORKFLOW)
    def survey_package(package: Fields) -> Fields:
        candidate = msgspec.convert(package, Candidate)
        prepared = msgspec.convert(prepare(package), Prepared)
        files = prepared.unpacked.files if prepared.unpacked else ()
        rows = list(_rows(candidate, files, lambda file: compare(package, _builtins(file))))
        bench.put_away(candidate)
        return _builtins(package_result(candidate, prepared, rows, worker))

    return survey_package


def _rows(
    candidate: Candidate, files: Iterable[PairedFile], compare: Callable[[PairedFile], Fields]
) -> Iterator[FileRow]:
    """Yield a row for each file. Files with the same contents as an earlier one get its answer."""
    known: dict[str, FileRow] = {}
    for file in files:
        row = file_row(candidate, file)
        if file.state == "changed":
            if file.content not in known:
                known[file.content] = msgspec.convert(compare(file), FileRow)
                row = known[file.content]
            else:
                same = known[file.content]
                row = msgspec.structs.replace(
                    same, path=file.path, old_path=file.old_path, seconds=0.0, cpu_seconds=0.0, steps=()
                )
        yield row


def _builtins(value: msgspec.Struct) -> Fields:
    result: Fields = msgspec.to_builtins(value)
    return result


def wait(work: Work, survey: str | None, stop: threading.Event, changed: Callable[[int], None]) -> None:
    """Wait until nothing of the survey is left on the queue, and take over from processes that have died."""
    durable.wait(work.queue, _prefix(survey), stop, changed)
