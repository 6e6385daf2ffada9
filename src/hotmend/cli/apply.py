"""`hotmend apply`."""

from __future__ import annotations

import click


@click.command("apply")
def apply_command() -> int:
    """To come."""
    raise click.ClickException("not there yet")
