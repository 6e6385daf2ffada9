"""`hotmend fleet`: what people do with a fleet, over the API of its server."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from hotmend.cli.fleet_compliance import compliance_group
from hotmend.cli.fleet_evidence import evidence_group
from hotmend.cli.fleet_files import read_toml
from hotmend.cli.fleet_machines import COMMANDS
from hotmend.cli.fleet_maintenance import MAINTENANCE
from hotmend.cli.fleet_output import print_rows, when
from hotmend.cli.fleet_records import RECORDS
from hotmend.cli.fleet_scopes import SCOPES
from hotmend.cli.fleet_users import USERS
from hotmend.cli.moments import moment
from hotmend.cli.output import ExitCode, print_error, print_note, print_table
from hotmend.fleet.client import Client, ServerRefusal
from hotmend.fleet.rollouts import Rollouts
from hotmend.model.errors import HotmendError, InputError, UsageError
from hotmend.wire.api import SetupWanted, Token
from hotmend.wire.rollouts import Halt, Rollout, RolloutPreview, RolloutWanted

_FIRST_SHOWN: Final = 3
_WAITING: Final = "WAITING"


class _Profile(msgspec.Struct):
    """Which server a person uses."""

    server: str
    token: str


class _Refusing(click.Group):
    """A rule of the server that says no is a refusal here too: exit code 4."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except ServerRefusal as error:
            if not error.by_a_rule:
                raise
            print_error(str(error), error.hint, as_json=bool(ctx.params.get("as_json")))
            return ExitCode.REFUSED


def _profile_file() -> Path:
    folder = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(folder) / "hotmend" / "fleet.json"


@click.group("fleet", cls=_Refusing)
@click.option("--server", envvar="HOTMEND_SERVER", help="URL of the server; or HOTMEND_SERVER.")
@click.option("--token-file", type=click.Path(path_type=Path, dir_okay=False), help="API token; or HOTMEND_TOKEN.")
@click.option("--authorities", default="", help="PEM file of the certificates to trust; the system's by default.")
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
@click.pass_context
def fleet_command(
    ctx: click.Context, server: str | None, token_file: Path | None, authorities: str, as_json: bool
) -> None:
    """Look after a fleet through its server (`hotmend server`)."""
    ctx.obj = (server, token_file, authorities, as_json)


def client_of(ctx: click.Context) -> Client:
    """Return the server that is asked, as who asks.

    Raises:
        UsageError: neither is known.
        InputError: the file with the token cannot be read.
    """
    server, token_file, authorities, _ = ctx.obj
    token = os.environ.get("HOTMEND_TOKEN", "")
    try:
        if token_file is not None:
            token = token_file.read_text("utf-8").strip()
        if not server or not token:
            profile = msgspec.json.decode(_profile_file().read_bytes(), type=_Profile)
            # A token goes to the server that it is of, and to no other.
            token = token or (profile.token if server in (None, "", profile.server) else "")
            server = server or profile.server
    except FileNotFoundError as error:
        raise UsageError(f"which server? {error.filename} is not there", "hotmend fleet setup, or --server") from None
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(f"{token_file or _profile_file()}: {error}") from error
    return Client(server, token, authorities)


def _shown(ctx: click.Context, value: object) -> bool:
    """Print a value as JSON where that is wanted."""
    if ctx.obj[3]:
        click.echo(msgspec.json.encode(value).decode())
    return bool(ctx.obj[3])


@fleet_command.command("setup")
@click.argument("url")
@click.option("--token", required=True, help="As the server printed it at its first start.")
@click.option("--name", default="admin", show_default=True, help="Of the first administrator.")
@click.pass_context
def setup_command(ctx: click.Context, url: str, token: str, name: str) -> int:
    """Become the first administrator of a server; the API token is kept for later commands."""
    made = Client(url, "", ctx.obj[2]).post("/setup", SetupWanted(token, name), Token)
    file = _profile_file()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(descriptor, 0o600)  # it may have been there
            stream.write(msgspec.json.encode(_Profile(url, made.secret)))
    except OSError as error:
        click.echo(made.secret)
        raise HotmendError(f"{file}: {error.strerror or error}", "the token on stdout is not kept") from error
    print_note(f"{name} is administrator; the token is in {file}")
    return ExitCode.DONE


