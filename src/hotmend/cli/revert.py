"""`hotmend revert`."""

from __future__ import annotations

import click


@click.command("revert")
def revert_command() -> int:
    """To come."""
    raise click.ClickException("not there yet")
