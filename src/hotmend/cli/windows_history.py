"""`hotmend windows history`: what the update agent has on record, and what hotmend has."""

from __future__ import annotations

from pathlib import Path

import click

from hotmend.cli.output import ExitCode, print_json, print_table
from hotmend.cli.windows_remedies import actions_of
from hotmend.cli.windows_shapes import ActionShape, EntryShape
from hotmend.reference.texts import LANGUAGES, Reader, language_of
from hotmend.windows.action import Action
from hotmend.windows.agent import local_agent
from hotmend.windows.registry import local_machine
from hotmend.windows.updates import Entry, code_text
from hotmend.windows.work import settle


@click.command("history")
@click.option("--actions", "own", is_flag=True, help="What hotmend did here, and how far it is.")
@click.option("--kb", metavar="KB", help="Only entries of this update.")
@click.option("--language", type=click.Choice(LANGUAGES), help="Of the answers (default: the locale's).")
@click.option("--json", "as_json", is_flag=True, help="One object for each entry.")
@click.pass_obj
def history_command(state: Path | None, own: bool, kb: str | None, language: str | None, as_json: bool) -> int:
    """Show the whole update history, newest first, with the result and its code."""
    reader = Reader(language or language_of())
    machine, actions = local_machine(), actions_of(state)
    agent = local_agent()
    settle(actions, agent, machine)
    if own:
        shapes = [_action(action) for action in reversed(actions.all())]
        return _print_actions(shapes, reader, as_json)
    entries = [_entry(entry) for entry in agent.history() if kb is None or kb.upper() in entry.kbs]
    if as_json:
        for entry in entries:
            print_json(entry)
    else:
        say = reader.text
        rows = (
            (f"{e.at:%Y-%m-%d %H:%M}", ", ".join(e.kbs) or "–", say(e.operation), say(e.result), e.result_code, e.title)
            for e in entries
        )
        print_table(say("Update history"), ("UTC", "KB", "", "", "", ""), rows)
    return ExitCode.DONE if entries else ExitCode.NOTHING_TO_DO


def _print_actions(shapes: list[ActionShape], reader: Reader, as_json: bool) -> int:
    for shape in shapes:
        if as_json:
            print_json(shape)
            continue
        click.echo(f"{shape.action}: {reader.text(shape.state)}")
        for event in shape.events:
            click.echo(f"  {event}")
    return ExitCode.DONE if shapes else ExitCode.NOTHING_TO_DO


def _entry(entry: Entry) -> EntryShape:
    return EntryShape(
        at=entry.at,
        kbs=entry.kbs,
        title=entry.title,
        operation=entry.operation,
        result=entry.result,
        result_code=code_text(entry.code),
        client=entry.client,
        hotpatch="hotpatch" in entry.title.lower(),
    )


def _action(action: Action) -> ActionShape:
    events = tuple(f"{event.at:%Y-%m-%d %H:%M:%S} {event.what}" for event in action.events)
    return ActionShape(action.id, action.subject, action.state, action.began_at, events, action.exports)