@fleet_command.command("halt")
@click.option("--reason", default="", help="For people, and for the record.")
@click.option("--show", is_flag=True, help="Only say whether everything is halted.")
@click.pass_context
def halt_command(ctx: click.Context, reason: str, show: bool) -> int:
    """Let nothing new begin on any machine; each learns of it at its next check-in. Emergency reverts go on."""
    rollouts = Rollouts(client_of(ctx))
    return _halt_shown(ctx, rollouts.halted() if show else rollouts.halt(reason))


@fleet_command.command("release")
@click.option("--reason", default="", help="For people, and for the record.")
@click.pass_context
def release_command(ctx: click.Context, reason: str) -> int:
    """End the halt."""
    return _halt_shown(ctx, Rollouts(client_of(ctx)).release(reason))


def _halt_shown(ctx: click.Context, halt: Halt) -> int:
    if not _shown(ctx, halt):
        since = f" since {halt.at:%Y-%m-%d %H:%M:%SZ} by {halt.by}: {halt.reason}" if halt.at else ""
        click.echo(f"{'halted' if halt.halted else 'not halted'}{since}")
    return ExitCode.DONE


@fleet_command.group("rollout", cls=_Refusing)
def rollout_group() -> None:
    """A release to many machines, ring after ring."""


@rollout_group.command("preview")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--planned", "identity", default="", metavar="ID", help="A rollout that is made and has not begun.")
@click.option("--seed", default="", help="Of an earlier preview: it draws the same machines.")
@click.pass_context
def preview_command(ctx: click.Context, file: Path | None, identity: str, seed: str) -> int:
    """Show what a rollout would do now; nothing is done. FILE is TOML."""
    if (file is None) == (not identity) or (identity and seed):
        raise UsageError("what?", "either a FILE, or --planned ID")
    rollouts = Rollouts(client_of(ctx))
    found = rollouts.planned(identity) if file is None else rollouts.preview(_wanted(file, seed))
    if not _shown(ctx, found):
        _preview_table(found)
    return ExitCode.REFUSED if found.causes else ExitCode.DONE


@rollout_group.command("create")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--seed", default="", help="Of the preview: the machines that it has shown.")
@click.option("--plan", default="", help="Of the preview: another plan by now is not made.")
@click.pass_context
def create_command(ctx: click.Context, file: Path, seed: str, plan: str) -> int:
    """Plan a rollout; it waits for approval. FILE is TOML."""
    return _rollout_shown(ctx, Rollouts(client_of(ctx)).create(_wanted(file, seed, plan)))


@rollout_group.command("list")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.pass_context
def list_command(ctx: click.Context, limit: int) -> int:
    """Show rollouts, newest first."""
    page = Rollouts(client_of(ctx)).page(limit=limit)
    if not _shown(ctx, page):
        rows = [(each.id, each.name, each.lane, each.state, f"{each.created_at:%Y-%m-%d %H:%M}") for each in page.items]
        print_table("", ("id", "name", "lane", "state", "created"), rows)
    return ExitCode.DONE


@rollout_group.command("show")
@click.argument("identity")
@click.pass_context
def show_command(ctx: click.Context, identity: str) -> int:
    """Show where a rollout and its rings stand."""
    return _rollout_shown(ctx, Rollouts(client_of(ctx)).get(identity))


@rollout_group.command("machines")
@click.argument("identity")
@click.option("--ring", type=click.IntRange(0), help="Of this ring alone: its number, as `show` has it.")
@click.option(
    "--state", "states", multiple=True, help="Those whose action is FAILED, for example; `waiting`: not begun."
)
@click.pass_context
def machines_command(ctx: click.Context, identity: str, ring: int | None, states: tuple[str, ...]) -> int:
    """Show where each machine of a rollout stands, and why: what it said, or for what it waits."""
    found = Rollouts(client_of(ctx)).members(identity, ring)
    wanted = {each.upper() for each in states}
    print_rows(
        (each for each in found if not wanted or (each.state or _WAITING) in wanted),
        ctx,
        "",
        ("name", "id", "#ring", "state", "why", "seen"),
        lambda m: (m.name, m.machine, m.group, m.state or "waiting", m.detail or m.held, when(m.seen_at)),
    )
    return ExitCode.DONE


@rollout_group.command("approve")
@click.argument("identity")
@click.option("--plan", required=True, help="Digest of the plan that you have looked at: `show` has it.")
@click.pass_context
def approve_command(ctx: click.Context, identity: str, plan: str) -> int:
    """Say yes to the plan of a rollout."""
    return _state_shown(ctx, Rollouts(client_of(ctx)).approve(identity, plan))


