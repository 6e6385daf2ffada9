"""`hotmend windows agent`: a Windows machine of a fleet."""

from __future__ import annotations

import time
from pathlib import Path

import click
import msgspec

from hotmend.agent.uplink.carrying import failed, pause
from hotmend.agent.windows.doing import Hands
from hotmend.agent.windows.ledger import Ledger
from hotmend.agent.windows.places import windows_places
from hotmend.agent.windows.turn import Turns
from hotmend.cli.output import ExitCode, print_json, print_note
from hotmend.cli.windows_facts import sources
from hotmend.cli.windows_remedies import actions_of, folder_of
from hotmend.model.errors import HotmendError
from hotmend.reference.shipped import program
from hotmend.servicing.actions import State


class TurnShape(msgspec.Struct, frozen=True):
    """What became of a turn.

    Attributes:
        ended: how many orders have ended in it.
        orders: the last state of each order that this machine knows, by its id.
    """

    ended: int
    orders: dict[str, State]


@click.command("agent")
@click.option("--once", is_flag=True, help="Take one turn and end.")
@click.option("--json", "as_json", is_flag=True, help="One object; with --once.")
@click.pass_obj
def agent_command(state: Path | None, once: bool, as_json: bool) -> int:
    """Ask this machine's server (hotmend enroll) what is due, do it, and say how the machine is; again and again.

    What is installed comes from the update agent, which checks Microsoft's signatures as ever.
    """
    places = windows_places(folder_of(state))
    ledger = Ledger(places.ledger)
    turns = Turns(places, Hands(sources(), actions_of(state), program(), ledger, Ledger(places.own)))
    while not once:
        try:
            turns.take()
        except (HotmendError, OSError) as error:
            print_note(str(error))
            if places.server.exists():
                failed(places, error)
        time.sleep(pause(places))
    try:
        ended = turns.take()
    except HotmendError as error:
        if places.server.exists():
            failed(places, error)
        raise
    shape = TurnShape(ended, {each.action: State(each.state) for each in ledger.reached()})
    if as_json:
        print_json(shape)
    else:
        print_note(f"{ended} orders have ended")
    return ExitCode.DONE
