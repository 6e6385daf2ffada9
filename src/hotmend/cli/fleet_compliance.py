"""`hotmend fleet compliance`: where fixes are in a fleet, over time, and as files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import click
import msgspec

from hotmend.cli.fleet_output import print_rows, when
from hotmend.cli.output import ExitCode, print_note
from hotmend.model.errors import HotmendError

if TYPE_CHECKING:
    from hotmend.fleet.compliance import Compliance
    from hotmend.wire.compliance import GroupBy, VexForm

F = TypeVar("F", bound=Callable[..., Any])
_BY: Final = ("product", "package", "tag", "machine")
_KINDS: Final = ("vulnerabilities", *_BY, "days", "exposures")


def _which(command: F) -> F:
    """Give a command the options that say which machines are meant."""
    for option in (
        click.option("--search", default="", help="With this in their names."),
        click.option("--release", default="", help="Of this operating system, exactly."),
        click.option("--tag", "tags", multiple=True, metavar="NAME[=VALUE]", help="Machines with all of these."),
    ):
        command = option(command)
    return command


def _compliance_of(ctx: click.Context) -> Compliance:
    from hotmend.cli.fleet import client_of
    from hotmend.fleet.compliance import Compliance

    return Compliance(client_of(ctx))


@click.group("compliance")
def compliance_group() -> None:
    """Where fixes are: in memory, on the disk, nowhere; as machines have reported it."""


@compliance_group.command("vulnerabilities")
@_which
@click.pass_context
def vulnerabilities_command(ctx: click.Context, tags: tuple[str, ...], release: str, search: str) -> int:
    """List vulnerabilities, open ones first, and where the fix of each is."""
    print_rows(
        _compliance_of(ctx).vulnerabilities(tags, release, search),
        ctx,
        "",
        ("cve", "#open", "#in memory", "#everywhere", "#on disk", "#nowhere", "since"),
        lambda v: (v.cve, v.open, v.in_memory, v.everywhere, v.on_disk, v.nowhere, when(v.since)),
    )
    return ExitCode.DONE


@compliance_group.command("by")
@click.argument("what", type=click.Choice(_BY))
@_which
@click.pass_context
def by_command(ctx: click.Context, what: str, tags: tuple[str, ...], release: str, search: str) -> int:
    """List products, packages, tags or machines, the most exposed first."""
    print_rows(
        _compliance_of(ctx).groups(cast("GroupBy", what), tags, release, search),
        ctx,
        "",
        (what, "#machines", "#exposed", "#open cves", "#in memory", "#everywhere", "#on disk", "#nowhere"),
        lambda g: (g.name, g.machines, g.exposed, g.cves, g.in_memory, g.everywhere, g.on_disk, g.nowhere),
    )
    return ExitCode.DONE


@compliance_group.command("days")
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="From this day on; the last year by default.")
@click.pass_context
def days_command(ctx: click.Context, since: datetime | None) -> int:
    """List what each day found, oldest first; a day on which no server ran is not there."""
    print_rows(
        _compliance_of(ctx).days(None if since is None else since.date()),
        ctx,
        "",
        ("day", "#machines", "#silent", "#exposed", "#open", "#old", "#fixed"),
        lambda d: (d.day, d.machines, d.silent, d.exposed, d.open, d.old, d.fixed),
    )
    return ExitCode.DONE


@compliance_group.command("exposures")
@_which
@click.pass_context
def exposures_command(ctx: click.Context, tags: tuple[str, ...], release: str, search: str) -> int:
    """List how long machines were exposed to what, from the publication of its fix; open ones first."""
    print_rows(
        _compliance_of(ctx).exposures(tags, release, search),
        ctx,
        "",
        ("what", "published", "#machines", "#open", "first seen", "last closed", "#days"),
        lambda e: (
            e.subject,
            when(e.published),
            e.machines,
            e.open,
            when(e.first_seen),
            when(e.last_closed),
            "" if e.days is None else f"{e.days:.1f}",
        ),
    )
    return ExitCode.DONE


@compliance_group.command("export")
@click.argument("kind", type=click.Choice(_KINDS))
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--form", type=click.Choice(["csv", "json"]), default="csv", show_default=True)
@_which
@click.pass_context
def export_command(
    ctx: click.Context, kind: str, file: Path, form: str, tags: tuple[str, ...], release: str, search: str
) -> int:
    """Write what these commands list into FILE, which must not be there yet."""
    from hotmend.wire.sheets import sheet

    head, rows = _table(_compliance_of(ctx), kind, tags, release, search)
    if form == "json":
        return _written(file, [msgspec.json.encode(rows)])
    return _written(file, [sheet(head, [[row[name] for name in head] for row in rows]).encode()])


@compliance_group.command("vex")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--form", type=click.Choice(["openvex", "cyclonedx"]), default="openvex", show_default=True)
@_which
@click.pass_context
def vex_command(ctx: click.Context, file: Path, form: str, tags: tuple[str, ...], release: str, search: str) -> int:
    """Write what machines report of vulnerabilities, as scanners read it, into FILE, which must not be there yet."""
    return _written(file, _compliance_of(ctx).vex(cast("VexForm", form), tags, release, search))


def _table(
    found: Compliance, kind: str, tags: tuple[str, ...], release: str, search: str
) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the columns and rows of what is exported."""
    from hotmend.wire.compliance import Day, Group, Time, Vulnerability

    form: type[Any]
    values: list[Any]
    match kind:
        case "vulnerabilities":
            form, values = Vulnerability, found.vulnerabilities(tags, release, search)
        case "days":
            form, values = Day, found.days(None)
        case "exposures":
            form, values = Time, found.exposures(tags, release, search)
        case _:
            form, values = Group, found.groups(cast("GroupBy", kind), tags, release, search)
    more = [name for name in ("open", "days") if isinstance(getattr(form, name, None), property)]
    rows = [asdict(value) | {name: getattr(value, name) for name in more} for value in values]
    return [*form.__dataclass_fields__, *more], rows


def _written(file: Path, parts: Iterable[bytes]) -> int:
    """Write a new file; none is left where its parts end too early."""
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644), "wb") as stream:
            try:
                for part in parts:
                    stream.write(part)
            except BaseException:
                file.unlink()
                raise
    except OSError as error:
        raise HotmendError(f"{file}: {error.strerror or error}") from error
    print_note(str(file))
    return ExitCode.DONE
