"""`hotmend fleet machines` and the like: machines, keys and tokens of a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from hotmend.cli.fleet_output import as_json, print_rows, tags_of, when
from hotmend.cli.fleet_query import query_of, query_options
from hotmend.cli.issue_text import issue_rows
from hotmend.cli.output import ExitCode, print_note, print_table
from hotmend.fleet.machines import Machines
from hotmend.wire.report import Issue

if TYPE_CHECKING:
    from hotmend.wire.api import Forecast

ROLES: Final = ("viewer", "operator", "approver", "admin")


def machines_of(ctx: click.Context) -> Machines:
    """Return the server that is asked."""
    from hotmend.cli.fleet import client_of

    return Machines(client_of(ctx))


@click.command("machines")
@query_options
@click.option("--scope", default="", help="A dynamic scope.")
@click.pass_context
def machines_command(ctx: click.Context, /, scope: str, **asked: Any) -> int:
    """List machines by name."""
    columns = ("name", "id", "state", "tier", "level", "line", "#waiting", "#restarts due", "seen")
    client = machines_of(ctx)
    print_rows(
        client.machines(query_of(asked), scope),
        ctx,
        "",
        columns,
        lambda m: (m.name, m.id, m.state, m.tier, m.level, m.line, m.waiting, m.restarts_due, when(m.seen_at)),
    )
    return ExitCode.DONE


@click.command("machine")
@click.argument("identity", metavar="ID")
@click.pass_context
def machine_command(ctx: click.Context, identity: str) -> int:
    """Show one machine: what runs, what is due, what happened."""
    client = machines_of(ctx)
    found = client.machine(identity)
    events = client.machine_events(identity, 20)
    if as_json(ctx):
        click.echo(msgspec.json.encode(found))
        return ExitCode.DONE
    m = found.machine
    click.echo(f"{m.name} ({m.id}): {m.state}" + (f", {m.why}" if m.why else ""))
    click.echo(f"  {m.platform}, {m.release or '?'}, tier {m.tier}, level {m.level or '?'}, line {m.line or '?'}")
    click.echo(f"  seen {when(m.seen_at)}; {m.waiting} updates wait, {m.restarts_due} restarts due")
    if found.findings:
        columns = ("cve", "fixed", "#pid", "process", "unit", "image", "brings")
        names = ("cve", "fixed", "pid", "comm", "unit", "image", "brings")
        print_table("Fixes", columns, [tuple(each[name] for name in names) for each in found.findings])
    issues = msgspec.convert((found.report or {}).get("issues", ()), tuple[Issue, ...])
    if issues:
        click.echo("Known issues")
        for row in (row for issue in issues for row in issue_rows(issue)):
            click.echo(f"  {row}")
    print_table("Events", ("at", "kind", "detail"), [(when(e.at), e.kind, e.detail) for e in events])
    return ExitCode.DONE


@click.command("tag")
@click.argument("identity", metavar="ID")
@click.argument("tags", nargs=-1, metavar="[NAME=VALUE]...")
@click.pass_context
def tag_command(ctx: click.Context, identity: str, tags: tuple[str, ...]) -> int:
    """Give a machine these tags and no other."""
    client = machines_of(ctx)
    made = client.put_tags(identity, tags_of(tags))
    print_rows(
        [made], ctx, "", ("tags",), lambda each: (", ".join(f"{k}={v}" for k, v in each.tags.items()) or "none",)
    )
    return ExitCode.DONE


@click.command("approve")
@click.argument("identity", metavar="ID")
@click.pass_context
def approve_command(ctx: click.Context, identity: str) -> int:
    """Let a machine take part that waits, or that is suspect."""
    client = machines_of(ctx)
    print_note(f"{client.approve(identity).machine.name} takes part")
    return ExitCode.DONE


@click.command("remove")
@click.argument("identity", metavar="ID")
@click.pass_context
def remove_command(ctx: click.Context, identity: str) -> int:
    """Let a machine go. What it has installed stays."""
    client = machines_of(ctx)
    client.remove(identity)
    print_note("it has left")
    return ExitCode.DONE


@click.command("forecast")
@click.argument("identity", metavar="ID")
@click.option("--update", "updates", multiple=True, help="These alone.")
@click.pass_context
def forecast_command(ctx: click.Context, identity: str, updates: tuple[str, ...]) -> int:
    """Show what installing now would bring."""
    client = machines_of(ctx)
    shown = client.forecast(identity, updates)
    if as_json(ctx):
        click.echo(msgspec.json.encode(shown))
    else:
        _forecast(shown)
    return ExitCode.DONE


def _forecast(shown: Forecast) -> None:
    for heading, rows in (
        ("Installed", shown.updates),
        ("Restarts due already", shown.restarts),
        ("Reboot due already", shown.reboot),
    ):
        click.echo(f"{heading}: {', '.join(rows) or 'none'}")
    for effect in shown.effects:
        needs = {True: "needs a reboot", False: "needs no reboot", None: "nobody knows whether it needs a reboot"}
        line = f"{effect.line}, " if effect.line else ""
        click.echo(f"{effect.update}: {line}{needs[effect.reboot]}{''.join(f'; {why}' for why in effect.why)}")
    for each in shown.told:
        click.echo(each)


@click.command("act")
@click.argument("identity", metavar="ID")
@click.argument("kind", type=click.Choice(["assess", "install", "revert", "quarantine", "lift"]))
@click.option("--update", "updates", multiple=True, help="PACKAGE=VERSION or a release's id.")
@click.option("--anytime", is_flag=True, help="Outside a window too.")
@click.option("--emergency", is_flag=True, help="A revert before all else, whatever window or halt there is.")
@click.option("--minutes", type=click.IntRange(0, 44640), default=0, help="Not begun after so many; 0: no end.")
@click.option(
    "--reboot",
    type=click.Choice(["never", "if-required", "always"]),
    help="At most so much of what the machine's policy allows; all of it by default.",
)
@click.option("--undoes", default="", metavar="ACTION", help="A revert is of all that this action brought.")
@click.option("--reason", default="", help="For people.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def act_command(
    ctx: click.Context,
    identity: str,
    kind: str,
    updates: tuple[str, ...],
    anytime: bool,
    emergency: bool,
    minutes: int,
    reboot: str | None,
    undoes: str,
    reason: str,
    yes: bool,
) -> int:
    """Have a machine do something: it is told at its next check-in. An installation shows its forecast first."""
    from hotmend.wire.api import ActionWanted

    client = machines_of(ctx)
    token = ""
    if kind == "install":
        shown = client.forecast(identity, updates)
        if not as_json(ctx):
            _forecast(shown)
        if not yes:
            click.confirm("Install now?", abort=True, err=True)
        token = shown.token
    asked = (kind, list(updates), anytime, emergency, True, minutes, reason, token, reboot or "", undoes)
    wanted = ActionWanted(*asked)  # type: ignore[arg-type]
    made = client.act(identity, wanted)
    print_rows([made], ctx, "", ("action", "kind", "state"), lambda each: (each.id, each.kind, each.state))
    return ExitCode.DONE


@click.command("actions")
@click.argument("identity", metavar="ID")
@click.pass_context
def actions_command(ctx: click.Context, identity: str) -> int:
    """Show a machine's actions, newest first."""
    client = machines_of(ctx)
    rows = client.actions(identity)
    print_rows(
        rows,
        ctx,
        "",
        ("action", "kind", "updates", "state", "by", "at", "why"),
        lambda a: (a.id, a.kind, " ".join(a.updates), a.state, a.created_by, when(a.created_at), a.detail or a.reason),
    )
    return ExitCode.DONE


