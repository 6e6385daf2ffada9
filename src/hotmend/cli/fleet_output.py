"""What commands of `hotmend fleet` share: rows as tables or JSON lines, moments, tags."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

import click
import msgspec

from hotmend.cli.output import print_note, print_table


def as_json(ctx: click.Context) -> bool:
    """Say whether JSON is wanted."""
    return bool(ctx.obj[3])


def print_rows(
    rows: Iterable[Any], ctx: click.Context, title: str, columns: Sequence[str], cells: Callable[[Any], Sequence[Any]]
) -> None:
    """Print rows as a table, or as JSON, a line each."""
    rows = list(rows)
    if as_json(ctx):
        for row in rows:
            click.echo(msgspec.json.encode(row))
    elif rows:
        print_table(title, tuple(columns), [tuple(cells(row)) for row in rows])
    else:
        print_note("none")


def tags_of(given: Sequence[str]) -> dict[str, str]:
    """Return tags by name of what a person wrote as NAME=VALUE; a value that is not there is ""."""
    return {name: value for name, _, value in (each.partition("=") for each in given)}


def when(moment: datetime | None) -> str:
    """Return a moment in the zone of this machine, for people; "" for none."""
    return "" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M")
