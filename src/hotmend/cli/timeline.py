"""`hotmend timeline`: what happened on this machine, from its history, its audit record, units and the kernel."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hotmend.cli.audit_option import audit_option
from hotmend.cli.output import ExitCode, print_json, print_note, print_table
from hotmend.cli.report_shapes import entry_shape
from hotmend.model.errors import HotmendError

if TYPE_CHECKING:
    from hotmend.live.chain import AuditRecord


@click.command("timeline")
@click.option("--since", default="24h", show_default=True, metavar="WHEN", help="2h, 30m, 3d, or 2026-11-29T08:00.")
@click.option("--unit", metavar="UNIT", help="Only what is about this unit.")
@click.option("--pid", type=click.IntRange(min=1), help="Only what is about this process.")
@audit_option
@click.option("--json", "as_json", is_flag=True, help="One object per entry.")
def timeline_command(since: str, unit: str | None, pid: int | None, audit: Path, as_json: bool) -> int:
    """Show what happened: runs, changes, restarts, starts and failures of units, crashes; oldest first.

    Merged from the agent's history, the audit record of every change to a process, the service manager's journal and
    the kernel's log. Times are the machine's own, in --json UTC.
    """
    from hotmend.agent.paths import Places
    from hotmend.agent.record.history import History
    from hotmend.agent.report.system_log import crash_events, unit_events
    from hotmend.agent.report.timeline import merge, since_when

    first = since_when(since, datetime.now(UTC))
    places = Places()
    try:
        read = History(places.history).read()
    except OSError as error:
        raise HotmendError(f"{places.history}: {error.strerror or error}") from error
    records = audit_records(audit)
    entries = merge(read.events, records, unit_events(first), crash_events(first), first)
    entries = tuple(e for e in entries if (unit is None or unit in e.units) and (pid is None or pid in e.pids))
    for number in read.unreadable:
        print_note(f"line {number} of {places.history} cannot be read")
    if as_json:
        for entry in entries:
            print_json(entry_shape(entry))
    elif entries:
        rows = [(f"{e.at.astimezone():%Y-%m-%d %H:%M:%S}", e.source, e.text) for e in entries]
        print_table("", ("when", "from", "what"), rows)
    else:
        print_note("Nothing is on record.")
    return ExitCode.DONE if entries else ExitCode.NOTHING_TO_DO


def audit_records(audit: Path) -> tuple[AuditRecord, ...]:
    """Return the records of the audit file; none where nothing was changed yet."""
    from hotmend.live.audit import read_audit

    if not audit.exists():
        return ()
    checked = read_audit(audit)
    if checked.error:
        print_note(f"{audit}: BROKEN: {checked.error}; what stands behind it is left out")
    return checked.records