@click.command("cancel")
@click.argument("action")
@click.pass_context
def cancel_command(ctx: click.Context, action: str) -> int:
    """Cancel an action that the machine has not been told of."""
    client = machines_of(ctx)
    print_note(client.cancel(action).state)
    return ExitCode.DONE


@click.command("keys")
@click.pass_context
def keys_command(ctx: click.Context) -> int:
    """List registration keys."""
    client = machines_of(ctx)
    rows = client.keys()
    print_rows(
        rows,
        ctx,
        "",
        ("name", "id", "tier", "tags", "#used", "of", "until", "approval", "revoked"),
        lambda k: (
            k.name,
            k.id,
            k.tier,
            ", ".join(f"{name}={value}" for name, value in k.tags.items()),
            k.uses,
            k.uses_max or "any",
            when(k.expires_at) or "no end",
            "yes" if k.approval else "",
            "yes" if k.revoked else "",
        ),
    )
    return ExitCode.DONE


@click.command("key-add")
@click.argument("name")
@click.option("--tier", type=click.Choice(["canary", "stable"]), default="stable", show_default=True)
@click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE")
@click.option("--hours", type=click.IntRange(0, 87840), default=24, show_default=True, help="0: no end.")
@click.option("--uses", type=click.IntRange(0, 10_000_000), default=0, show_default=True, help="0: any number.")
@click.option("--approval", is_flag=True, help="Each machine waits until somebody approves it.")
@click.option("--windows", is_flag=True, help="Print the script for Windows.")
@click.pass_context
def key_add_command(
    ctx: click.Context,
    name: str,
    tier: str,
    tags: tuple[str, ...],
    hours: int,
    uses: int,
    approval: bool,
    windows: bool,
) -> int:
    """Make a registration key, and print the script to paste into machines."""
    from hotmend.wire.api import KeyWanted

    client = machines_of(ctx)
    made = client.add_key(KeyWanted(name, tier, tags_of(tags), hours, uses, approval))  # type: ignore[arg-type]
    script = made.windows_script if windows else made.script
    click.echo(msgspec.json.encode(made) if as_json(ctx) else script)
    return ExitCode.DONE


