"""Steering: one durable workflow for each rollout, on whichever server process has taken it.

The workflow takes steps (`steering.step`) until the rollout has ended. What it does is in the database, so nothing is
lost with a process: another one goes on, or the same after its start. A row of the workflow is written once a minute.
"""

from __future__ import annotations

import logging
import threading
import time
from datetime import timedelta
from functools import partial
from typing import Final

import hotmend.durable.queue as durable
from hotmend.durable.queue import Fields, Kind, Queue, Workflow
from hotmend.server.context import Context
from hotmend.server.maintenance import slots
from hotmend.server.maintenance.service import assign_all
from hotmend.server.rollouts import steering, store
from hotmend.server.worker import Worker
from hotmend.servicing.rollouts import State

KIND_VERSION: Final = "rollouts-1"
"""Of the workflow's steps. It stays when a server is upgraded: rollouts go on."""
_MINUTE: Final = 60.0
_MOVED_SECONDS: Final = 0.2
_STILL_SECONDS: Final = 1.0
_RESTING_SECONDS: Final = 5.0
_JOIN_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 1.0
_TAKE_OVER_SECONDS: Final = 10.0
_HEARD: Final = 2
"""Check-ins after the end of a slot: a machine that is there again has said so."""
_LOG: Final = logging.getLogger("hotmend.server.rollouts")


def take_back_slots(context: Context) -> int:
    """Take restart slots back whose machines have not come back, and count these as failed; return how many."""
    now = context.clock()
    until = now - _HEARD * timedelta(seconds=context.settings.check_in_seconds)
    with context.database.write() as connection:
        return slots.take_back(connection, now, until, partial(steering.not_returned, connection, context))


class Director(Worker):
    """Gives each rollout its workflow, takes over from processes that have died, has assignments and slots followed.

    Who leaves lets go of all workflows: they are taken up by another process, or by this one's next start.

    Args:
        context: of the server process.
    """

    def __init__(self, context: Context) -> None:
        # In a thread, as the library of the workflows refuses to be opened where an event loop runs.
        super().__init__("rollouts", _LOOK_SECONDS)
        self._context = context
        self._opened = threading.Event()
        self._error: Exception | None = None

    def start(self) -> None:
        """Begin.

        Raises:
            InputError: the database of the workflows cannot be opened.
        """
        super().start()
        self._opened.wait()
        if self._error is not None:
            self._leaving.set()
            raise self._error

    def _round(self) -> None:
        """Steer until this process ends, or the database of the workflows fails: then it is opened again."""
        kind = Kind("hotmend-rollouts", KIND_VERSION, "rollout", self._register)
        url = self._context.settings.database
        try:
            with durable.open_queue(url, kind, workers=durable.UNLIMITED, poll_seconds=_LOOK_SECONDS) as queue:
                self._opened.set()
                self._look(queue)
        except Exception as error:
            if not self._opened.is_set():
                self._error = error  # told by `start`
                self._opened.set()
            raise

    def _look(self, queue: Queue) -> None:
        known: set[str] = set()
        looked = time.monotonic()
        while not self._leaving.wait(_LOOK_SECONDS):
            try:
                with self._context.database.read() as connection:
                    unended = set(store.unended(connection))
                new: dict[str, Fields] = {f"rollout/{each}": {"rollout": each} for each in sorted(unended - known)}
                queue.enqueue(new, lambda _: None, dict.fromkeys(new, 1))
                known = unended
                if time.monotonic() - looked >= _TAKE_OVER_SECONDS:
                    queue.take_over()
                    known -= self._lost(queue, unended)
                    with self._context.database.write() as connection:
                        assign_all(connection)
                    take_back_slots(self._context)
                    looked = time.monotonic()
            except Exception as error:  # noqa: BLE001 - whatever it is, those that are steered go on
                self._failed(error)
            else:
                self._trouble = ""

    def _lost(self, queue: Queue, unended: set[str]) -> set[str]:
        """Forget workflows that ended before their rollouts did, as after a restored backup; return those rollouts."""
        lost = {each for each in unended for item in queue.items(f"rollout/{each}") if item.done}
        queue.delete([f"rollout/{each}" for each in sorted(lost)])
        return lost

    def _register(self, executor: str) -> Workflow:  # noqa: ARG002 - the step writes no name down
        @durable.step("steer")
        def steer(rollout: str) -> Fields:
            return {"state": self._steer(rollout).value}

        @durable.workflow("rollout")
        def run(fields: Fields) -> Fields:
            while True:
                answer = steer(str(fields["rollout"]))
                if State(str(answer["state"])).final:
                    return answer

        return run

    def _steer(self, rollout: str) -> State:
        """Take steps for a minute, or until the rollout has ended."""
        until, joined = time.monotonic() + _MINUTE, float("-inf")
        while True:
            self._go_on()
            join = time.monotonic() - joined >= _JOIN_SECONDS
            pause = _RESTING_SECONDS
            try:
                step = steering.step(self._context, rollout, join=join)
            except Exception:  # noqa: BLE001 - see below
                # Whatever it is: a workflow that ends here would leave its rollout without anybody who steers it.
                _LOG.exception("rollout %s", rollout)
            else:
                if step.state.final or time.monotonic() >= until:
                    return step.state
                joined = time.monotonic() if join else joined
                resting = step.state in (State.PAUSED, State.READY)
                pause = _MOVED_SECONDS if step.moved else _RESTING_SECONDS if resting else _STILL_SECONDS
            self._leaving.wait(pause)
