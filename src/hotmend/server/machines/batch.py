"""Check-ins that come while a transaction is under way wait for the next one, all of them together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from sqlalchemy.exc import OperationalError, SQLAlchemyError

from hotmend.server.database import gave_way
from hotmend.server.machines.contact import Received, Result
from hotmend.server.problem import Problem, problem_of

BATCH_MAX: Final = 256
WAITING_MAX: Final = 5000
"""More than so many at once are told to come later: they would be answered too late."""
WAITING_BYTES_MAX: Final = 256 << 20
"""What those that wait may take of the memory: 50 KiB each when as many wait as may, and a report has some ten."""
_LOG: Final = logging.getLogger("hotmend.server")
_Waiting = tuple[Received, "asyncio.Future[Result]"]


class Batcher:
    """One transaction at a time.

    Args:
        take: takes check-ins of different machines, in a thread of its own.
    """

    def __init__(self, take: Callable[[Sequence[Received]], list[Result]]) -> None:
        self._take = take
        self._waiting: list[_Waiting] = []
        self._bytes = 0
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "check-in")

    async def submit(self, received: Received) -> Result:
        """Return the answer when it is on the disk.

        Raises:
            Problem: too many wait.
        """
        if len(self._waiting) >= WAITING_MAX or self._bytes + len(received.body) > WAITING_BYTES_MAX:
            raise Problem(503, "busy", "too many machines at once", "come later", {"Retry-After": "30"})
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((received, future))
        self._bytes += len(received.body)
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        return await future

    def close(self) -> None:
        """End the thread; what is under way is finished."""
        self._thread.shutdown()

    async def _work(self) -> None:
        try:
            while self._waiting:
                batch = self._next()
                received = [each for each, _ in batch]
                try:
                    answers = await asyncio.get_running_loop().run_in_executor(self._thread, self._taken, received)
                except Exception as error:  # noqa: BLE001 - each of them has to be told
                    answers = [problem_of(error)] * len(batch)
                for (_, future), answer in zip(batch, answers, strict=True):
                    if not future.done():
                        future.set_result(answer)
        finally:
            self._task = None

    def _next(self) -> list[_Waiting]:
        """Take the oldest that wait, one of each machine: a second one is judged by what the first leaves."""
        batch: list[_Waiting] = []
        later: list[_Waiting] = []
        names: set[str] = set()
        for each in self._waiting:
            name = each[0].signed.key
            if len(batch) < BATCH_MAX and name not in names:
                names.add(name)
                batch.append(each)
            else:
                later.append(each)
        self._waiting = later
        self._bytes = sum(len(received.body) for received, _ in later)
        return batch

    def _taken(self, received: Sequence[Received]) -> list[Result]:
        """Take them together; where one of them is the trouble, each by itself, so that it stops no other."""
        try:
            return self._take(received)
        except OperationalError as error:
            if not gave_way(error):
                raise
            # It locks actions before rollouts, and a rollout's step does the reverse: one of the two gives way.
            _LOG.info("a batch of check-ins gave way and is taken again")
            return self._take(received)
        except SQLAlchemyError:
            if len(received) == 1:
                raise
            _LOG.exception("a batch of check-ins failed and is taken one by one")
        return [self._alone(each) for each in received]

    def _alone(self, received: Received) -> Result:
        try:
            return self._take([received])[0]
        except SQLAlchemyError as error:
            return problem_of(error)
