"""Builds on the durable queue: one workflow for each package, old build, new build and builder."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

import hotmend.durable.queue as durable
from hotmend.durable.queue import Fields, Kind, Queue, Workflow
from hotmend.model.errors import HotmendError
from hotmend.publisher.feed import PackageVersion
from hotmend.publisher.release.builds import Building, Built
from hotmend.publisher.release.mirror import Mirror
from hotmend.publisher.survey.nursery import Pool

QUEUE: Final = "hotmend-publish"
VERSION: Final = "publish-1"
_WORKFLOW: Final = "build-package"


class Step(msgspec.Struct, frozen=True):
    """From one build of a package to another: what a hotpatch is made of, or refused for.

    Attributes:
        source: package.
        package, old_version, new_version: what apt calls them.
        old_sha256, new_sha256: of the two .deb files.
    """

    source: str
    package: str
    old_version: str
    new_version: str
    old_sha256: str
    new_sha256: str

    @property
    def versions(self) -> tuple[PackageVersion, PackageVersion]:
        """The two packages."""
        return PackageVersion(self.package, self.old_version), PackageVersion(self.package, self.new_version)


class Job(msgspec.Struct, frozen=True):
    """A step for one builder, the `number`-th; and how the two builds are compared."""

    channel: str
    step: Step
    number: int
    accept: tuple[str, ...]
    partial: bool

    @property
    def id(self) -> str:
        """Of its workflow: the same build by the same builder is never done twice."""
        step = self.step
        how = f"{step.old_sha256[:16]}-{step.new_sha256[:16]}-{'p' if self.partial else 'w'}{'+'.join(self.accept)}"
        return f"{self.channel}/{step.package}/{step.old_version}/{step.new_version}/{how}/{self.number}"


class Answer(msgspec.Struct, frozen=True):
    """What became of a job: `built`, or in one line why not.

    `builder` is the process that took it, and which of the builds it is: two of one process are told from two of two.
    `retry`: it is no fault of the packages, and the next run tries again.
    """

    built: Built | None
    builder: str
    error: str | None = None
    retry: bool = False


class Bench:
    """What a machine builds with: packages, and children to do it in.

    Attributes:
        done: how many jobs were done here.
    """

    def __init__(self, mirror: Mirror, pool: Pool) -> None:
        self._mirror = mirror
        self._pool = pool
        self.done = 0

    def build(self, job: Job, builder: str) -> Answer:
        """Do a job. Whatever goes wrong is in the answer."""
        step, builder = job.step, f"{builder}/{job.number}"
        try:
            files = self._mirror.fetch(step.versions)
        except HotmendError as error:
            return Answer(None, builder, str(error), retry=True)
        old, new = (str(files[version]) for version in step.versions)
        building = Building(old, new, step.old_sha256, step.new_sha256, job.accept, job.partial)
        answer = self._pool.run("build", building)
        self.done += 1
        if answer.result is None:
            return Answer(None, builder, answer.error, retry=answer.error_kind == "killed")
        return Answer(msgspec.convert(answer.result, Built), builder)


class Work:
    """The queue of builds. Use `open_work`."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def build(self, channel: str, jobs: Sequence[Job], progress: Callable[[int], None]) -> dict[Job, Answer]:
        """Have jobs done, here and wherever else the queue is open, and return their answers.

        What an earlier run has found counts; what it could not even try is tried again.
        """
        prefix = f"{channel}/"
        by_id = {job.id: job for job in jobs}
        known = {item.id: item for item in self._queue.items(prefix) if item.id in by_id}
        again = [i for i, item in known.items() if item.done and (item.result is None or _answer(item.result).retry)]
        self._queue.delete(again)
        new = {i: job for i, job in by_id.items() if i not in known or i in again}
        arguments: dict[str, Fields] = {i: msgspec.to_builtins(job) for i, job in new.items()}
        self._queue.enqueue(arguments, lambda _: None, {i: rank for rank, i in enumerate(new, 1)})
        durable.wait(self._queue, prefix, threading.Event(), progress)
        answers = {}
        for item in self._queue.items(prefix):
            if item.id in by_id:
                lost = Answer(None, "", item.error or "no answer", retry=True)
                answers[by_id[item.id]] = _answer(item.result) if item.result is not None else lost
        return answers

    def wait_for_work(self, progress: Callable[[int], None]) -> int:
        """Work on whatever is on the queue until nothing is left; return how much was open at the beginning."""
        left = self._queue.open_count()
        if left:
            durable.wait(self._queue, None, threading.Event(), progress)
        return left


def _answer(result: Fields) -> Answer:
    return msgspec.convert(result, Answer)


@contextmanager
def open_work(database: str, bench: Bench, *, workers: int | None) -> Iterator[Work]:
    """Open the queue and begin to take work from it (`durable.open_queue`)."""
    kind = Kind(QUEUE, VERSION, _WORKFLOW, lambda worker: _register(bench, worker))
    with durable.open_queue(database, kind, workers=workers) as queue:
        yield Work(queue)


def _register(bench: Bench, worker: str) -> Workflow:
    @durable.step("build")
    def build(job: Fields) -> Fields:
        answer: Fields = msgspec.to_builtins(bench.build(msgspec.convert(job, Job), worker))
        return answer

    @durable.workflow(_WORKFLOW)
    def build_package(job: Fields) -> Fields:
        return build(job)

    return build_package


def database_url(database: str, state: Path) -> str:
    """Return where the queue is: `database`, or a file in the channel's folder where that is empty."""
    return database or f"sqlite:///{(state / 'queue.sqlite').absolute()}"
