"""`hotmend apply`: running processes to the new code."""

from __future__ import annotations

from pathlib import Path

import click

from hotmend.cli.change import change_options, print_nothing, report
from hotmend.cli.output import Steps
from hotmend.live.driver import Options, apply
from hotmend.package.bundle import load


@click.command("apply")
@click.argument("file", type=click.Path(path_type=Path))
@change_options
def apply_command(
    file: Path, pids: tuple[int, ...], dry_run: bool, deadline: float, max_pause: int, as_json: bool
) -> int:
    """Change running processes to the new code.

    Every process that maps an old build of FILE, a hotpatch file or a bundle, or those named with --pid. All images of
    the update change in one switch per process; everything is checked before anything is written.
    """
    hotpatches = load(file)
    with Steps(threaded=False) as steps:
        results = apply(
            hotpatches,
            list(dict.fromkeys(pids)) or None,
            Options(deadline, max_pause, dry_run),
            lambda done, total: steps("applying", done, total),
        )
    if not results:
        names = ", ".join(hotpatch.name for hotpatch in hotpatches)
        print_nothing(f"No process maps the old build of {names}: there is nothing to do.")
    return report(results, dry_run=dry_run, as_json=as_json)
