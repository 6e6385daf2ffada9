"""`hotmend explain`: what is known of a CVE, a process, a unit or a file, and was it us."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hotmend.cli.audit_option import audit_option
from hotmend.cli.output import ExitCode, print_json, print_table
from hotmend.cli.report_shapes import ExplainShape, PlaceShape, entry_shape
from hotmend.cli.timeline import audit_records
from hotmend.model.errors import HotmendError, UsageError

if TYPE_CHECKING:
    from hotmend.agent.report.explain import Explanation, Known, Place

_EVENTS_MAX = 30


@click.command("explain")
@click.argument("subject", metavar="CVE|PID|UNIT|FILE")
@click.option("--days", type=click.IntRange(1, 3650), default=30, show_default=True, help="How far back logs are read.")
@audit_option
@click.option("--json", "as_json", is_flag=True, help="One object on stdout.")
def explain_command(subject: str, days: int, audit: Path, as_json: bool) -> int:
    """Say what is known of a CVE, a process, a unit or a file.

    Fixed where: in which processes and on the disk; since when, by which update and hotpatch, on what evidence. For a
    unit, and a process that is gone: how it ended, and whether that was hotmend's doing.
    """
    from hotmend.agent.report.explain import explain

    if os.geteuid() != 0:
        raise UsageError("only root can look at all processes", "run it as root")
    if "/" in subject:
        subject = os.path.realpath(subject)
    found = explain(subject, _known(audit, datetime.now(UTC) - timedelta(days=days)))
    if as_json:
        print_json(_shape(found))
    else:
        _print(found)
    return ExitCode.DONE if found.known else ExitCode.NOTHING_TO_DO


def _known(audit: Path, since: datetime) -> Known:
    """Look at the machine, and read all records. Those of hotmend itself are read from their beginning."""
    from hotmend.agent.apt.installed import package_of
    from hotmend.agent.census.assessment import take_assessment
    from hotmend.agent.paths import Places
    from hotmend.agent.record.history import History
    from hotmend.agent.report.explain import Known
    from hotmend.agent.report.system_log import crash_events, unit_events
    from hotmend.agent.report.timeline import merge
    from hotmend.linux.process import file_build_id

    places = Places()
    try:
        history = History(places.history).read().events
    except OSError as error:
        raise HotmendError(f"{places.history}: {error.strerror or error}") from error
    records, units, crashes = audit_records(audit), unit_events(since), crash_events(since)
    entries = merge(history, records, units, crashes, datetime.fromtimestamp(0, UTC))
    processes = take_assessment().processes
    return Known(
        processes, history, records, entries, units, crashes, package_of, lambda path: file_build_id(Path(path))
    )


def _place_shape(place: Place) -> PlaceShape:
    image, patch = place.image, place.image.patch
    return PlaceShape(
        place.process.pid,
        place.process.comm,
        place.owner,
        image.path,
        image.state.value,
        image.build_id,
        image.effective_build_id,
        image.disk_path,
        image.disk_build_id,
        place.fixed,
        patch.id if patch else "",
        patch.package if patch else "",
        patch.versions[1] if patch else "",
        place.since,
        place.update,
        place.release,
        place.audit_lines,
        place.withdrawn,
    )


def _shape(found: Explanation) -> ExplainShape:
    return ExplainShape(
        found.subject,
        found.kind.value,
        found.answer,
        found.ours.value if found.ours is not None else "",
        found.why,
        tuple(map(_place_shape, found.places)),
        found.disk,
        tuple(map(entry_shape, found.entries)),
    )


def _print(found: Explanation) -> None:
    click.echo(f"{found.subject}: {found.answer}")
    if found.ours is not None:
        click.echo(f"Was it us: {found.ours}: {found.why}")
    if found.places:
        click.echo()
        rows = (
            (p.process.pid, p.process.comm, p.owner, p.image.path, p.image.state, *_evidence(p)) for p in found.places
        )
        columns = ("#pid", "command", "belongs to", "image", "state", "hotpatch", "brings", "since", "audit lines")
        print_table("", columns, rows)
    for told in dict.fromkeys(place.withdrawn for place in found.places if place.withdrawn):
        click.echo(f"\nWithdrawn by its publisher: {told}")
    if found.disk:
        click.echo("\nOn the disk:")
        for line in found.disk:
            click.echo(f"  {line}")
    if found.entries:
        left = len(found.entries) - _EVENTS_MAX
        click.echo("\nOn record" + (f" (the last {_EVENTS_MAX}; {left} before them with --json)" if left > 0 else ""))
        rows_ = ((f"{e.at.astimezone():%Y-%m-%d %H:%M:%S}", e.source, e.text) for e in found.entries[-_EVENTS_MAX:])
        print_table("", ("when", "from", "what"), rows_)


def _evidence(place: Place) -> tuple[str, str, str, str]:
    patch = place.image.patch
    if patch is None:
        return "-", f"build {place.image.build_id[:12] or 'unknown'}", "-", "-"
    lines = ", ".join(map(str, place.audit_lines)) or "-"
    return patch.id, f"{patch.package} {patch.versions[1]}".strip(), place.since, lines
