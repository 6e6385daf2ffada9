"""`hotmend status`."""

from __future__ import annotations

import click


@click.command("status")
def status_command() -> int:
    """To come."""
    raise click.ClickException("not there yet")
