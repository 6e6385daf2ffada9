"""`hotmend arc`: a machine by its resource in Azure Arc, or in a control plane that speaks the same shapes."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from hotmend.arc.line import install_reasons
from hotmend.arc.machine import CLASSIFICATIONS, REBOOT_SETTINGS, ArcMachine, Installed, Wanted, Where, where_of
from hotmend.cli.arc_shapes import ArcAssessShape, ArcInstallShape, ArcStatusShape
from hotmend.cli.output import ExitCode, print_json, print_note, print_reasons
from hotmend.cli.shapes import ReasonShape
from hotmend.model.errors import InputError, UsageError
from hotmend.model.verdict import Reason, refusal
from hotmend.reference.shipped import program
from hotmend.reference.texts import LANGUAGES, Reader, language_of
from hotmend.servicing.eligibility import eligibility
from hotmend.servicing.facts import Arc, HotpatchSetting, MachineFacts
from hotmend.servicing.facts_json import FACTS_BYTES_MAX, facts_decode, facts_encode
from hotmend.servicing.maintenance import Policy
from hotmend.windows.updates import CLASS_NAMES

if TYPE_CHECKING:
    from hotmend.arc.connector import Connector

TOKEN_VARIABLE = "HOTMEND_ARC_TOKEN"  # noqa: S105 - its name
"""Environment variable: a bearer token, in place of what azure-identity finds."""

_BROUGHT = frozenset({"subscription", "arc", "connectivity"})
"""Prerequisites that enabling brings, or that the connected agent proves."""
_LANGUAGE = click.option("--language", type=click.Choice(LANGUAGES), help="Of the answers (default: the locale's).")
_JSON = click.option("--json", "as_json", is_flag=True, help="One object.")


@dataclass(frozen=True, slots=True)
class _Asked:
    """What all commands have in common."""

    where: Where
    endpoint: str | None
    wait_seconds: float
    poll_seconds: float

    def connector(self) -> Connector:
        """Return the connector; the SDK behind it is an optional part."""
        try:
            from hotmend.arc.connector import Connector, connect
        except ImportError as error:
            raise UsageError(
                "this Python lacks {name}",
                "run {command}",
                name=error.name,
                command="python -m pip install 'hotmend[arc]'",
            ) from error
        token = os.environ.get(TOKEN_VARIABLE)
        client = connect(self.where.subscription, endpoint=self.endpoint, token=token, poll_seconds=self.poll_seconds)
        return Connector(client, self.wait_seconds)


@click.group("arc")
@click.option("--id", "machine_id", envvar="HOTMEND_ARC_ID", required=True, help="The machine's resource id.")
@click.option("--endpoint", envvar="HOTMEND_ARC_ENDPOINT", help="A service of the same shapes (default: Azure's).")
@click.option("--wait", "wait_seconds", type=click.FloatRange(0, 86400), default=600.0, help="How long to follow.")
@click.option("--poll", "poll_seconds", type=click.FloatRange(0.05, 600), default=5.0, help="Between two looks.")
@click.pass_context
def arc_command(
    context: click.Context, machine_id: str, endpoint: str | None, wait_seconds: float, poll_seconds: float
) -> None:
    """Ask for and change a machine's Hotpatch through Azure Arc, by Microsoft's SDK."""
    context.obj = _Asked(where_of(machine_id), endpoint, wait_seconds, poll_seconds)


@arc_command.command("status")
@click.option(
    "--facts",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Print these facts instead, with what Azure knows of the machine.",
)
@_LANGUAGE
@_JSON
@click.pass_obj
def status_command(asked: _Asked, facts: Path | None, language: str | None, as_json: bool) -> int:
    """Say whether the machine is connected, and what its licence profile says of Hotpatch."""
    machine = asked.connector().machine(asked.where)
    if facts is not None:
        sys.stdout.buffer.write(with_hotpatch(facts, machine))
        return ExitCode.DONE
    _report(machine, (), Reader(language or language_of()), as_json, changed=False)
    return ExitCode.DONE


@arc_command.command("enable")
@click.option(
    "--facts",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Refuse it where these facts do not have the prerequisites: enabling would fail.",
)
@_LANGUAGE
@_JSON
@click.pass_obj
def enable_command(asked: _Asked, facts: Path | None, language: str | None, as_json: bool) -> int:
    """Enable Hotpatch, a monthly subscription, and follow it until it is enabled."""
    reader = Reader(language or language_of())
    lacking = _lacking(facts, reader) if facts is not None else ()
    return _switch(asked, reader, as_json, lacking, enable=True)


def _lacking(path: Path, reader: Reader) -> tuple[Reason, ...]:
    """Return why enabling would fail: prerequisites that are not met or not known, but for those that it brings."""
    facts, servicing = _facts(path), program()
    found = eligibility(facts, servicing.catalogue, servicing.calendar, datetime.now(UTC))
    checks = [check for check in found.checks if check.holds is not True and check.name not in _BROUGHT]
    subjects = [f"{check.name}: {reader.write(check.found)}" for check in checks]
    if not found.checks:
        subjects = [reader.write(cause.message) for cause in found.causes]
    if not subjects:
        return ()
    return (
        refusal(
            "prerequisites-lacking",
            "A prerequisite is not met, or not known to be; enabling would fail or stay pending.",
            *subjects,
        ),
    )


@arc_command.command("disable")
@_LANGUAGE
@_JSON
@click.pass_obj
def disable_command(asked: _Asked, language: str | None, as_json: bool) -> int:
    """Disable Hotpatch."""
    return _switch(asked, Reader(language or language_of()), as_json, (), enable=False)


@arc_command.command("assess")
@_LANGUAGE
@_JSON
@click.pass_obj
def assess_command(asked: _Asked, language: str | None, as_json: bool) -> int:
    """Let the machine look for updates, and count them by classification."""
    found = asked.connector().assess(asked.where)
    shape = ArcAssessShape(
        found.activity,
        found.status,
        found.started_at,
        found.modified_at,
        found.reboot_pending,
        found.counts,
        found.error,
    )
    if as_json:
        print_json(shape)
    else:
        _print_counts(shape.status, shape.counts, shape.problem, Reader(language or language_of()))
    return ExitCode.DONE if found.status in {"Succeeded", "CompletedWithWarnings"} else ExitCode.FAILED


@arc_command.command("install")
@click.option("--classification", "classes", type=click.Choice(tuple(CLASSIFICATIONS)), multiple=True)
@click.option("--include", multiple=True, metavar="KB", help="Also this one; can be repeated.")
@click.option("--exclude", multiple=True, metavar="KB", help="Never this one; wins over everything.")
@click.option("--without-reboot", is_flag=True, help="Leave out what needs a reboot.")
@click.option("--reboot", type=click.Choice(tuple(REBOOT_SETTINGS)), default="never", help="Default: never.")
@click.option("--minutes", type=int, default=120, help="The most that it may take, 60 to 235 (default: 120).")
@click.option(
    "--facts",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The machine's facts of today: nothing is begun where an update they offer leaves the hotpatch line.",
)
@click.option("--leave-line", is_flag=True, help="Begin it even if the machine leaves the hotpatch line.")
@_LANGUAGE
@_JSON
@click.pass_obj
def install_command(
    asked: _Asked,
    classes: tuple[str, ...],
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    without_reboot: bool,
    reboot: str,
    minutes: int,
    facts: Path | None,
    leave_line: bool,
    language: str | None,
    as_json: bool,
) -> int:
    """Let the machine install updates now: by default critical and security ones.

    Nothing is begun where one of them would take the machine off the hotpatch line, or nobody knows.
    """
    reader = Reader(language or language_of())
    say = reader.text
    names = classes or ("critical", "security")
    known = _facts(facts) if facts is not None else None
    wanted = Wanted(
        classifications=tuple(CLASSIFICATIONS[name] for name in names),
        include=tuple(map(_number, include)),
        exclude=tuple(map(_number, exclude)),
        without_reboot=without_reboot,
        reboot=REBOOT_SETTINGS[reboot],
        duration=timedelta(minutes=minutes),
        published_until=known.assessed_at if known is not None and not leave_line else None,
    )
    if not leave_line:
        policy = Policy(
            classifications=tuple(CLASS_NAMES[name] for name in names),
            include=tuple(f"KB{number}" for number in wanted.include),
            exclude=tuple(f"KB{number}" for number in wanted.exclude),
            reboot="never" if without_reboot else "if-required",
        )
        reasons = install_reasons(known, program(), policy, datetime.now(UTC), reader.write)
        if reasons:
            return _report_install(None, reasons, reader, as_json)
    print_note(say("A manual install is not availability-first: this machine is patched now, whatever its group does."))
    return _report_install(asked.connector().install(asked.where, wanted), (), reader, as_json)


def _report_install(found: Installed | None, reasons: tuple[Reason, ...], reader: Reader, as_json: bool) -> int:
    """Print what an installation gave; None: it was refused."""
    told = found or Installed("", "", "", False, {})
    shape = ArcInstallShape(
        told.activity,
        told.status,
        told.reboot_status,
        told.window_exceeded,
        told.counts,
        told.error,
        _reason_shapes(reasons, reader),
    )
    if as_json:
        print_json(shape)
    elif found is None:
        print_reasons(shape.reasons, say=reader.text)
    else:
        _print_counts(shape.status, shape.counts, shape.problem, reader)
    if reasons:
        return ExitCode.REFUSED
    return ExitCode.DONE if told.status == "Succeeded" and not told.counts.get("failed") else ExitCode.FAILED


def _reason_shapes(reasons: tuple[Reason, ...], reader: Reader) -> tuple[ReasonShape, ...]:
    return tuple(ReasonShape(r.code, r.severity.value, reader.text(r.sentence), r.subjects) for r in reasons)


def _switch(asked: _Asked, reader: Reader, as_json: bool, lacking: tuple[Reason, ...], *, enable: bool) -> int:
    """Switch the feature and follow it. What is on its way already is followed, not begun a second time."""
    connector = asked.connector()
    machine = connector.machine(asked.where)
    goal, way = ("Enabled", "Enabling") if enable else ("Disabled", "Disabling")
    reasons = (*_reasons(machine), *lacking)
    if reasons:
        return _report(machine, reasons, reader, as_json, changed=False)
    now = machine.licence.feature
    if now == goal or (not enable and now is None):
        return _report(machine, (), reader, as_json, changed=False) or ExitCode.NOTHING_TO_DO
    if now != way:
        connector.set_hotpatch(machine, enable=enable)
    until = time.monotonic() + asked.wait_seconds
    machine = connector.machine(asked.where)
    while machine.licence.feature == way and time.monotonic() < until:
        time.sleep(asked.poll_seconds)
        machine = connector.machine(asked.where)
    done = machine.licence.feature == goal
    pending = machine.licence.feature == way
    if pending:
        print_note(
            reader.text(
                "It is pending for longer than it takes; trouble of the agent, or the licence issue of October 2025."
            )
        )
    _report(machine, (), reader, as_json, changed=now != way)
    return ExitCode.DONE if done else ExitCode.FAILED


def _reasons(machine: ArcMachine) -> tuple[Reason, ...]:
    if machine.os_type != "windows":
        return (refusal("arc-machine-not-windows", "Hotpatch of Azure Arc is for Windows Server.", machine.os_type),)
    if machine.status != "Connected":
        return (
            refusal(
                "arc-machine-not-connected",
                "The machine's agent is not connected; what is asked of it now would stay pending.",
                machine.status,
            ),
        )
    return ()


def with_hotpatch(path: Path, machine: ArcMachine) -> bytes:
    """Return facts with what Azure knows of the machine: enablement, subscription, and whether it is connected.

    Raises:
        InputError: they are no facts of a Windows machine.
    """
    facts = _facts(path)
    assert facts.windows is not None  # noqa: S101 - just checked
    licence = machine.licence
    known = {"Unknown", "PendingEvaluation", "Disabled", "ActionRequired", "Enabled"}
    setting = HotpatchSetting(
        enablement=machine.enablement if machine.enablement in known else None,  # type: ignore[arg-type]
        requested_at=licence.enrolled_at,
        subscription=licence.feature or "Disabled",
        subscription_until=licence.billing_until,
        feature_licence_lapsed=facts.windows.hotpatch.feature_licence_lapsed,
    )
    arc: Arc = msgspec.structs.replace(facts.windows.arc, installed=True, connected=machine.status == "Connected")
    windows = msgspec.structs.replace(facts.windows, hotpatch=setting, arc=arc)
    unread = {name: why for name, why in facts.unread.items() if name != "windows.hotpatch"}
    return facts_encode(msgspec.structs.replace(facts, windows=windows, unread=unread))


def _facts(path: Path) -> MachineFacts:
    with path.open("rb") as source:
        facts = facts_decode(source.read(FACTS_BYTES_MAX + 1), str(path))
    if facts.windows is None:
        raise InputError("{source}: not a Windows machine's facts", source=str(path))
    return facts


def _number(text: str) -> str:
    number = text.upper().removeprefix("KB")
    if not number.isdecimal() or not 6 <= len(number) <= 8:
        raise UsageError("not a KB: {text}", "for example {example}", text=text, example="KB5066835")
    return number


def _report(machine: ArcMachine, reasons: tuple[Reason, ...], reader: Reader, as_json: bool, *, changed: bool) -> int:
    licence = machine.licence
    shape = ArcStatusShape(
        machine_id=machine.where.id,
        agent_status=machine.status,
        agent_version=machine.agent_version,
        os_type=machine.os_type,
        enablement=machine.enablement,
        subscription=licence.feature,
        enrolled_at=licence.enrolled_at,
        disenrolled_at=licence.disenrolled_at,
        billing_from=licence.billing_from,
        billing_until=licence.billing_until,
        patch_mode=machine.patch_mode,
        assessment_mode=machine.assessment_mode,
        problem=licence.error or machine.error,
        changed=changed,
        reasons=_reason_shapes(reasons, reader),
    )
    if as_json:
        print_json(shape)
    else:
        say = reader.text
        click.echo(f"{machine.where.name}: {shape.agent_status}")
        click.echo(f"  {say('Hotpatch')}: {shape.enablement}; {say('subscription')}: {shape.subscription or '–'}")
        if shape.problem:
            click.echo(f"  {shape.problem}")
        print_reasons(shape.reasons, say=say)
    return ExitCode.REFUSED if reasons else ExitCode.DONE


def _print_counts(status: str, counts: dict[str, int], problem: str, reader: Reader) -> None:
    click.echo(f"{reader.text('Status')}: {status}")
    for name, count in counts.items():
        if count:
            click.echo(f"  {name}: {count}")
    if problem:
        click.echo(f"  {problem}")
