"""`hotmend check`: all questions about one machine, from its facts, on any system."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import click

from hotmend.cli.check_shapes import (
    AnswerShape,
    DueShape,
    IssueShape,
    LevelShape,
    MaintenanceShape,
    RemedyShape,
    Shaper,
)
from hotmend.cli.output import ExitCode, print_json
from hotmend.model.errors import InputError, UsageError
from hotmend.reference.shipped import program
from hotmend.reference.texts import LANGUAGES, Reader, language_of
from hotmend.servicing.evaluate import effects, evaluate
from hotmend.servicing.facts_json import FACTS_BYTES_MAX, facts_decode
from hotmend.servicing.maintenance import POLICY_BYTES_MAX, Policy, policy_parse
from hotmend.servicing.releases import CALENDAR_BYTES_MAX, Release, calendar_rows


@click.command("check")
@click.argument("facts_file", metavar="FACTS.json", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--if-installed",
    "updates",
    metavar="ID",
    multiple=True,
    help="What installing this update (KB, or release of a Linux channel) would do; can be repeated, in order.",
)
@click.option("--at", metavar="TIME", help="The moment to answer for, ISO 8601 (default: now).")
@click.option(
    "--calendar",
    "calendars",
    type=click.Path(path_type=Path, dir_okay=False),
    multiple=True,
    help="A CSV file with releases of further channels; can be repeated.",
)
@click.option(
    "--policy",
    "policy_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A TOML file with maintenance windows, freezes, classifications, includes and excludes.",
)
@click.option("--language", type=click.Choice(LANGUAGES), help="Of the answers (default: that of the locale).")
@click.option("--json", "as_json", is_flag=True, help="One object.")
def check_command(
    facts_file: Path,
    updates: tuple[str, ...],
    at: str | None,
    calendars: tuple[Path, ...],
    policy_file: Path | None,
    language: str | None,
    as_json: bool,
) -> int:
    """Answer for one machine: level, line, eligibility, enrollment, known issues, what is due, and the plan.

    With --if-installed the exit code is 4 where one of the updates would not keep the machine on the line.
    """
    reader = Reader(language or language_of())
    now = _moment(at)
    facts = facts_decode(_read(facts_file, FACTS_BYTES_MAX), str(facts_file))
    servicing = program(calendar_files(calendars))
    answers = evaluate(facts, servicing, now)
    would, after = effects(facts, servicing, updates, now) if updates else ((), None)
    shape = Shaper(reader, servicing).answer(facts, answers, would, after, _policy(policy_file), now)
    if as_json:
        print_json(shape)
    else:
        click.echo("\n".join(_lines(shape, reader)))
    return ExitCode.REFUSED if any(effect.refused for effect in shape.effects) else ExitCode.DONE


def _policy(path: Path | None) -> Policy:
    if path is None:
        return Policy()
    return policy_parse(_read(path, POLICY_BYTES_MAX).decode("utf-8", "replace"), str(path))


def calendar_files(paths: Iterable[Path]) -> tuple[Release, ...]:
    """Return the releases of CSV files.

    Raises:
        InputError: a file cannot be read, or is no calendar.
    """
    return tuple(
        row
        for path in paths
        for row in calendar_rows(_read(path, CALENDAR_BYTES_MAX).decode("utf-8", "replace"), str(path))
    )


def _read(path: Path, bytes_max: int) -> bytes:
    """Return a file's bytes, or those of standard input for `-`, and one more than allowed where there are too many."""
    try:
        if str(path) == "-":
            return sys.stdin.buffer.read(bytes_max + 1)
        with path.open("rb") as source:
            return source.read(bytes_max + 1)
    except OSError as error:
        raise InputError("{source}: cannot be read: {why}", source=str(path), why=error.strerror) from error


