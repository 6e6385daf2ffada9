"""`hotmend fleet slots` and the like: maintenance of machines of a server."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final

import click
import msgspec

from hotmend.cli.fleet_files import read_toml
from hotmend.cli.fleet_output import as_json, print_rows, when
from hotmend.cli.output import ExitCode, print_note, print_table
from hotmend.fleet.maintenance import Maintenance
from hotmend.model.errors import UsageError
from hotmend.wire.maintenance import (
    Assignment,
    AssignmentWanted,
    Configuration,
    ConfigurationWanted,
    FreezeWanted,
    WindowEvent,
    WindowOutcome,
)


def maintenance_of(ctx: click.Context) -> Maintenance:
    """Return the server that is asked."""
    from hotmend.cli.fleet import client_of

    return Maintenance(client_of(ctx))


@click.command("slots")
@click.pass_context
def slots_command(ctx: click.Context) -> int:
    """List the restart slots that are taken."""
    print_rows(
        maintenance_of(ctx).slots(),
        ctx,
        "",
        ("configuration", "name", "machine", "since", "until"),
        lambda s: (s.configuration, s.name, s.machine, when(s.taken_at), when(s.expires_at)),
    )
    return ExitCode.DONE


@click.command("slot-free")
@click.argument("identity", metavar="ID")
@click.pass_context
def slot_free_command(ctx: click.Context, identity: str) -> int:
    """Free the restart slot of a machine that will not give it back."""
    maintenance_of(ctx).free_slot(identity)
    print_note("free")
    return ExitCode.DONE


@click.group("maintenance")
def maintenance_group() -> None:
    """What machines may do by themselves, and when."""


@maintenance_group.command("list")
@click.pass_context
def list_command(ctx: click.Context) -> int:
    """List configurations, and how many machines have each."""
    print_rows(
        maintenance_of(ctx).configurations(),
        ctx,
        "",
        ("name", "mode", "restart", "reboot", "#windows", "#slots", "#version", "#machines", "by", "at"),
        lambda c: (
            c.name,
            c.wanted.mode,
            "yes" if c.wanted.restart else "no",
            c.wanted.reboot,
            len(c.wanted.windows),
            c.wanted.slots or "any",
            c.version,
            c.machines,
            c.changed_by,
            when(c.changed_at),
        ),
    )
    return ExitCode.DONE


@maintenance_group.command("show")
@click.argument("name")
@click.pass_context
def show_command(ctx: click.Context, name: str) -> int:
    """Show a configuration."""
    _shown(ctx, maintenance_of(ctx).configuration(name))
    return ExitCode.DONE


@maintenance_group.command("put")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--version", type=click.IntRange(0), help="Only where it has this version still.")
@click.pass_context
def put_command(ctx: click.Context, name: str, file: Path, version: int | None) -> int:
    """Make a configuration, or put another in its place. FILE is TOML; what it does not say has its default."""
    wanted = read_toml(file, ConfigurationWanted, "a configuration", "docs/commands.md")
    _shown(ctx, maintenance_of(ctx).put(name, wanted, version))
    return ExitCode.DONE


@maintenance_group.command("remove")
@click.argument("name")
@click.pass_context
def remove_command(ctx: click.Context, name: str) -> int:
    """Remove a configuration that is assigned to nobody."""
    maintenance_of(ctx).remove(name)
    print_note("removed")
    return ExitCode.DONE


@maintenance_group.command("machine")
@click.argument("identity", metavar="ID")
@click.pass_context
def machine_command(ctx: click.Context, identity: str) -> int:
    """Show which configuration a machine has, and its next windows, in UTC."""
    found = maintenance_of(ctx).of_machine(identity)
    if as_json(ctx):
        click.echo(msgspec.json.encode(found))
        return ExitCode.DONE
    click.echo(f"{found.configuration}; zone {found.zone or 'not known, so no window opens'}")
    click.echo(f"  a window is {'open' if found.open else 'not open'} now")
    rows = [(each.name, f"{each.start:%Y-%m-%d %H:%MZ}", f"{each.end:%Y-%m-%d %H:%MZ}") for each in found.windows]
    print_table("Windows", ("name", "start", "end"), rows)
    return ExitCode.DONE


@maintenance_group.command("assignments")
@click.pass_context
def assignments_command(ctx: click.Context) -> int:
    """List who has which configuration; the first that fits a machine counts."""
    _assigned(ctx, list(maintenance_of(ctx).assignments()))
    return ExitCode.DONE


@maintenance_group.command("assign")
@click.argument("name")
@click.option("--priority", type=int, required=True, help="Of those that fit a machine the highest counts.")
@click.option("--machine", metavar="ID", help="This one.")
@click.option("--scope", metavar="NAME", help="All of a dynamic scope.")
@click.option("--tag", default="", metavar="NAME[=VALUE]", help="All with this tag.")
@click.pass_context
def assign_command(
    ctx: click.Context, name: str, priority: int, machine: str | None, scope: str | None, tag: str
) -> int:
    """Give machines the configuration NAME, and those that come to the scope or tag later."""
    if sum((machine is not None, scope is not None, bool(tag))) != 1:
        raise UsageError("to whom?", "one of --machine, --scope, --tag")
    tag_name, _, value = tag.partition("=")
    made = maintenance_of(ctx).assign(AssignmentWanted(name, priority, machine, scope, tag_name, value))
    _assigned(ctx, [made])
    return ExitCode.DONE


@maintenance_group.command("unassign")
@click.argument("identity", metavar="ID")
@click.pass_context
def unassign_command(ctx: click.Context, identity: str) -> int:
    """Take an assignment back."""
    maintenance_of(ctx).unassign(identity)
    print_note("no more")
    return ExitCode.DONE


@maintenance_group.command("freezes")
@click.pass_context
def freezes_command(ctx: click.Context) -> int:
    """List the freezes for everybody."""
    print_rows(
        maintenance_of(ctx).freezes(),
        ctx,
        "",
        ("name", "first", "last", "every year"),
        lambda f: (f.name, f.first, f.last, "yes" if f.yearly else "no"),
    )
    return ExitCode.DONE


@maintenance_group.command("freeze")
@click.argument("name")
@click.argument("first", type=click.DateTime(["%Y-%m-%d"]), metavar="FIRST")
@click.argument("last", type=click.DateTime(["%Y-%m-%d"]), metavar="LAST")
@click.option("--yearly", is_flag=True, help="Every year again.")
@click.pass_context
def freeze_command(ctx: click.Context, name: str, first: datetime, last: datetime, yearly: bool) -> int:
    """Freeze days for everybody, from FIRST to LAST, both included (2026-12-18)."""
    maintenance_of(ctx).freeze(name, FreezeWanted(first.date(), last.date(), yearly))
    print_note("frozen")
    return ExitCode.DONE


@maintenance_group.command("thaw")
@click.argument("name")
@click.pass_context
def thaw_command(ctx: click.Context, name: str) -> int:
    """End a freeze for everybody."""
    maintenance_of(ctx).thaw(name)
    print_note("no more")
    return ExitCode.DONE


@maintenance_group.command("windows")
@click.pass_context
def windows_command(ctx: click.Context) -> int:
    """List windows that take a word, the latest first, and what came of those that are over."""
    _windows(ctx, list(maintenance_of(ctx).windows()))
    return ExitCode.DONE


@maintenance_group.command("answer")
@click.argument("identity", metavar="ID")
@click.option("--allow/--deny", required=True, help="Let it open, or keep it closed.")
@click.option("--reason", default="", help="For people, and for the record.")
@click.pass_context
def answer_command(ctx: click.Context, identity: str, allow: bool, reason: str) -> int:
    """Say whether machines may begin in a window; the word can be changed until it is over."""
    _windows(ctx, [maintenance_of(ctx).answer(identity, allow, reason)])
    return ExitCode.DONE


def _windows(ctx: click.Context, found: list[WindowEvent]) -> None:
    print_rows(
        found,
        ctx,
        "",
        ("id", "configuration", "begins", "ends", "word", "by", "outcome"),
        lambda w: (
            w.id,
            w.configuration,
            when(w.starts_at),
            when(w.ends_at),
            w.state,
            w.by,
            _outcome(w.outcome),
        ),
    )


def _outcome(found: WindowOutcome | None) -> str:
    if found is None:
        return ""
    told = [f"{found.changed} of {found.machines} machines changed", f"{found.succeeded} actions succeeded"]
    told += [f"{number} {what}" for number, what in ((found.failed, "failed"), (found.unended, "unended")) if number]
    return ", ".join(told)


def _shown(ctx: click.Context, found: Configuration) -> None:
    if as_json(ctx):
        click.echo(msgspec.json.encode(found))
        return
    click.echo(f"{found.name}: version {found.version}, by {found.changed_by} at {when(found.changed_at)}")
    click.echo(f"  {found.machines} machines have it")
    wanted = found.wanted
    click.echo(f"  mode {wanted.mode}; restart {'yes' if wanted.restart else 'no'}; reboot {wanted.reboot}")
    click.echo(f"  slots {f'{wanted.slots} of {wanted.slot_minutes} minutes' if wanted.slots else 'any number'}")
    for name in ("classifications", "include", "exclude"):
        if getattr(wanted, name):
            click.echo(f"  {name}: {', '.join(getattr(wanted, name))}")
    click.echo(f"  zone {wanted.zone or 'of each machine'}")
    windows = [(w.name, w.rule, w.start.isoformat(" "), w.minutes, w.days_after) for w in wanted.windows]
    if windows:
        print_table("Windows", ("name", "rule", "from", "#minutes", "#days after"), windows)
    freezes = [(name, f.first, f.last, "yes" if f.yearly else "no") for name, f in wanted.freezes.items()]
    if freezes:
        print_table("Freezes", ("name", "first", "last", "every year"), freezes)


def _assigned(ctx: click.Context, found: list[Assignment]) -> None:
    print_rows(
        found,
        ctx,
        "",
        ("id", "configuration", "#priority", "machine", "scope", "tag"),
        lambda a: (
            a.id,
            a.configuration,
            a.priority,
            a.machine or "",
            a.scope or "",
            f"{a.tag}={a.value}" if a.value else a.tag,
        ),
    )


MAINTENANCE: Final = (slots_command, slot_free_command, maintenance_group)
"""All of them."""