@click.command("key-revoke")
@click.argument("identity", metavar="ID")
@click.pass_context
def key_revoke_command(ctx: click.Context, identity: str) -> int:
    """End a registration key; machines that came with it stay."""
    client = machines_of(ctx)
    client.revoke_key(identity)
    print_note("revoked")
    return ExitCode.DONE


@click.command("tokens")
@click.pass_context
def tokens_command(ctx: click.Context) -> int:
    """List one's own API tokens; an administrator sees all."""
    client = machines_of(ctx)
    rows = client.tokens()
    print_rows(
        rows,
        ctx,
        "",
        ("name", "id", "user", "role", "until", "revoked"),
        lambda t: (t.name, t.id, t.user, t.role, when(t.expires_at) or "no end", "yes" if t.revoked else ""),
    )
    return ExitCode.DONE


@click.command("token-add")
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), default="viewer", show_default=True)
@click.option("--days", type=click.IntRange(0, 3660), default=90, show_default=True, help="0: no end.")
@click.option("--feeds", is_flag=True, help="Good for feeds alone, and may be in an address.")
@click.pass_context
def token_add_command(ctx: click.Context, name: str, role: str, days: int, feeds: bool) -> int:
    """Make an API token for oneself; it is shown this once."""
    from hotmend.wire.api import TokenWanted

    client = machines_of(ctx)
    made = client.add_token(TokenWanted(name, role, days, feeds))  # type: ignore[arg-type]
    click.echo(msgspec.json.encode(made) if as_json(ctx) else made.secret)
    return ExitCode.DONE


@click.command("token-revoke")
@click.argument("identity", metavar="ID")
@click.pass_context
def token_revoke_command(ctx: click.Context, identity: str) -> int:
    """End an API token."""
    client = machines_of(ctx)
    client.revoke_token(identity)
    print_note("revoked")
    return ExitCode.DONE


@click.command("upload")
@click.argument("name")
@click.argument("facts", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.pass_context
def upload_command(ctx: click.Context, name: str, facts: Path) -> int:
    """Keep the facts of a machine without an agent, as `hotmend windows facts` writes them."""
    client = machines_of(ctx)
    machine = client.upload(name, facts.read_bytes()).machine
    print_rows(
        [machine], ctx, "", ("name", "id", "level", "line"), lambda m: (m.name, m.id, m.level or "?", m.line or "?")
    )
    return ExitCode.DONE


COMMANDS: Final = (
    machines_command,
    machine_command,
    tag_command,
    approve_command,
    remove_command,
    forecast_command,
    act_command,
    actions_command,
    cancel_command,
    keys_command,
    key_add_command,
    key_revoke_command,
    tokens_command,
    token_add_command,
    token_revoke_command,
    upload_command,
)
"""All of them."""
