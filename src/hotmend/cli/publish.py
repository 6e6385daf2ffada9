"""`hotmend publish`: from a distribution's suites to signed releases."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from hotmend.cli.channel import json_option, publisher_open, refusable, repository_argument, secret_option
from hotmend.cli.channel_client import root_read
from hotmend.cli.channel_text import pending_print, refused_print, request_shape
from hotmend.cli.output import ExitCode, Steps, print_json, print_note, print_table
from hotmend.cli.publish_shapes import PublishShape, RecheckedShape, RecheckShape, WorkedShape
from hotmend.model.verdict import Reason
from hotmend.publisher.release.plan import plan_load
from hotmend.repository.client import open_channel, trust
from hotmend.repository.layout import Tier

if TYPE_CHECKING:
    from hotmend.publisher.release.run import Settings
    from hotmend.publisher.release.session import Done

_MEMORY_MIB: Final = 2048
_BUILD_SECONDS: Final = 1800.0
_plan = click.argument("plan", type=click.Path(path_type=Path, dir_okay=False))
_workers = click.option(
    "--workers", type=click.IntRange(1, 1024), metavar="N", help="Builds at once; default: processors."
)
_database = click.option(
    "--database", metavar="URL", default="", envvar="HOTMEND_DATABASE", help="PostgreSQL for many machines."
)
_memory = click.option(
    "--memory", type=click.IntRange(64), default=_MEMORY_MIB, show_default=True, metavar="MIB", help="For one build."
)
_seconds = click.option(
    "--build-seconds", type=click.FloatRange(1), default=_BUILD_SECONDS, show_default=True, help="Time for one build."
)


@click.group("publish")
def publish_command() -> None:
    """Watch the suites of a distribution, build what their updates need, and publish it to the canary tier."""


@publish_command.command("run")
@repository_argument
@_plan
@_workers
@_database
@_memory
@_seconds
@secret_option
@json_option
@refusable
def run_command(
    repository: Path,
    plan: Path,
    workers: int | None,
    database: str,
    memory: int,
    build_seconds: float,
    secret_file: Path | None,
    as_json: bool,
) -> int:
    """Do what is due for the channel of PLAN: lists, builds, releases, requests to offline keys, tidying up.

    For a timer. Whatever ends it, the next run goes on. Exit code 3 where nothing was due.
    """
    from hotmend.publisher.release.run import run_publish

    settings = _settings(workers, database, memory, build_seconds)
    with Steps(threaded=True) as steps:
        done = run_publish(plan_load(plan), publisher_open(repository, secret_file), settings, _now, steps)
    _print(done, as_json=as_json)
    idle = not (done.published or done.withdrawn or done.pending)
    return ExitCode.FAILED if done.problems else ExitCode.NOTHING_TO_DO if idle else ExitCode.DONE


@publish_command.command("worker")
@_plan
@_workers
@_database
@_memory
@_seconds
@click.option("--wait", type=click.FloatRange(0), default=30.0, metavar="SECONDS", help="How long to wait for work.")
@json_option
def worker_command(
    plan: Path, workers: int | None, database: str, memory: int, build_seconds: float, wait: float, as_json: bool
) -> int:
    """Build for runs on other machines: needs the PLAN and the database, and no key."""
    from hotmend.publisher.release.run import run_worker

    settings = _settings(workers, database, memory, build_seconds, wait)
    with Steps(threaded=True) as steps:
        count = run_worker(plan_load(plan), settings, steps)
    if as_json:
        print_json(WorkedShape(count))
    else:
        print_note(f"{count} builds were done here.")
    return ExitCode.DONE if count else ExitCode.NOTHING_TO_DO


@publish_command.command("check")
@click.argument("source")
@_plan
@click.argument("release")
@click.option("--root", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="The root to begin with.")
@click.option("--tier", type=click.Choice([t.value for t in Tier]), default="canary", show_default=True)
@_workers
@_memory
@_seconds
@json_option
def check_command(
    source: str,
    plan: Path,
    release: str,
    root: Path | None,
    tier: str,
    workers: int | None,
    memory: int,
    build_seconds: float,
    as_json: bool,
) -> int:
    """Build the hotpatches of RELEASE again, from packages fetched here, and compare them byte for byte.

    SOURCE is a mirror's address, its folder, or a file of `channel bundle`; the release is verified first.
    """
    from hotmend.publisher.release.recheck import recheck, store_of
    from hotmend.publisher.release.run import machine

    loaded = plan_load(plan)
    settings = _settings(workers, "", memory, build_seconds)
    with machine(loaded, settings) as (mirror, pool), Steps(threaded=True) as steps:
        if root is not None:
            trust(store_of(loaded), root_read(root))
        opened = open_channel(source, store_of(loaded), loaded.channel, Tier(tier))
        found = opened if isinstance(opened, Reason) else opened.release(release)
        if isinstance(found, Reason):
            refused_print((found,), as_json=as_json)
            return ExitCode.REFUSED
        results = recheck(loaded, found, mirror, pool, steps)
    shapes = tuple(RecheckShape(result.name, result.same, result.error) for result in results)
    if as_json:
        print_json(RecheckedShape(release, shapes))
    else:
        words = {True: "the same bytes", False: "DIFFERENT", None: "not built"}
        print_table(release, ("bundle", "built here", ""), [(s.bundle, words[s.same], s.error) for s in shapes])
    if any(shape.same is False for shape in shapes):
        return ExitCode.REFUSED
    return ExitCode.DONE if all(shape.same for shape in shapes) else ExitCode.FAILED


def _settings(workers: int | None, database: str, memory: int, build_seconds: float, wait: float = 0.0) -> Settings:
    from hotmend.publisher.release.run import Settings

    return Settings(database, workers or os.cpu_count() or 1, memory << 20, build_seconds, wait)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _print(done: Done, *, as_json: bool) -> None:
    waiting = request_shape(done.pending, datetime.now(UTC)) if done.pending is not None else None
    shape = PublishShape(
        tuple(done.published), tuple(done.withdrawn), waiting, done.collected, tuple(dict.fromkeys(done.problems))
    )
    if as_json:
        print_json(shape)
        return
    for identity in shape.published:
        click.echo(f"published to canary: {identity}")
    for identity in shape.withdrawn:
        click.echo(f"kept no longer: {identity}")
    if shape.collected:
        click.echo(f"{shape.collected} files deleted")
    for problem in shape.problems:
        print_note(f"look at this: {problem}")
    if waiting is not None:
        pending_print((waiting,), as_json=False)
