"""The option that says where changes are recorded; it loads nothing of what makes them."""

from __future__ import annotations

from pathlib import Path

import click

from hotmend.live.chain import DEFAULT_FILE

AUDIT_VARIABLE = "HOTMEND_AUDIT"
"""Environment variable: file of the audit record."""

audit_option = click.option(
    "--audit",
    type=click.Path(path_type=Path, dir_okay=False),
    default=DEFAULT_FILE,
    show_default=True,
    envvar=AUDIT_VARIABLE,
    metavar="FILE",
    help=f"Where every change is recorded. Environment: {AUDIT_VARIABLE}.",
)
