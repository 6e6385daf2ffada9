"""`hotmend windows assess|install|uninstall|rollback`: what the update agent does, by the rules of servicing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TypeVar, cast

import click

from hotmend.cli.output import ExitCode, print_json, print_note, print_reasons
from hotmend.cli.shapes import ReasonShape
from hotmend.cli.windows_facts import sources
from hotmend.cli.windows_remedies import actions_of
from hotmend.cli.windows_shapes import AssessShape, BecameShape, OfferedShape, RollbackShape, WorkShape
from hotmend.model.errors import SystemCallError, UsageError
from hotmend.model.verdict import Reason
from hotmend.reference.shipped import program
from hotmend.reference.texts import LANGUAGES, Reader, language_of
from hotmend.servicing.maintenance import Policy
from hotmend.servicing.message import message
from hotmend.windows.action import Actions
from hotmend.windows.agent import UpdateAgent
from hotmend.windows.assess import Assessment, Item, assess
from hotmend.windows.facts import Collected, collect
from hotmend.windows.rollback import Rolled, release, rollback, rolled_back
from hotmend.windows.updates import CLASS_NAMES, Reboots, code_text
from hotmend.windows.work import REBOOT_SETTINGS, RebootSetting, Told, install, install_reasons, settle, uninstall

_Command = TypeVar("_Command", bound=Callable[..., object])
_LANGUAGE = click.option("--language", type=click.Choice(LANGUAGES), help="Of the answers (default: the locale's).")
_JSON = click.option("--json", "as_json", is_flag=True, help="One object.")
_REBOOT = click.option(
    "--reboot", type=click.Choice(REBOOT_SETTINGS), default="never", help="Reboot afterwards (default: never)."
)
_LEAVE = click.option("--leave-line", is_flag=True, help="Do it even if the machine leaves the hotpatch line.")


def _selection(command: _Command) -> _Command:
    """Give a command the options that say which updates are meant."""
    options = (
        click.option(
            "--classification",
            "classes",
            type=click.Choice(tuple(CLASS_NAMES)),
            multiple=True,
            help="Updates of this class; can be repeated (default: critical and security).",
        ),
        click.option("--include", multiple=True, metavar="KB", help="Also this one; can be repeated."),
        click.option("--exclude", multiple=True, metavar="KB", help="Never this one; wins over everything."),
        click.option("--without-reboot", is_flag=True, help="Only what surely needs no reboot."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command("assess")
@_selection
@_LANGUAGE
@_JSON
@click.pass_obj
def assess_command(
    state: Path | None,
    classes: tuple[str, ...],
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    without_reboot: bool,
    language: str | None,
    as_json: bool,
) -> int:
    """Ask the update agent what it offers, and say what would be installed and what it would do to the line."""
    reader, actions = Reader(language or language_of()), actions_of(state)
    _, assessment = _assessed(_policy((), classes, include, exclude, without_reboot), actions)
    shape = _assess_shape(assessment, reader)
    if as_json:
        print_json(shape)
    else:
        _print_assessment(shape, reader)
    return ExitCode.DONE if shape.offered else ExitCode.NOTHING_TO_DO


@click.command("install")
@click.argument("kbs", metavar="[KB]...", nargs=-1)
@_selection
@_LEAVE
@_REBOOT
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@_LANGUAGE
@_JSON
@click.pass_obj
def install_command(
    state: Path | None,
    kbs: tuple[str, ...],
    classes: tuple[str, ...],
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    without_reboot: bool,
    leave_line: bool,
    reboot: str,
    dry_run: bool,
    language: str | None,
    as_json: bool,
) -> int:
    """Install offered updates now: those named, or those of the classifications and --include.

    Nothing is installed where one of them would take the machine off the hotpatch line.
    """
    reader, actions = Reader(language or language_of()), actions_of(state)
    say = reader.text
    collected, assessment = _assessed(_policy(kbs, classes, include, exclude, without_reboot), actions)
    machine, agent = sources().machine, _agent(collected)
    settle(actions, agent, machine)
    expected = any(update.reboots is not Reboots.NEVER for update in assessment.chosen)
    print_note(say("A manual install is not availability-first: this machine is patched now, whatever its group does."))
    for sentence in _not_chosen(assessment, tuple(map(_kb, kbs)), reader):
        print_note(sentence)
    if assessment.chosen:
        print_note(say("It needs a reboot, or may need one.") if expected else say("It needs no reboot."))
    servicing = program()
    if dry_run:
        told = Told(install_reasons(assessment, servicing, reader.write, leave_line=leave_line))
    else:
        setting = cast("RebootSetting", reboot)
        told = install(
            assessment,
            servicing,
            agent,
            machine,
            actions,
            leave_line=leave_line,
            reboot=setting,
            write=reader.write,
        )
    names = tuple(update.name for update in assessment.chosen)
    code = _report_work(told, names, expected, reader, as_json)
    if code == ExitCode.DONE and (not names or (dry_run and not told.refused)):
        return ExitCode.DONE if names else ExitCode.NOTHING_TO_DO
    return code


@click.command("uninstall")
@click.argument("kb", metavar="KB")
@_LEAVE
@_REBOOT
@_LANGUAGE
@_JSON
@click.pass_obj
def uninstall_command(
    state: Path | None, kb: str, leave_line: bool, reboot: str, language: str | None, as_json: bool
) -> int:
    """Take an installed update away."""
    reader, actions = Reader(language or language_of()), actions_of(state)
    collected = collect(sources(offered=False, network=False))
    machine, agent = sources().machine, _agent(collected)
    settle(actions, agent, machine)
    setting = cast("RebootSetting", reboot)
    told = uninstall(
        _kb(kb),
        collected.facts,
        program(),
        agent,
        machine,
        actions,
        leave_line=leave_line,
        reboot=setting,
        write=reader.write,
    )
    code = _report_work(told, (_kb(kb),), told.reboot, reader, as_json)
    return ExitCode.NOTHING_TO_DO if code == ExitCode.DONE and told.work is None else code


@click.command("rollback")
@click.option("--to", metavar="KB", help="The baseline to go back to (default: the last one before the update).")
@click.option("--release", "release_kb", metavar="KB", help="Let an update that was rolled back be installed again.")
@click.option(
    "--reboot",
    type=click.Choice(REBOOT_SETTINGS),
    default="never",
    help="The third step is a reboot: done by this command unless never (default).",
)
@_LANGUAGE
@_JSON
@click.pass_obj
def rollback_command(
    state: Path | None, to: str | None, release_kb: str | None, reboot: str, language: str | None, as_json: bool
) -> int:
    """Take the latest update away, install the last working baseline, reboot; the same command goes on after it."""
    reader, actions = Reader(language or language_of()), actions_of(state)
    where = sources(offered=False, network=False)
    machine, agent = where.machine, where.agent()
    if release_kb is not None:
        found = release(_kb(release_kb), actions, agent, machine)
        _report_rollback(Rolled((), found), reader, as_json)
        return ExitCode.DONE if found is not None else ExitCode.NOTHING_TO_DO
    settle(actions, agent, machine)
    rolled = rollback(
        lambda: collect(where).facts,
        program(),
        agent,
        machine,
        actions,
        to=_kb(to) if to else None,
        reboot=cast("RebootSetting", reboot),
    )
    return _report_rollback(rolled, reader, as_json)


def _assessed(policy: Policy, actions: Actions) -> tuple[Collected, Assessment]:
    """Return facts with the search, and what the policy makes of it.

    Raises:
        SystemCallError: the agent does not answer; then nothing is known of what is offered.
    """
    where = sources(network=False)
    collected = collect(where)
    if collected.search is None:
        unread = collected.facts.unread
        raise SystemCallError(unread.get("offered") or unread.get("windows.updates") or "the update agent is not there")
    now = where.machine.now()
    return collected, assess(collected, program(), policy, rolled_back(actions), now)


def _agent(collected: Collected) -> UpdateAgent:
    if collected.agent is None:
        raise SystemCallError(collected.facts.unread.get("windows.updates", "the update agent is not there"))
    return collected.agent


def _not_chosen(assessment: Assessment, kbs: tuple[str, ...], reader: Reader) -> Iterator[str]:
    """Yield why updates that were named are not installed."""
    for kb in kbs:
        item = next((item for item in assessment.items if kb in item.update.kbs), None)
        if item is None:
            yield reader.write(message("{kb} is not offered.", kb=kb))
        elif item.update not in assessment.chosen:
            yield f"{kb}: {reader.write(item.choice.cause.message)}"


def _policy(
    kbs: tuple[str, ...],
    classes: tuple[str, ...],
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    without_reboot: bool,
) -> Policy:
    """Return the options as a policy. Updates that are named are meant alone."""
    if kbs and (classes or include):
        raise UsageError("updates are named already", "KB stands for itself; --exclude and --without-reboot go with it")
    names = tuple(CLASS_NAMES[name] for name in classes or ("critical", "security"))
    return Policy(
        classifications=() if kbs else names,
        include=tuple(map(_kb, kbs or include)),
        exclude=tuple(map(_kb, exclude)),
        reboot="never" if without_reboot else "if-required",
    )


def _kb(text: str) -> str:
    match = re.fullmatch(r"(?:KB)?([0-9]{6,8})", text, re.IGNORECASE)
    if match is None:
        raise UsageError("not a KB: {text}", "for example {example}", text=text, example="KB5066835")
    return f"KB{match[1]}"


def _assess_shape(assessment: Assessment, reader: Reader) -> AssessShape:
    level = assessment.level
    return AssessShape(
        at=assessment.at,
        line=level.line if level else None,
        baseline=level.baseline.id if level and level.baseline else None,
        reboot_pending=assessment.facts.reboot_pending,
        counts=assessment.counts,
        offered=tuple(_offered_shape(item, reader) for item in assessment.items),
        warnings=assessment.warnings,
    )


def _offered_shape(item: Item, reader: Reader) -> OfferedShape:
    update, effect = item.update, item.effect
    return OfferedShape(
        id=update.name,
        kbs=update.kbs,
        title=update.title,
        classification=update.classification,
        msrc_severity=update.severity,
        needs_reboot=update.offer.needs_reboot,
        deed=item.choice.deed,
        why=reader.write(item.choice.cause.message),
        outcome=effect.outcome if effect else None,
        line_causes=tuple(reader.write(cause.message) for cause in effect.causes) if effect else (),
    )


def _print_assessment(shape: AssessShape, reader: Reader) -> None:
    say = reader.text
    yes_no = {True: say("yes"), False: say("no"), None: say("not known")}
    click.echo(f"{say('Recommended updates')} ({reader.moment(_local(shape.at))}):")
    for each in shape.offered:
        outcome = f", {say(each.outcome)}" if each.outcome else ""
        click.echo(f"  {each.id}: {say(each.deed)}{outcome}; {say('reboot')}: {yes_no[each.needs_reboot]}")
        click.echo(f"    {each.title}")
        for sentence in (each.why, *each.line_causes):
            click.echo(f"    {sentence}")
    if not shape.offered:
        click.echo(f"  {say('nothing to do')}")
    if shape.line:
        click.echo(f"{say('hotpatch line')}: {say(shape.line)}; {say('baseline')} {shape.baseline or '–'}")
    click.echo(f"{say('A reboot is pending')}: {yes_no[shape.reboot_pending]}")
    for warning in shape.warnings:
        click.echo(f"{say('the search was not complete')}: {warning}")


def _local(moment: datetime) -> datetime:
    return moment.astimezone()


def _report_work(told: Told, chosen: tuple[str, ...], expected: bool, reader: Reader, as_json: bool) -> int:
    work = told.work
    became = tuple(
        BecameShape(each.update.name, each.result, code_text(each.code), each.reboot)
        for each in (work.each if work else ())
    )
    shape = WorkShape(
        chosen=chosen,
        reboot_expected=expected,
        result=work.result if work else None,
        updates=became,
        reboot_due=told.reboot,
        reboot_ordered=told.reboot_ordered,
        reasons=_reasons(told.refused, reader),
        action=told.action.id if told.action else None,
    )
    if as_json:
        print_json(shape)
    else:
        _print_work(shape, reader)
    if told.refused:
        return ExitCode.REFUSED
    failed = told.action is not None and told.action.state == "failed"
    return ExitCode.FAILED if failed else ExitCode.DONE


def _print_work(shape: WorkShape, reader: Reader) -> None:
    say = reader.text
    for name in shape.chosen if shape.result is None else ():
        click.echo(f"  {name}")
    for each in shape.updates:
        click.echo(f"  {each.id}: {say(each.result)} ({each.result_code})")
    if shape.reboot_ordered:
        click.echo(say("A reboot is ordered."))
    elif shape.reboot_due:
        click.echo(say("A reboot is due; it completes this."))
    if shape.result is None and not shape.reasons and not shape.chosen:
        click.echo(say("nothing to do"))
    print_reasons(shape.reasons, say=say)


def _report_rollback(rolled: Rolled, reader: Reader, as_json: bool) -> int:
    action = rolled.action
    details = action.details if action else {}
    shape = RollbackShape(
        state=action.state if action else None,
        remove=details.get("remove"),
        baseline=details.get("baseline"),
        sentences=tuple(reader.write(sentence) for sentence in rolled.sentences),
        reboot_ordered=rolled.reboot_ordered,
        reasons=_reasons(rolled.refused, reader),
        action=action.id if action else None,
    )
    if as_json:
        print_json(shape)
    else:
        for sentence in shape.sentences:
            click.echo(f"  {sentence}")
        if shape.reboot_ordered:
            click.echo(reader.text("A reboot is ordered."))
        print_reasons(shape.reasons, say=reader.text)
    if rolled.refused:
        return ExitCode.REFUSED
    return ExitCode.FAILED if shape.state == "failed" else ExitCode.DONE


def _reasons(reasons: tuple[Reason, ...], reader: Reader) -> tuple[ReasonShape, ...]:
    return tuple(ReasonShape(r.code, r.severity.value, reader.text(r.sentence), r.subjects) for r in reasons)
