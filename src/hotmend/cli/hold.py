"""`hotmend hold`: the brake of one machine."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from hotmend.agent.paths import Places
from hotmend.agent.record.history import Held, History
from hotmend.agent.record.hold import begin_hold, end_hold, read_hold
from hotmend.cli.agent_shapes import HoldShape
from hotmend.cli.moments import moment
from hotmend.cli.output import ExitCode, print_json, print_note
from hotmend.model.errors import HotmendError, UsageError


@click.command("hold")
@click.option("--until", metavar="TIME", help="When it ends by itself, such as 2026-12-01T08:00.")
@click.option("--reason", default="", metavar="TEXT", help="For people.")
@click.option("--release", is_flag=True, help="End it.")
@click.option("--show", is_flag=True, help="Only say whether one is in force.")
@click.option("--json", "as_json", is_flag=True, help="One object on stdout.")
def hold_command(until: str | None, reason: str, release: bool, show: bool, as_json: bool) -> int:
    """Have nothing changed on this machine: neither by the agent, nor by `upgrade`, nor by apt's hook.

    A file is enough, an empty one too: `touch /etc/hotmend/hold`. What runs stays as it is; `hotmend revert --all`
    takes it back.
    """
    places = Places()
    if (release and (until or show)) or (show and until):
        raise UsageError("--release, --show and --until are three different things")
    try:
        if release:
            if not end_hold(places.hold):
                print_note("there is no hold.")
                return ExitCode.NOTHING_TO_DO
            _recorded(Held(until=None, reason="", released=True), places)
        elif not show:
            end = None if until is None else moment(until)
            begin_hold(places.hold, end, reason)
            _recorded(Held(until=end, reason=reason), places)
    except OSError as error:
        raise HotmendError(f"{places.hold}: {error.strerror or error}") from error
    found = read_hold(places.hold, datetime.now(UTC))
    if as_json:
        end_text = found.until.isoformat() if found and found.until else ""
        print_json(HoldShape(found is not None, end_text, found.reason if found else ""))
    else:
        click.echo(str(found) if found else "not on hold")
    return ExitCode.DONE


def _recorded(event: Held, places: Places) -> None:
    """Write it into the history; a hold that cannot be noted is a hold all the same."""
    try:
        History(places.history).append(event)
    except OSError as error:
        print_note(f"{places.history}: {error.strerror or error}")
