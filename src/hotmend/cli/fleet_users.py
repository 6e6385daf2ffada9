"""`hotmend fleet users` and the like: who may use a server; an administrator's."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from hotmend.cli.fleet_machines import ROLES, machines_of
from hotmend.cli.fleet_output import print_rows, when
from hotmend.cli.output import ExitCode
from hotmend.model.errors import InputError
from hotmend.wire.api import User, UserChange, UserWanted

_PASSWORD_BYTES_MAX: Final = 4096


@click.command("users")
@click.pass_context
def users_command(ctx: click.Context) -> int:
    """List users."""
    _print(ctx, list(machines_of(ctx).users()))
    return ExitCode.DONE


@click.command("user-add")
@click.argument("name")
@click.argument("password", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True), metavar="FILE")
@click.option("--role", type=click.Choice(ROLES), default="viewer", show_default=True)
@click.pass_context
def user_add_command(ctx: click.Context, name: str, password: Path, role: str) -> int:
    """Add a user. The first line of FILE (-: stdin) is the password for the portal."""
    wanted = UserWanted(name, role, _password(password))  # type: ignore[arg-type]
    _print(ctx, [machines_of(ctx).add_user(wanted)])
    return ExitCode.DONE


@click.command("user-role")
@click.argument("identity", metavar="ID")
@click.argument("role", type=click.Choice(ROLES))
@click.pass_context
def user_role_command(ctx: click.Context, identity: str, role: str) -> int:
    """Give a user another role. Its sessions end."""
    return _changed(ctx, identity, UserChange(role=role))  # type: ignore[arg-type]


@click.command("user-password")
@click.argument("identity", metavar="ID")
@click.argument("password", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True), metavar="FILE")
@click.pass_context
def user_password_command(ctx: click.Context, identity: str, password: Path) -> int:
    """Give a user another password: the first line of FILE (-: stdin). Its sessions end."""
    return _changed(ctx, identity, UserChange(password=_password(password)))


@click.command("user-disable")
@click.argument("identity", metavar="ID")
@click.pass_context
def user_disable_command(ctx: click.Context, identity: str) -> int:
    """Let a user and its tokens do nothing any more."""
    return _changed(ctx, identity, UserChange(disabled=True))


@click.command("user-enable")
@click.argument("identity", metavar="ID")
@click.pass_context
def user_enable_command(ctx: click.Context, identity: str) -> int:
    """Let a user that was disabled take part again."""
    return _changed(ctx, identity, UserChange(disabled=False))


def _changed(ctx: click.Context, identity: str, change: UserChange) -> int:
    _print(ctx, [machines_of(ctx).change_user(identity, change)])
    return ExitCode.DONE


def _print(ctx: click.Context, found: list[User]) -> None:
    print_rows(
        found,
        ctx,
        "",
        ("name", "id", "role", "since", "disabled"),
        lambda u: (u.name, u.id, u.role, when(u.created_at), "yes" if u.disabled else ""),
    )


def _password(file: Path) -> str:
    """Return the first line of a file, or of stdin.

    Raises:
        InputError: it cannot be read, is no text, or has nothing there.
    """
    try:
        if str(file) == "-":
            data = sys.stdin.buffer.readline(_PASSWORD_BYTES_MAX)
        else:
            with file.open("rb") as stream:
                data = stream.readline(_PASSWORD_BYTES_MAX)
        found = data.decode("utf-8").rstrip("\r\n")
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: the password is not UTF-8") from error
    if not found:
        raise InputError(f"{file}: no password in its first line")
    return found


USERS: Final = (
    users_command,
    user_add_command,
    user_role_command,
    user_password_command,
    user_disable_command,
    user_enable_command,
)
"""All of them."""
