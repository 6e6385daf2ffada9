"""`hotmend windows`: what is found out about a Windows machine, and what is done to it."""

from __future__ import annotations

import importlib
from pathlib import Path

import click

STATE_VARIABLE = "HOTMEND_STATE"
_COMMANDS = {
    "agent": "windows_agent",
    "facts": "windows_facts",
    "assess": "windows_updates",
    "install": "windows_updates",
    "uninstall": "windows_updates",
    "rollback": "windows_updates",
    "history": "windows_history",
    "policy": "windows_policy",
    "apply": "windows_remedies",
    "verify": "windows_remedies",
    "undo": "windows_remedies",
}
"""Command to the module of `hotmend.cli` that has it as `NAME_command`."""


class _OnDemand(click.Group):
    """Imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*_COMMANDS, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _COMMANDS and cmd_name not in self.commands:
            module = importlib.import_module(f"hotmend.cli.{_COMMANDS[cmd_name]}")
            self.add_command(getattr(module, f"{cmd_name}_command"))
        return super().get_command(ctx, cmd_name)


@click.group("windows", cls=_OnDemand)
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    envvar=STATE_VARIABLE,
    help="Where records and exports are kept; by default hotmend in %ProgramData%.",
)
@click.pass_context
def windows_command(context: click.Context, state: Path | None) -> None:
    """Look after a Windows machine: facts, remedies, updates."""
    context.obj = state