def _moment(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            "{option}: not a time: {text}",
            "for example {example}",
            option="--at",
            text=text,
            example="2025-10-20T08:00+02:00",
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _lines(shape: AnswerShape, reader: Reader) -> Iterable[str]:
    """Yield the answers as a person reads them."""
    say = reader.text
    yes_no = {True: say("yes"), False: say("no"), None: say("not known")}
    yield f"{shape.machine or '-'}: {shape.product_name or say('product not known')}"
    yield f"{say('Eligible')}: {yes_no[shape.eligible]}"
    yield from (f"  {cause.text} [{cause.code}]" for cause in shape.causes)
    for check in shape.prerequisites:
        if check.remedy is not None:
            yield from _remedy(check.remedy, reader)
    yield f"{say('Enrollment')}: {say(shape.enrollment) if shape.enrollment else say('not known')}"
    yield from (f"  {cause.text} [{cause.code}]" for cause in shape.enrollment_causes)
    if shape.enrollment_remedy:
        yield from _remedy(shape.enrollment_remedy, reader)
    if shape.forecast and shape.forecast.next_hotpatch:
        yield f"  {say('Next hotpatch')}: {reader.day(shape.forecast.next_hotpatch)}"
    yield from _level(say("Level"), shape.level, reader)
    for effect in shape.effects:
        verdict = say("refused") if effect.refused else say("may be installed")
        outcome = f"{say(effect.outcome)} ({verdict}), {say('reboot')}: {yes_no[effect.reboot]}"
        yield f"{say('If installed')}: {effect.id}: {outcome}"
        yield from (f"  {cause.text} [{cause.code}]" for cause in effect.causes)
    if shape.effects:
        yield from _level(say("Level afterwards"), shape.level_after, reader)
    for issue in shape.issues:
        yield from _issue(issue, reader)
    yield from _forecast(shape, reader)
    yield from _maintenance(shape.maintenance, reader)
    if shape.managers:
        yield f"{say('Also managed by')}: {', '.join(shape.managers)}"
    yield f"{say('Plan')}:"
    yield from (f"  {number}. {step}" for number, step in enumerate(shape.plan or (say("nothing to do"),), 1))


def _level(heading: str, level: LevelShape | None, reader: Reader) -> Iterable[str]:
    if level is None:
        return
    say = reader.text
    parts = [
        f"{r.id} ({r.label}, {say('confidence')} {say(r.confidence)})" if r else "–"
        for r in (level.baseline, level.hotpatch)
    ]
    line = f"{say('hotpatch line')}: {say(level.line)}"
    yield f"{heading}: {say('baseline')} {parts[0]}, {say('hotpatch')} {parts[1]}; {line}"
    yield from (f"  {cause.text} [{cause.code}]" for cause in level.causes)


def _remedy(remedy: RemedyShape, reader: Reader) -> Iterable[str]:
    say = reader.text
    yield f"  -> {remedy.title}"
    yield from (f"       {command}" for command in remedy.commands)
    yield f"     {say('risk')}: {remedy.risk}"
    yield f"     {say('needs a restart')}: {say(remedy.restart)}; {say('proof')}: {remedy.verify}"


def _issue(issue: IssueShape, reader: Reader) -> Iterable[str]:
    say = reader.text
    marks = {True: "x", False: " ", None: "?"}
    yield f"{say('Known issue')}: {issue.title} [{issue.id}]"
    yield f"  {say('if nothing is done')}: {issue.cost}"
    if issue.deadline and issue.options:
        late = f" ({say('over')})" if issue.overdue else ""
        yield f"  {say('to be done before')} {reader.day(issue.deadline)}{late}"
    for option in issue.options:
        yield f"  {option.title}{': ' + say('done') if option.done else ''}"
        for number, step in enumerate(option.steps, 1):
            yield f"    [{marks[step.proven]}] {number}. {step.title}"
            yield from (f"           {command}" for command in step.commands)


def _forecast(shape: AnswerShape, reader: Reader) -> Iterable[str]:
    say, forecast, avoided = reader.text, shape.forecast, shape.avoided
    if forecast is not None:
        yield f"{say('Forecast to')} {reader.day(forecast.until)}: {_count(forecast.due, reader)}"
        yield from (_due(due, reader) for due in forecast.due)
        if forecast.due_with_workaround != forecast.due:
            yield f"{say('With a workaround')}: {_count(forecast.due_with_workaround, reader)}"
            yield from (_due(due, reader) for due in forecast.due_with_workaround)
    if avoided is not None and avoided.complete:
        yield f"{say('Avoided so far')}: {say('reboots')} {avoided.reboots}, {say('restarts')} {avoided.restarts}"


def _maintenance(maintenance: MaintenanceShape, reader: Reader) -> Iterable[str]:
    say = reader.text
    yield f"{say('Maintenance windows')} ({maintenance.zone or say('not known')}): {maintenance.cause.text}"
    for window in maintenance.windows:
        yield f"  {reader.moment(window.start)} – {reader.moment(window.end)}: {say(window.name)}"
    if maintenance.choices is not None:
        when = f" ({reader.moment(maintenance.assessed_at)})" if maintenance.assessed_at else ""
        yield f"{say('Recommended updates')}{when}:"
        for choice in maintenance.choices:
            yield f"  {choice.id}: {say(choice.deed)}: {choice.cause.text}"


def _count(due: tuple[DueShape, ...], reader: Reader) -> str:
    say = reader.text
    reboots = sum(each.need == "reboot" for each in due)
    return f"{say('reboots')} {reboots}, {say('restarts')} {len(due) - reboots}"


def _due(due: DueShape, reader: Reader) -> str:
    say = reader.text
    expected = f" ({say('expected')})" if due.expected else ""
    return f"  {reader.day(due.day)}: {say(due.need)}: {due.cause.text}{expected}"
