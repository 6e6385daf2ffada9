"""The durable queue: one workflow for each package, one step for each file. The only user of DBOS.

Everything that is known lives in the database: which packages are to be looked at, who looks at which, and the
row of each file as soon as it is there. A run that was killed goes on behind the last file that was done. With
SQLite one process works; with PostgreSQL any number of machines take packages from the same queue.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from dbos import DBOS, DBOSConfig, Serializer, SetEnqueueOptions, SetWorkflowID, WorkflowStatus

from hotmend.model.errors import InputError
from hotmend.publisher.survey.liveness import Liveness
from hotmend.publisher.survey.packages import Bench, Prepared, file_row, package_result
from hotmend.publisher.survey.results import FileRow, PackageResult
from hotmend.publisher.survey.suites import Candidate
from hotmend.publisher.survey.tasks import PairedFile

QUEUE: Final = "hotmend-survey"
APPLICATION: Final = "hotmend-survey"
VERSION: Final = "1"
"""Of the workflow's steps. A run goes on with work that was begun by the same version only."""
SQLITE_EXECUTOR: Final = "local"
_POLL_SECONDS = 0.1
_OPEN = ["ENQUEUED", "PENDING", "DELAYED"]


class _Json(Serializer):
    """Plain JSON in the database: what comes from another machine is data and never code, as pickle would be."""

    def serialize(self, data: Any) -> str:
        return msgspec.json.encode(data, enc_hook=_encode_error).decode()

    def deserialize(self, serialized_data: str) -> Any:
        data = msgspec.json.decode(serialized_data)
        if isinstance(data, dict) and data.keys() == {"__error__"}:
            return RuntimeError(data["__error__"])
        return data

    def name(self) -> str:
        return "hotmend_json"


def _encode_error(value: object) -> object:
    if isinstance(value, BaseException):
        return {"__error__": f"{type(value).__name__}: {value}"}
    raise TypeError(f"{type(value).__name__} is not kept in the queue")


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
    """The queue as a process sees it. Use `open_work`."""

    def __init__(self, workflow: Callable[[dict[str, object]], dict[str, object]], liveness: Liveness | None) -> None:
        self._workflow = workflow
        self._liveness = liveness

    def enqueue(self, survey: str, candidates: Sequence[Candidate], progress: Callable[[int], None]) -> None:
        """Put the packages on the queue that are not there yet, the first ones to be done first.

        Packages that could not be looked at in an earlier run, for example because they could not be fetched, are
        done again.
        """
        wanted = {entry_id(survey, c): (rank, c) for rank, c in enumerate(candidates, 1)}
        known = {entry.id: entry for entry in self.entries(survey)}
        failed = [i for i, e in known.items() if i in wanted and e.done and _failed(e)]
        if failed:
            DBOS.delete_workflows(failed)
        new = [item for item in wanted.items() if item[0] not in known or item[0] in failed]
        for number, (identity, (rank, candidate)) in enumerate(new):
            progress(number)
            with SetWorkflowID(identity), SetEnqueueOptions(priority=rank):
                DBOS.enqueue_workflow(QUEUE, self._workflow, msgspec.to_builtins(candidate))

    def entries(self, survey: str) -> Iterator[Entry]:
        """Yield the packages of a survey, with what is known of them."""
        for status in DBOS.list_workflows(workflow_id_prefix=f"{survey}/", load_input=False):
            yield _entry(status)

    def open_entries(self, survey: str | None = None) -> int:
        """Return how many packages are not done; of all surveys when none is named."""
        prefix = f"{survey}/" if survey else None
        found = DBOS.list_workflows(
            workflow_id_prefix=prefix, status=_OPEN, name=_WORKFLOW, load_input=False, load_output=False
        )
        return len(found)

    def forget(self, survey: str) -> None:
        """Take the packages of a survey off the queue, with all that is known of them."""
        found = DBOS.list_workflows(workflow_id_prefix=f"{survey}/", load_input=False, load_output=False)
        identities = [status.workflow_id for status in found]
        if identities:
            DBOS.cancel_workflows(identities)
            DBOS.delete_workflows(identities)

    def take_over(self) -> None:
        """Put back on the queue what processes have taken that are no longer alive."""
        if self._liveness is None:
            return
        pending = DBOS.list_workflows(status="PENDING", name=_WORKFLOW, load_input=False, load_output=False)
        names = {status.executor_id for status in pending if status.executor_id} - {DBOS.executor_id}
        for name in sorted(names):
            with self._liveness.if_dead(name) as dead:
                if dead:
                    DBOS._recover_pending_workflows([name])  # the library has no public name for it