@rollout_group.command("schedule")
@click.argument("identity")
@click.option("--at", metavar="TIME", help="2026-12-01T08:00+01:00; without a zone it is this machine's.")
@click.option("--none", "never", is_flag=True, help="Not by itself any more.")
@click.pass_context
def schedule_command(ctx: click.Context, identity: str, at: str | None, never: bool) -> int:
    """Have an approved rollout begin by itself at a moment, or not any more."""
    if (at is None) == (not never):
        raise UsageError("when?", "either --at TIME or --none")
    return _state_shown(ctx, Rollouts(client_of(ctx)).schedule(identity, None if at is None else moment(at)))


@rollout_group.command("event")
@click.argument("identity")
@click.argument("group", type=int)
@click.argument("kind", type=click.Choice(["pre", "post"]))
@click.option("--allow/--deny", required=True, help="Go on, or not.")
@click.option("--reason", default="", help="For people, and for the record.")
@click.pass_context
def event_command(ctx: click.Context, identity: str, group: int, kind: str, allow: bool, reason: str) -> int:
    """Say whether a ring may begin (pre), or may count as passed (post)."""
    Rollouts(client_of(ctx)).answer(identity, group, kind, allow, reason)
    return ExitCode.DONE


def _verb(name: str, told: str) -> None:
    @rollout_group.command(name, help=told)
    @click.argument("identity")
    @click.option("--reason", default="", help="For people, and for the record.")
    @click.pass_context
    def command(ctx: click.Context, identity: str, reason: str) -> int:
        return _state_shown(ctx, Rollouts(client_of(ctx)).act(identity, name, reason))


_verb("start", "Let an approved rollout begin.")
_verb("pause", "Let nothing new begin; what machines have begun they end.")
_verb("resume", "Go on with a paused rollout.")
_verb("stop", "End a rollout where it is; what was done stays.")
_verb(
    "roll-back",
    "Revert on every machine that it may have changed: windows, freezes, slots and a halt do not hold that.",
)


def _wanted(file: Path, seed: str = "", plan: str = "") -> RolloutWanted:
    found = read_toml(file, RolloutWanted, "a rollout", "docs/server.md")
    return replace(found, seed=seed or found.seed, plan=plan or found.plan)


def _state_shown(ctx: click.Context, found: Any) -> int:
    if not _shown(ctx, found):
        click.echo(found.state)
    return ExitCode.DONE


def _rollout_shown(ctx: click.Context, found: Rollout) -> int:
    if _shown(ctx, found):
        return ExitCode.DONE
    click.echo(f"{found.id}  {found.name}  {found.lane}  {found.state}")
    if found.why:
        click.echo(f"  {found.why.get('sentence', '')}")
    if found.start_at:
        click.echo(f"  it begins by itself at {found.start_at:%Y-%m-%d %H:%M:%SZ}")
    if found.brake:
        click.echo(f"  the brake is on since {found.brake:%Y-%m-%d %H:%M:%SZ}")
    click.echo(f"  plan {found.plan}; approved by {', '.join(found.approvals) or 'nobody'}")
    rows = [
        (group.number, group.name, group.state, *_counts(group.actions), group.why.get("sentence", ""))
        for group in found.groups
    ]
    print_table("", ("#", "ring", "state", "#machines", "actions", "why"), rows)
    return ExitCode.DONE


def _counts(actions: dict[str, int]) -> tuple[int, str]:
    told = ", ".join(f"{count} {state or 'waiting'}" for state, count in sorted(actions.items()))
    return sum(actions.values()), told


def _preview_table(found: RolloutPreview) -> None:
    for each in found.causes:
        click.echo(f"refused: {each.get('sentence', '')}")
    rows = [
        (
            ring.name,
            ring.machines,
            ring.off,
            ring.waves,
            ", ".join(f"{n} {code}" for code, n in ring.held_now.items()),
            " ".join(ring.first[:_FIRST_SHOWN]),
        )
        for ring in found.rings
    ]
    print_table("", ("ring", "#machines", "#off", "#waves", "held now", "first"), rows)
    click.echo(f"seed {found.seed}; plan {found.plan}")
    click.echo(f"{found.machines} machines, {found.approvals} approvals, soaks of {found.soak_hours:g} hours at least")


for _command in (*COMMANDS, *MAINTENANCE, *SCOPES, *USERS, *RECORDS, compliance_group, evidence_group):
    fleet_command.add_command(_command)
