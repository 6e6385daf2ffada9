"""`hotmend windows facts`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from hotmend.cli.output import ExitCode
from hotmend.servicing.facts_json import facts_encode
from hotmend.windows.agent import local_agent
from hotmend.windows.cim import local_cim
from hotmend.windows.facts import Sources, collect
from hotmend.windows.network import METADATA
from hotmend.windows.registry import local_machine

METADATA_VARIABLE = "HOTMEND_INSTANCE_METADATA"
"""Environment variable: where Azure's instance metadata service is, other than at its fixed address."""


@click.command("facts")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write into this file.")
@click.option("--offered/--no-offered", default=True, help="Ask the update agent what it offers, which takes minutes.")
@click.option("--network/--no-network", default=True, help="Try the endpoints of the Arc agent.")
@click.option("--json", "as_json", is_flag=True, help="One object; it always is.")
def facts_command(output: Path | None, offered: bool, network: bool, as_json: bool) -> int:
    """Collect everything about this machine that the rules ask for, changing nothing. The answer is JSON."""
    del as_json
    data = facts_encode(collect(sources(offered=offered, network=network)).facts)
    if output is not None:
        output.write_bytes(data)
    else:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
    return ExitCode.DONE


def sources(*, offered: bool = True, network: bool = True) -> Sources:
    """Return where the facts of this machine come from."""
    where = os.environ.get(METADATA_VARIABLE, METADATA)
    machine = local_machine()
    return Sources(machine, local_cim(), local_agent, ask_agent=offered, try_network=network, metadata=where)
