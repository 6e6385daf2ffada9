"""A survey from the beginning to its files, or the part of one that another machine asks for."""

from __future__ import annotations

import datetime
import fcntl
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hotmend import __version__
from hotmend.model.errors import InputError, UsageError
from hotmend.publisher.survey.nursery import Pool
from hotmend.publisher.survey.packages import Bench, Prepared, package_result
from hotmend.publisher.survey.page import render_page
from hotmend.publisher.survey.report import Report, make_report, read_lines, replace_file, write_lines
from hotmend.publisher.survey.results import AboutRow, PackageResult
from hotmend.publisher.survey.store import Store
from hotmend.publisher.survey.suites import Candidate, Difference, compare_suites
from hotmend.publisher.survey.work import Entry, Work, entry_id, open_work, wait

LINES_FILE: Final = "results.jsonl"
PAGE_FILE: Final = "survey.html"
DATABASE_FILE: Final = "queue.sqlite"
_LOCK_FILE = "lock"
_SCRATCH = "scratch"
_DEBS = "debs"

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many packages are done, and how many there are."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a survey is made.

    Attributes:
        output: directory of the results, the queue (without `database`) and everything temporary.
        database: SQLAlchemy URL of the queue, or "" for a SQLite file in `output`.
        workers: children that run at once on this machine; for a worker, 0 takes the number of processors.
        memory_bytes, file_seconds: limits of one child.
        cache_bytes: how much may be fetched ahead of the work.
        keep_debs: fetch into hotmend's cache, and delete nothing.
        partial: whether a refused file gets a try at a partial hotpatch.
        wait_seconds: how long a worker without work waits for some.
        command: how it was called, for the page.
    """

    output: Path
    database: str
    workers: int
    memory_bytes: int
    file_seconds: float
    cache_bytes: int
    keep_debs: bool
    partial: bool = True
    wait_seconds: float = 30.0
    command: str = "hotmend survey"

    @property
    def url(self) -> str:
        """Return where the queue is."""
        return self.database or f"sqlite:///{(self.output / DATABASE_FILE).absolute()}"


def run_survey(
    suites: tuple[str, str], only: frozenset[str], settings: Settings, progress: Progress, *, fresh: bool
) -> Report:
    """Look at every package that differs between two suites, write the files, and return what is in them.

    Args:
        suites: the old and the new one.
        only: names of the sources to look at; all when empty.
        settings: how.
        progress: called while it goes on.
        fresh: forget what an earlier run has found.

    Raises:
        UsageError: apt does not know a suite, a source does not differ, or another run uses the same directory.
        FetchError: apt's lists cannot be read.
        InputError: the database or the directory cannot be used.
    """
    began = time.monotonic()
    progress("reading apt's lists", 0, 1)
    found = _choose(compare_suites(*suites), only)
    survey = "..".join(suites)
    with _machine(settings) as (bench, store), open_work(settings.url, bench, workers=settings.workers) as work:
        if fresh:
            work.forget(survey)
        total = len(found.candidates)
        work.enqueue(survey, found.candidates, lambda number: progress("filling the queue", number, total))
        before = _done(work, survey, found.candidates)
        with _fetching_ahead(store, [c for c in found.candidates if entry_id(survey, c) not in before]):
            wait(work, survey, threading.Event(), lambda left: progress("comparing", max(total - left, 0), total))
        entries = {entry.id: entry for entry in work.entries(survey)}
    results = [_result(candidate, entries[entry_id(survey, candidate)]) for candidate in found.candidates]
    about = AboutRow(
        old_suite=suites[0],
        new_suite=suites[1],
        only=tuple(sorted(only)),
        command=settings.command,
        finished=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        hotmend_version=__version__,
        workers=settings.workers,
        memory_bytes=settings.memory_bytes,
        file_seconds=settings.file_seconds,
        wall_seconds=round(time.monotonic() - began, 1),
        packages_done=total - len(before),
    )
    report = make_report(results, found.unseen, about)
    write_lines(report, settings.output / LINES_FILE)
    write_page(report, settings.output)
    return report


def run_worker(settings: Settings, progress: Progress) -> int:
    """Take packages from a queue that another machine fills, until none is left; return how many were done here.

    Raises:
        UsageError: the database is one that machines cannot share.
        InputError: it cannot be opened.
    """
    if not settings.database.startswith("postgresql"):
        raise UsageError("workers on other machines need a PostgreSQL database", "give --database postgresql://...")
    with _machine(settings) as (bench, _), open_work(settings.url, bench, workers=None) as work:
        idle = time.monotonic()
        while time.monotonic() - idle < settings.wait_seconds:
            if left := work.open_entries():
                progress("comparing", 0, left)
                wait(work, None, threading.Event(), lambda left: progress("comparing", 0, left))
                idle = time.monotonic()
            time.sleep(1.0)
        return bench.packages_done


def page_only(output: Path) -> Report:
    """Make the page again from the results of an earlier run."""
    report = read_lines(output / LINES_FILE)
    write_page(report, output)
    return report


def write_page(report: Report, output: Path) -> None:
    """Write the page beside the results."""
    replace_file(output / PAGE_FILE, render_page(report).encode())


def _choose(found: Difference, only: frozenset[str]) -> Difference:
    if not only:
        return found
    unknown = only - {candidate.source for candidate in found.candidates}
    if unknown:
        raise UsageError(
            f"no package of {', '.join(sorted(unknown))} differs between the suites", "--only takes source packages"
        )
    candidates = tuple(candidate for candidate in found.candidates if candidate.source in only)
    return Difference(candidates, {source: names for source, names in found.unseen.items() if source in only})


def _done(work: Work, survey: str, candidates: Sequence[Candidate]) -> frozenset[str]:
    wanted = {entry_id(survey, candidate) for candidate in candidates}
    return frozenset(entry.id for entry in work.entries(survey) if entry.done and entry.id in wanted)


def _result(candidate: Candidate, entry: Entry) -> PackageResult:
    """Return what the queue has of a package; a workflow that failed is an answer too."""
    if entry.result is not None:
        return entry.result
    return package_result(candidate, Prepared(None, entry.error or "no answer", 0.0, 0.0, 0.0, 0), [], "")


@contextmanager
def _machine(settings: Settings) -> Iterator[tuple[Bench, Store]]:
    """Give what this machine works with. What an earlier run left behind in the scratch space is deleted."""
    output = settings.output
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock = (output / _LOCK_FILE).open("w")
    except OSError as error:
        raise InputError(f"{output}: {error.strerror or error}", "choose another place with --output") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(f"another survey works in {output}", "wait for it, or give another --output") from None
        shutil.rmtree(output / _SCRATCH, ignore_errors=True)
        store = Store(output / _DEBS, bytes_max=settings.cache_bytes, keep=settings.keep_debs)
        with Pool(settings.workers, memory_bytes=settings.memory_bytes, seconds=settings.file_seconds) as pool:
            yield Bench(store, pool, output / _SCRATCH, partial=settings.partial), store
        shutil.rmtree(output / _SCRATCH, ignore_errors=True)


@contextmanager
def _fetching_ahead(store: Store, candidates: Sequence[Candidate]) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=store.fill, args=(candidates, stop), name="fetching-ahead", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
