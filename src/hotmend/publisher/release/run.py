"""One run for a channel: look at the suites, make what is due, ask for what offline keys have to sign, tidy up."""

from __future__ import annotations

import fcntl
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from hotmend.model.errors import HotmendError, InputError, UsageError
from hotmend.publisher.feed import PackageVersion
from hotmend.publisher.release import compose
from hotmend.publisher.release.compose import Agreed, Line, Pair
from hotmend.publisher.release.deltas import deltas_of
from hotmend.publisher.release.make import free_identity, hotpatch_release, publish_baseline, unplanned_release
from hotmend.publisher.release.mirror import Current, Mirror, digest_of
from hotmend.publisher.release.pages import pages_write
from hotmend.publisher.release.plan import Plan
from hotmend.publisher.release.session import Done, Progress, Session
from hotmend.publisher.release.upkeep import ask_again, forget_packages, promote_ripe, refresh, retain
from hotmend.publisher.release.work import Bench, Job, Step, Work, database_url, open_work
from hotmend.publisher.survey.nursery import Pool
from hotmend.repository.collect import garbage_collect
from hotmend.repository.layout import Tier
from hotmend.repository.publish import Publisher
from hotmend.repository.releases import HotpatchRelease


@dataclass(frozen=True, slots=True)
class Settings:
    """How a run works.

    Attributes:
        database: SQLAlchemy URL of the queue, or "" for a file in the channel's folder.
        workers: children at once on this machine.
        memory_bytes, build_seconds: limits of one child.
        wait_seconds: how long a worker without work waits for some.
    """

    database: str = ""
    workers: int = 2
    memory_bytes: int = 2 << 30
    build_seconds: float = 1800.0
    wait_seconds: float = 30.0


def run_publish(
    plan: Plan, publisher: Publisher, settings: Settings, now: Callable[[], datetime], progress: Progress
) -> Done:
    """Do what is due for a channel. Called again after whatever ended it, it goes on; it does nothing twice.

    Args:
        plan: of the channel.
        publisher: of the repository, on the host that has the canary key.
        settings: how.
        now: clock of the releases.
        progress: called while it goes on.

    Raises:
        FetchError: a suite cannot be reached, or is not signed as the plan says: nothing was published.
        UsageError: another run is at work, or the repository has no such channel.
        Refusal: the repository does not take a release.
    """
    with machine(plan, settings) as (mirror, pool):
        session = Session(plan, publisher, mirror, pool, progress)
        session.content(Tier.CANARY)
        progress("updating lists", 0, 1)
        mirror.update()
        offers = mirror.offers()
        publish_baseline(session, offers, now())
        with open_work(
            database_url(settings.database, Path(plan.state)), Bench(mirror, pool), workers=settings.workers
        ) as work:
            for line in session.lines():
                _line(session, work, line, offers, now())
        ask_again(session)
        promote_ripe(session, now())
        retain(session)
        refresh(session, now())
        pages_write(publisher, plan.channel, plan.cycle, now())
        gone = garbage_collect(publisher.store, timedelta(days=plan.retention.grace_days), now())
        session.done.collected = len(gone) + forget_packages(session, offers)
        return session.done


def run_worker(plan: Plan, settings: Settings, progress: Progress) -> int:
    """Build for a run on another machine, until there has been nothing to do for a while; return how many it took.

    Raises:
        UsageError: the database is one that machines cannot share.
    """
    if not settings.database.startswith("postgresql"):
        raise UsageError("workers on other machines need a PostgreSQL database", "give --database postgresql://...")
    with machine(plan, settings) as (mirror, pool):
        mirror.update()
        bench = Bench(mirror, pool)
        with open_work(settings.database, bench, workers=None) as work:
            idle = time.monotonic()
            while time.monotonic() - idle < settings.wait_seconds:
                if work.wait_for_work(lambda left: progress("building", 0, left)):
                    idle = time.monotonic()
                time.sleep(0.5)
        return bench.done


@contextmanager
def machine(plan: Plan, settings: Settings) -> Iterator[tuple[Mirror, Pool]]:
    """Give what this machine works with; one run at a time in one folder."""
    state = Path(plan.state)
    try:
        state.mkdir(parents=True, exist_ok=True)
        lock = (state / "lock").open("w")
    except OSError as error:
        raise InputError(f"{state}: {error.strerror or error}", "`state` in the plan names another place") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(f"another run works in {state}", "wait for it") from None
        with Pool(settings.workers, memory_bytes=settings.memory_bytes, seconds=settings.build_seconds) as pool:
            yield Mirror(plan), pool


def _line(session: Session, work: Work, line: Line, offers: Mapping[str, Current], now: datetime) -> None:
    """Build what a baseline's machines need, and publish what comes out."""
    jobs, failed = _jobs(session, line, offers)
    total = len(jobs)
    answers = work.build(
        session.plan.channel, jobs, lambda left: session.progress("building", max(total - left, 0), total)
    )
    results: dict[tuple[str, Pair], Agreed | str] = dict(failed)
    waits = {pair for _, pair in failed}
    for step in dict.fromkeys(job.step for job in jobs):
        pair = (step.package, step.old_version, step.new_version)
        mine = [answers[job] for job in jobs if job.step == step]
        results[step.source, pair] = compose.agree(mine)
        waits |= {pair} if any(answer.retry for answer in mine) else set()
    composed = compose.compose(line, results, frozenset(waits))
    session.done.problems += composed.problems
    existing = dict(session.content(Tier.CANARY).releases)
    for draft in composed.unplanned:
        plain = re.sub(r"[^a-z0-9.-]+", "-", draft.sources[0].lower())
        unplanned = unplanned_release(
            session, line, draft, free_identity(f"{line.baseline.id}.u-{plain}"[:90], existing), now
        )
        session.publisher.add(unplanned, {})
        existing[unplanned.id] = unplanned
        session.done.published.append(unplanned.id)
    if composed.hotpatch is not None:
        number = 1 + sum(isinstance(release, HotpatchRelease) for release in line.history)
        hotpatch = hotpatch_release(session, line, composed.hotpatch, number, now)
        bundles = composed.hotpatch.bundles
        session.publisher.add(hotpatch, bundles, deltas_of(session, hotpatch, bundles))
        session.done.published.append(hotpatch.id)


def _jobs(
    session: Session, line: Line, offers: Mapping[str, Current]
) -> tuple[list[Job], dict[tuple[str, Pair], Agreed | str]]:
    """Return the builds to be done, and those for which a package cannot be had, with the reason."""
    jobs: list[Job] = []
    failed: dict[tuple[str, Pair], Agreed | str] = {}
    wanted = compose.wanted(line, offers, frozenset(session.plan.packages))
    for number, (source, pair) in enumerate(wanted):
        session.progress("fetching packages", number, len(wanted))
        versions = PackageVersion(pair[0], pair[1]), PackageVersion(pair[0], pair[2])
        try:
            files = session.mirror.fetch(versions)
        except HotmendError as error:
            failed[source, pair] = str(error)
            continue
        step = Step(source, *pair, *(digest_of(files[version]) for version in versions))
        accept = session.plan.accept.get(source, ())
        jobs += [
            Job(session.plan.channel, step, n, accept, session.plan.partial)
            for n in range(1, session.plan.builders + 1)
        ]
    return jobs, failed
