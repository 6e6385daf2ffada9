"""`hotmend fleet scopes` and the like: dynamic scopes of a server."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

import click

from hotmend.cli.fleet_machines import machines_of
from hotmend.cli.fleet_output import print_rows
from hotmend.cli.fleet_query import query_of, query_options
from hotmend.cli.output import ExitCode, print_note
from hotmend.wire.api import Scope, ScopeWanted


@click.command("scopes")
@click.pass_context
def scopes_command(ctx: click.Context) -> int:
    """List dynamic scopes, and how many machines match now."""
    _print(ctx, list(machines_of(ctx).scopes()))
    return ExitCode.DONE


@click.command("scope-add")
@click.argument("name")
@query_options
@click.pass_context
def scope_add_command(ctx: click.Context, /, name: str, **asked: Any) -> int:
    """Save a query under a name: machines belong to the scope as long as they match."""
    _print(ctx, [machines_of(ctx).add_scope(ScopeWanted(name, query_of(asked)))])
    return ExitCode.DONE


@click.command("scope-remove")
@click.argument("name")
@click.pass_context
def scope_remove_command(ctx: click.Context, name: str) -> int:
    """Forget a scope. Machines stay as they are."""
    machines_of(ctx).remove_scope(name)
    print_note("removed")
    return ExitCode.DONE


def _print(ctx: click.Context, found: list[Scope]) -> None:
    print_rows(found, ctx, "", ("name", "#machines", "query"), lambda s: (s.name, s.machines, _told(s)))


def _told(scope: Scope) -> str:
    asked = asdict(scope.query)
    tags = [f"tag {name}={value}" if value else f"tag {name}" for name, value in asked.pop("tags").items()]
    return ", ".join([f"{name} {value}" for name, value in asked.items() if value not in (None, "")] + tags) or "all"


SCOPES: Final = (scopes_command, scope_add_command, scope_remove_command)
"""All of them."""
