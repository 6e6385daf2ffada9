"""`hotmend repair`: what a patcher that died left behind, finished or undone."""

from __future__ import annotations

from pathlib import Path

import click

from hotmend.cli.change import change_options, print_nothing, report
from hotmend.cli.output import Steps
from hotmend.live.driver import Options, repair


@click.command("repair")
@change_options
def repair_command(
    pids: tuple[int, ...], dry_run: bool, deadline: float, max_pause: int, audit: Path, as_json: bool
) -> int:
    """Finish or undo what a patcher that died left in running processes.

    In every process that has something of hotmend in it, or in those named with --pid. No file is needed.
    """
    with Steps(threaded=False) as steps:
        results = repair(
            list(dict.fromkeys(pids)) or None,
            Options(deadline, max_pause, dry_run, str(audit)),
            lambda done, total: steps("repairing", done, total),
        )
    shown = [result for result in results if pids or result.state != "unchanged"]
    if not shown:
        print_nothing("Nothing was left half done in any process.")
    return report(shown, dry_run=dry_run, as_json=as_json)
