"""`hotmend windows apply|verify|undo REMEDY`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from hotmend.cli.output import ExitCode, print_json, print_reasons
from hotmend.cli.shapes import ReasonShape
from hotmend.cli.windows_shapes import RemedyShape
from hotmend.reference.texts import LANGUAGES, Reader, language_of
from hotmend.windows import perform
from hotmend.windows.action import Actions
from hotmend.windows.cim import local_cim
from hotmend.windows.perform import Outcome, Standing
from hotmend.windows.prepare import remedy_named
from hotmend.windows.registry import Machine, local_machine
from hotmend.windows.remedies import NAMES
from hotmend.windows.vsm import vsm_status

_REMEDY = click.argument("remedy", type=click.Choice(NAMES))
_REG = click.option(
    "--reg", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="The policy, for client-policy."
)
_LANGUAGE = click.option("--language", type=click.Choice(LANGUAGES), help="Of the answers (default: the locale's).")
_JSON = click.option("--json", "as_json", is_flag=True, help="One object.")


@click.command("apply")
@_REMEDY
@_REG
@_LANGUAGE
@_JSON
@click.pass_obj
def apply_command(state: Path | None, remedy: str, reg: Path | None, language: str | None, as_json: bool) -> int:
    """Do a remedy up to the next reboot that it needs; the same command again goes on after it."""
    machine, actions = local_machine(), actions_of(state)
    found, reasons = remedy_named(remedy, machine, reg.read_bytes() if reg else None)
    if found is None:
        return _report(
            remedy,
            Outcome(Standing.NOT_APPLIED, (), refused=reasons),
            actions,
            Reader(language or language_of()),
            as_json,
        )
    outcome = perform.apply(found, machine, actions, lambda: _vsm_runs(machine))
    _report(remedy, outcome, actions, Reader(language or language_of()), as_json)
    if outcome.changed:
        return ExitCode.DONE
    waits = outcome.standing in {Standing.DONE, Standing.AWAITING_REBOOT}
    return ExitCode.NOTHING_TO_DO if waits else ExitCode.FAILED


@click.command("verify")
@_REMEDY
@_REG
@_LANGUAGE
@_JSON
@click.pass_obj
def verify_command(state: Path | None, remedy: str, reg: Path | None, language: str | None, as_json: bool) -> int:
    """Say whether a remedy is done, changing nothing. Exit code 1 where it is not, or not proven."""
    machine, actions = local_machine(), actions_of(state)
    found, reasons = remedy_named(remedy, machine, reg.read_bytes() if reg else None)
    if found is None:
        return _report(
            remedy,
            Outcome(Standing.NOT_APPLIED, (), refused=reasons),
            actions,
            Reader(language or language_of()),
            as_json,
        )
    outcome = perform.verify(found, machine, actions, lambda: _vsm_runs(machine))
    _report(remedy, outcome, actions, Reader(language or language_of()), as_json)
    return ExitCode.DONE if outcome.standing is Standing.DONE else ExitCode.FAILED


@click.command("undo")
@_REMEDY
@_LANGUAGE
@_JSON
@click.pass_obj
def undo_command(state: Path | None, remedy: str, language: str | None, as_json: bool) -> int:
    """Put back what was there before a remedy, where nobody else has changed it since."""
    actions = actions_of(state)
    outcome = perform.undo(remedy, local_machine(), actions)
    code = _report(remedy, outcome, actions, Reader(language or language_of()), as_json)
    return code or (ExitCode.DONE if outcome.changed else ExitCode.NOTHING_TO_DO)


def actions_of(state: Path | None) -> Actions:
    """Return the records of this machine."""
    return Actions(folder_of(state))


def folder_of(state: Path | None) -> Path:
    """Return where records are kept: what was given, or hotmend in %ProgramData%."""
    return state or Path(os.environ.get("ProgramData") or ".") / "hotmend"  # noqa: SIM112 - as Windows writes it


def _vsm_runs(machine: Machine) -> bool | None:
    status = vsm_status(machine, local_cim()).status
    return None if status is None else status == 2


def _report(remedy: str, outcome: Outcome, actions: Actions, reader: Reader, as_json: bool) -> int:
    action = outcome.action
    exports = tuple(str(actions.folder / name) for name in (action.exports if action else ()))
    shape = RemedyShape(
        remedy=remedy,
        standing=outcome.standing,
        changed=outcome.changed,
        sentences=tuple(reader.write(sentence) for sentence in outcome.sentences),
        reasons=tuple(
            ReasonShape(r.code, r.severity.value, reader.text(r.sentence), r.subjects) for r in outcome.refused
        ),
        action=action.id if action else None,
        exports=exports,
    )
    if as_json:
        print_json(shape)
        return ExitCode.REFUSED if outcome.refused else ExitCode.DONE
    say = reader.text
    click.echo(f"{remedy}: {reader.text(outcome.standing)}")
    for sentence in shape.sentences:
        click.echo(f"  {sentence}")
    for name in exports:
        click.echo(f"  {say('as it was')}: {name}")
    print_reasons(shape.reasons, say=say)
    return ExitCode.REFUSED if outcome.refused else ExitCode.DONE
