"""`hotmend fleet slots` and the like: maintenance of machines of a server."""

from __future__ import annotations

from typing import Final

import click

from hotmend.cli.fleet_output import print_rows, when
from hotmend.cli.output import ExitCode, print_note
from hotmend.fleet.maintenance import Maintenance


def maintenance_of(ctx: click.Context) -> Maintenance:
    """Return the server that is asked."""
    from hotmend.cli.fleet import client_of

    return Maintenance(client_of(ctx))


@click.command("slots")
@click.pass_context
def slots_command(ctx: click.Context) -> int:
    """List the restart slots that are taken."""
    print_rows(
        maintenance_of(ctx).slots(),
        ctx,
        "",
        ("configuration", "name", "machine", "since", "until"),
        lambda s: (s.configuration, s.name, s.machine, when(s.taken_at), when(s.expires_at)),
    )
    return ExitCode.DONE


@click.command("slot-free")
@click.argument("identity", metavar="ID")
@click.pass_context
def slot_free_command(ctx: click.Context, identity: str) -> int:
    """Free the restart slot of a machine that will not give it back."""
    maintenance_of(ctx).free_slot(identity)
    print_note("free")
    return ExitCode.DONE


MAINTENANCE: Final = (slots_command, slot_free_command)
"""All of them."""