def _failed(entry: Entry) -> bool:
    return entry.error is not None or (entry.result is not None and entry.result.package.error is not None)


def _entry(status: WorkflowStatus) -> Entry:
    done = status.status not in _OPEN
    result = msgspec.convert(status.output, PackageResult) if status.status == "SUCCESS" else None
    error = None if result is not None or not done else f"{status.status.lower()}: {status.error or 'no answer'}"
    return Entry(status.workflow_id, done, result, error)


@contextmanager
def open_work(database: str, bench: Bench, *, workers: int | None) -> Iterator[Work]:
    """Open the queue and begin to take work from it.

    Args:
        database: an SQLAlchemy URL of SQLite or PostgreSQL.
        bench: what this machine works with.
        workers: how many packages a process works on at once, for all processes of this queue; None leaves what
            the queue says.

    Raises:
        InputError: the database cannot be opened.
    """
    shared = not database.startswith("sqlite")
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}" if shared else SQLITE_EXECUTOR
    workflow = _register(bench, name)
    config = DBOSConfig(
        name=APPLICATION,
        system_database_url=database,
        application_version=VERSION,
        executor_id=name,
        serializer=_Json(),
        log_level="CRITICAL",
        enable_otlp=False,
    )
    liveness = Liveness(database, name) if shared else None
    DBOS(config=config)
    try:
        try:
            DBOS.launch()
        except Exception as error:
            raise InputError(f"the database of the survey cannot be opened: {_first_line(error)}") from error
        if workers is not None or DBOS.retrieve_queue(QUEUE) is None:
            DBOS.register_queue(
                QUEUE,
                # One more than there are children, so that none waits while the next package is chosen.
                worker_concurrency=(workers or 1) + 1,
                polling_interval_sec=_POLL_SECONDS,
                on_conflict="always_update",
            )
        yield Work(workflow, liveness)
    finally:
        DBOS.destroy(destroy_registry=True)
        if liveness is not None:
            liveness.close()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


_WORKFLOW: Final = "survey-package"


def _register(bench: Bench, worker: str) -> Callable[[dict[str, object]], dict[str, object]]:
    """Tell DBOS what a package's work consists of. The steps that are done are never done again."""

    @DBOS.step(name="prepare")
    def prepare(package: dict[str, object]) -> dict[str, object]:
        return _builtins(bench.prepare(msgspec.convert(package, Candidate)))

    @DBOS.step(name="compare")
    def compare(package: dict[str, object], file: dict[str, object]) -> dict[str, object]:
        row = bench.compare(msgspec.convert(package, Candidate), msgspec.convert(file, PairedFile))
        return _builtins(row)

    @DBOS.workflow(name=_WORKFLOW)
    def survey_package(package: dict[str, object]) -> dict[str, object]:
        candidate = msgspec.convert(package, Candidate)
        prepared = msgspec.convert(prepare(package), Prepared)
        files = prepared.unpacked.files if prepared.unpacked else ()
        rows = list(_rows(candidate, files, lambda file: compare(package, _builtins(file))))
        bench.put_away(candidate)
        return _builtins(package_result(candidate, prepared, rows, worker))

    return survey_package


def _rows(
    candidate: Candidate, files: Iterable[PairedFile], compare: Callable[[PairedFile], dict[str, object]]
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


def _builtins(value: msgspec.Struct) -> dict[str, object]:
    result: dict[str, object] = msgspec.to_builtins(value)
    return result


def wait(work: Work, survey: str | None, stop: threading.Event, changed: Callable[[int], None]) -> None:
    """Wait until nothing of the survey is left on the queue, and take over from processes that have died."""
    rounds = 0
    while (left := work.open_entries(survey)) and not stop.wait(1.0):
        changed(left)
        rounds += 1
        if rounds % 5 == 1:
            work.take_over()
