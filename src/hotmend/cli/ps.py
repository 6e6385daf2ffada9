"""`hotmend ps`."""

from __future__ import annotations

import click


@click.command("ps")
def ps_command() -> int:
    """To come."""
    raise click.ClickException("not there yet")
