"""A durable queue: one workflow for each thing on it, whose steps are never done twice. The only user of DBOS.

Everything that is known lives in the database: what is to be done, who does it, and what each step gave as soon as it
is there. A run that was killed goes on behind the last step that was done. With SQLite one process works; with
PostgreSQL any number of machines take from the same queue. A survey, a publisher and a server may share a database:
each has its own queue.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from dbos import DBOS, DBOSConfig, Serializer, SetEnqueueOptions, SetWorkflowID, WorkflowStatus

from hotmend.durable.liveness import Liveness
from hotmend.model.errors import HotmendError, InputError

SQLITE_EXECUTOR: Final = "local"
UNLIMITED: Final = 0
"""As `workers`: a process works on all there are, each in a thread of its own."""
_POLL_SECONDS = 0.1
_TAKE_OVER_SECONDS = 5.0
_OPEN = ["ENQUEUED", "PENDING", "DELAYED"]

Fields = dict[str, object]
Workflow = Callable[[Fields], Fields]


@dataclass(frozen=True, slots=True)
class Kind:
    """What is on a queue.

    Attributes:
        queue: its name, and that of the application.
        version: of the workflow's steps. A run goes on with work that was begun by the same version only, and a process
            is given no work of another kind.
        workflow: name of the workflow.
        register: tells DBOS what a workflow consists of; gets the name of this process.
    """

    queue: str
    version: str
    workflow: str
    register: Callable[[str], Workflow]


@dataclass(frozen=True, slots=True)
class Item:
    """One workflow on the queue. `result` is there when it is done; `error` when the workflow itself failed."""

    id: str
    done: bool
    result: Fields | None
    error: str | None


def step(name: str) -> Callable[[Callable[..., Fields]], Callable[..., Fields]]:
    """Return the decorator of a step: what it returned once, it returns for good."""
    return DBOS.step(name=name)


def workflow(name: str) -> Callable[[Workflow], Workflow]:
    """Return the decorator of the function that takes an item's steps."""
    return DBOS.workflow(name=name)


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


class Queue:
    """The queue as a process sees it. Use `open_queue`."""

    def __init__(self, kind: Kind, workflow: Workflow, liveness: Liveness | None) -> None:
        self._kind = kind
        self._workflow = workflow
        self._liveness = liveness

    def enqueue(self, items: Mapping[str, Fields], progress: Callable[[int], None], ranks: Mapping[str, int]) -> None:
        """Put workflows on the queue by their id, those of the lowest rank to be done first."""
        for number, (identity, argument) in enumerate(items.items()):
            progress(number)
            with SetWorkflowID(identity), SetEnqueueOptions(priority=ranks[identity]):
                DBOS.enqueue_workflow(self._kind.queue, self._workflow, argument)

    def items(self, prefix: str) -> Iterator[Item]:
        """Yield the workflows whose id begins with `prefix`, with what is known of them."""
        for status in DBOS.list_workflows(workflow_id_prefix=prefix, load_input=False):
            yield _item(status)

    def open_count(self, prefix: str | None = None) -> int:
        """Return how many workflows are not done; of all when no prefix is given."""
        found = DBOS.list_workflows(
            workflow_id_prefix=prefix, status=_OPEN, name=self._kind.workflow, load_input=False, load_output=False
        )
        return len(found)

    def delete(self, identities: list[str]) -> None:
        """Forget workflows that are done."""
        if identities:
            DBOS.delete_workflows(identities)

    def forget(self, prefix: str) -> None:
        """Take workflows off the queue, with all that is known of them."""
        found = DBOS.list_workflows(workflow_id_prefix=prefix, load_input=False, load_output=False)
        identities = [status.workflow_id for status in found]
        if identities:
            DBOS.cancel_workflows(identities)
            DBOS.delete_workflows(identities)

    def take_over(self) -> None:
        """Put back on the queue what processes have taken that are no longer alive."""
        if self._liveness is None:
            return
        name = self._kind.workflow
        pending = DBOS.list_workflows(status="PENDING", name=name, load_input=False, load_output=False)
        names = {status.executor_id for status in pending if status.executor_id} - {DBOS.executor_id}
        for name in sorted(names):
            with self._liveness.if_dead(name) as dead:
                if dead:
                    DBOS._recover_pending_workflows([name])  # the library has no public name for it


def _item(status: WorkflowStatus) -> Item:
    done = status.status not in _OPEN
    result = status.output if status.status == "SUCCESS" else None
    error = None if result is not None or not done else f"{status.status.lower()}: {status.error or 'no answer'}"
    return Item(status.workflow_id, done, result, error)


@contextmanager
def open_queue(
    database: str, kind: Kind, *, workers: int | None, poll_seconds: float = _POLL_SECONDS
) -> Iterator[Queue]:
    """Open a queue and begin to take work from it.

    Args:
        database: an SQLAlchemy URL of SQLite or PostgreSQL.
        kind: what is on it.
        workers: how many workflows a process works on at once, for all processes of this queue (`UNLIMITED`: all); None
            leaves what the queue says.
        poll_seconds: how often a process looks for work.

    Raises:
        InputError: the database cannot be opened.
    """
    shared = not database.startswith("sqlite")
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}" if shared else SQLITE_EXECUTOR
    workflow = kind.register(name)
    config = DBOSConfig(
        name=kind.queue,
        system_database_url=database,
        application_version=kind.version,
        executor_id=name,
        serializer=_Json(),
        log_level="CRITICAL",
        enable_otlp=False,
    )
    liveness = Liveness(database, name) if shared else None
    DBOS(config=config)
    DBOS.listen_queues([kind.queue])
    try:
        try:
            DBOS.launch()
        except Exception as error:
            raise InputError(f"the database of the queue cannot be opened: {_first_line(error)}") from error
        if workers is not None or DBOS.retrieve_queue(kind.queue) is None:
            DBOS.register_queue(
                kind.queue,
                # One more than there are children, so that none waits while the next package is chosen.
                worker_concurrency=None if workers == UNLIMITED else (workers or 1) + 1,
                polling_interval_sec=poll_seconds,
                on_conflict="always_update",
            )
        yield Queue(kind, workflow, liveness)
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "sqlalchemy":
            raise
        # A full disk, or a server that went away: what is recorded stays.
        raise HotmendError(f"the queue: {_first_line(error)}", "run it again, and it goes on") from error
    finally:
        DBOS.destroy(destroy_registry=True)
        if liveness is not None:
            liveness.close()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def wait(queue: Queue, prefix: str | None, stop: threading.Event, changed: Callable[[int], None]) -> None:
    """Wait until nothing with this prefix is left on the queue, and take over from processes that have died."""
    pause = _POLL_SECONDS
    asked = -_TAKE_OVER_SECONDS
    while (left := queue.open_count(prefix)) and not stop.wait(pause):
        changed(left)
        pause = min(pause * 1.5, 1.0)
        if time.monotonic() - asked >= _TAKE_OVER_SECONDS:
            queue.take_over()
            asked = time.monotonic()
