"""`hotmend agent`: the service that keeps one machine on the line, and what a person asks of it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hotmend.cli.agent_shapes import (
    ActionShape,
    AgentTurnShape,
    AssessmentShape,
    CheckInShape,
    FetchedShape,
    QuarantineShape,
    RunShape,
    TrustedShape,
)
from hotmend.cli.audit_option import audit_option
from hotmend.cli.issue_text import issue_rows
from hotmend.cli.output import ExitCode, print_error, print_json, print_note, print_table
from hotmend.model.errors import HotmendError, UsageError

if TYPE_CHECKING:
    from hotmend.agent.machine import Machine
    from hotmend.agent.paths import Places
    from hotmend.agent.run import Ended

json_option = click.option("--json", "as_json", is_flag=True, help="One object on stdout.")


@click.group("agent")
def agent_command() -> None:
    """Keep this machine on the line: what waits comes into memory, is watched, and comes onto the disk.

    What it may do stands in /etc/hotmend/agent.toml; what it did, in its history (hotmend timeline).
    """


def this_machine(audit: Path) -> Machine:
    """Return this machine.

    Raises:
        UsageError: who asks is not root.
        InputError: the configuration is none.
    """
    from hotmend.agent.configuration import read_configuration
    from hotmend.agent.machine import Machine
    from hotmend.agent.paths import Places
    from hotmend.agent.record.history import History

    if os.geteuid() != 0:
        raise UsageError("only root can change processes and packages", "run it as root")
    places = Places()
    return Machine(places, read_configuration(places.configuration), History(places.history), audit=audit)


@agent_command.command("run")
@click.option("--once", is_flag=True, help="Take one turn and end.")
@audit_option
@json_option
def run_command(once: bool, audit: Path, as_json: bool) -> int:
    """Take a turn now and then at intervals: look, and do what the mode allows inside the window.

    SIGTERM ends it after the turn that is under way; SIGHUP begins the next turn at once.
    """
    if not once:
        return _loop("run", audit)
    from hotmend.agent.uplink.turn import directed_turn

    done = directed_turn(this_machine(audit))
    ended = None if done.ended is None else run_shape(done.ended)
    finished = done.finished
    shape = AgentTurnShape(
        done.mode,
        done.waiting,
        done.recovered,
        done.held,
        ended,
        tuple(f"{each.unit}: {each.outcome}" for each in finished.restarts) if finished else (),
        finished.reboot.reason if finished else "",
        tuple(f"{one.update}: {one.reason}" for one in done.withdrawn),
    )
    if as_json:
        print_json(shape)
    else:
        print_note(f"mode {shape.mode}; {len(shape.waiting)} updates wait" + (f"; {done.held}" if done.held else ""))
        if ended is not None:
            _print(ended)
        for told in shape.withdrawn:
            print_note(f"withdrawn by its publisher: {told}")
        for told in (*shape.restarted, *([shape.reboot] if shape.reboot else [])):
            print_note(told)
    if finished is not None and not all(each.good for each in finished.restarts):
        return ExitCode.FAILED
    return ExitCode.DONE if done.ended is None else _code(done.ended)


def _loop(name: str, audit: Path | None) -> int:
    """Take turns of a subcommand; each is a process of its own."""
    from hotmend.agent.newcomers import Newcomers, has_hotpatch
    from hotmend.agent.pace import pace
    from hotmend.agent.paths import Places
    from hotmend.agent.service import Loop, command
    from hotmend.agent.uplink.news import letter_name, whole_name

    turn = command("agent", name, "--once", *(() if audit is None else ("--audit", str(audit))))
    newcomers = Newcomers(Places().unfinished, has_hotpatch)
    news = (lambda: (letter_name(Places()), newcomers.number())) if name == "run" else (lambda: whole_name(Places()))
    Loop(turn, lambda: pace(Places().configuration), print_note, news).run()
    return ExitCode.DONE


@agent_command.command("fetch")
@click.option("--once", is_flag=True, help="Fetch once and end.")
@json_option
def fetch_command(once: bool, as_json: bool) -> int:
    """Keep a copy of the channel for `agent run`, which has no need of a network and verifies all of it again.

    Needs no privilege but to write its folder; runs as a user of its own.
    """
    if not once:
        return _loop("fetch", None)
    from hotmend.agent.configuration import read_configuration
    from hotmend.agent.fetching import copy_channel
    from hotmend.agent.paths import Places
    from hotmend.repository.bundles import Came

    places = Places()
    channel = read_configuration(places.configuration).channel
    if channel is None:
        print_note("no channel is configured: updates come from apt.")
        return ExitCode.NOTHING_TO_DO
    arrivals = copy_channel(channel, places)
    shape = FetchedShape(
        channel.name,
        channel.tier,
        tuple(arrival.name for arrival in arrivals),
        sum(arrival.bytes for arrival in arrivals),
        tuple(arrival.name for arrival in arrivals if arrival.how is Came.DELTA),
    )
    if as_json:
        print_json(shape)
    else:
        print_note(
            f"{channel.name}/{channel.tier}: {len(arrivals)} files of hotpatches for packages of this machine; "
            f"{shape.bytes:,} bytes fetched, {len(shape.deltas)} files compressed against old images"
        )
    return ExitCode.DONE


@agent_command.command("uplink")
@click.option("--once", is_flag=True, help="Check in once and end.")
@json_option
def uplink_command(once: bool, as_json: bool) -> int:
    """Carry letters between this machine and its server (hotmend enroll), at the pace that the server says.

    Runs as a user of its own; `agent run` opens what it brings, and believes the server's signature alone.
    """
    from hotmend.agent.paths import Places

    places = Places()
    if once:
        return _check_in(places, as_json=as_json)
    from hotmend.agent.service import Loop
    from hotmend.agent.uplink.carrying import pause
    from hotmend.agent.uplink.news import states_name

    def turn() -> int:
        try:
            return _check_in(places, as_json=as_json)
        except HotmendError as error:
            print_error(str(error), error.hint, as_json=as_json)
        except OSError as error:  # a full disk, say: it may have room again at the next turn
            print_error(f"{error.filename or 'the check-in'}: {error.strerror or error}", "", as_json=as_json)
        return ExitCode.FAILED

    Loop(turn, lambda: pause(places), print_note, lambda: states_name(places)).run()
    return ExitCode.DONE


def _check_in(places: Places, *, as_json: bool) -> int:
    """Go to the server once, and say what it answered."""
    from hotmend.agent.uplink.carrying import check_in, failed

    try:
        answer = check_in(places)
    except HotmendError as error:
        if places.server.exists():
            failed(places, error)
        raise
    orders = tuple(order.id for order in answer.orders)
    shape = CheckInShape(answer.machine, answer.approved, answer.halted, orders, answer.next_seconds)
    if as_json:
        print_json(shape)
    else:
        told = "waits for approval" if not answer.approved else answer.halted and f"halted: {answer.halted}"
        print_note(f"{len(orders)} actions are due" + (f"; {told}" if told else ""))
    return ExitCode.DONE


@agent_command.command("trust")
@click.argument("root", type=click.Path(path_type=Path, dir_okay=False))
@json_option
def trust_command(root: Path, as_json: bool) -> int:
    """Begin with ROOT as what this machine believes of a channel. It has to come by a way that is trusted.

    Later roots come with the channel, each signed by the one before. Nothing else makes this machine believe another.
    """
    from hotmend.agent.fetching import trust_root
    from hotmend.agent.paths import Places
    from hotmend.cli.channel_client import root_read

    if os.geteuid() != 0:
        raise UsageError("only root decides what this machine believes", "run it as root")
    content = root_read(root)
    try:
        trust_root(Places(), content)
    except OSError as error:
        raise HotmendError(f"{error.filename}: {error.strerror or error}") from error
    shape = TrustedShape(hashlib.sha256(content).hexdigest())
    if as_json:
        print_json(shape)
    else:
        print_note(f"trusted from now on: the root with SHA-256 {shape.sha256}; compare it with its owner's")
    return ExitCode.DONE


@agent_command.command("assess")
@audit_option
@json_option
def assess_command(audit: Path, as_json: bool) -> int:
    """Look now: what waits, what is due, what is not as it should be. Changes nothing but the history."""
    from hotmend.agent.census.assessment import owner_text
    from hotmend.agent.turn import assess

    found = assess(this_machine(audit))
    assessment = found.assessment
    shape = AssessmentShape(
        assessment.at.isoformat(timespec="seconds"),
        tuple(assessment.waiting),
        tuple(owner_text(due.owner, due.processes) for due in assessment.restarts),
        assessment.reboot,
        tuple((alert.code.value, alert.sentence) for alert in found.alerts),
        found.record.issues,
    )
    if as_json:
        print_json(shape)
        return ExitCode.DONE
    for heading, rows in (
        ("Updates that wait", shape.waiting),
        ("Restarts due", shape.restarts),
        ("Reboot due", shape.reboot),
        ("Alerts", tuple(f"{sentence} [{code}]" for code, sentence in shape.alerts)),
        ("Known issues", tuple(row for issue in shape.issues for row in issue_rows(issue))),
    ):
        click.echo(f"{heading}: {'none' if not rows else ''}".rstrip())
        for row in rows:
            click.echo(f"  {row}")
    return ExitCode.DONE


@agent_command.command("install")
@click.argument("packages", nargs=-1)
@click.option("--anytime", is_flag=True, help="Outside a window too.")
@audit_option
@json_option
def install_command(packages: tuple[str, ...], anytime: bool, audit: Path, as_json: bool) -> int:
    """Do now, by hand, what automatic mode does: all that is offered, or PACKAGES of apt's.

    Not availability-first: whoever does this on many machines at once has no wave that stops. What would need a
    restart is shown first by `hotmend upgrade --dry-run`.
    """
    from hotmend.agent.turn import install

    ended = install(this_machine(audit), packages, anytime=anytime)
    if as_json:
        print_json(run_shape(ended))
    else:
        _print(run_shape(ended))
    return _code(ended)


@agent_command.command("quarantine")
@click.option("--lift", metavar="UPDATE", help="Take it again.")
@json_option
def quarantine_command(lift: str | None, as_json: bool) -> int:
    """Show which updates this machine does not take any more, and why."""
    from hotmend.agent.machine import alone
    from hotmend.agent.record.quarantine import read_quarantine, take_out
    from hotmend.live.chain import DEFAULT_FILE

    machine = this_machine(DEFAULT_FILE)
    if lift is not None:
        with alone(machine.places):
            events = machine.history.read().events
            if not take_out(machine.places.quarantine, [lift], events, "by hand", machine.record):
                raise UsageError(f"{lift} is not in quarantine", "hotmend agent quarantine shows what is")
    entries = read_quarantine(machine.places.quarantine)
    shapes = tuple(QuarantineShape(e.update, e.at.isoformat(timespec="seconds"), e.reason) for e in entries)
    if as_json:
        for shape in shapes:
            print_json(shape)
    elif shapes:
        print_table("", ("update", "since", "why"), [(s.update, s.since, s.reason) for s in shapes])
    else:
        print_note("Nothing is in quarantine.")
    return ExitCode.DONE


def run_shape(ended: Ended) -> RunShape:
    """Return a run as `--json` has it."""
    actions = tuple(
        ActionShape(
            a.update,
            a.state.value,
            a.detail,
            a.cves,
            tuple(process.pid for process in a.changed),
            tuple(process.pid for process in a.old),
            tuple(sorted({process.unit for process in a.old if process.unit})),
        )
        for a in ended.actions
    )
    return RunShape(ended.state.value, ended.detail, actions)


def _print(shape: RunShape) -> None:
    if shape.actions:
        rows = [(a.update, a.state, len(a.changed), len(a.old), a.detail) for a in shape.actions]
        print_table("", ("update", "state", "#new code", "#old code", "why"), rows)
    click.echo(f"{shape.state}" + (f": {shape.detail}" if shape.detail else ""))
    if units := sorted({unit for action in shape.actions for unit in action.restarts}):
        click.echo(f"Restarts due: {', '.join(units)}")


def _code(ended: Ended) -> ExitCode:
    from hotmend.servicing.actions import State

    if ended.state.good:
        return ExitCode.DONE
    if ended.state in (State.NOT_APPLICABLE, State.WAITING_WINDOW):
        return ExitCode.NOTHING_TO_DO
    return ExitCode.REFUSED if ended.state is State.BLOCKED else ExitCode.FAILED
