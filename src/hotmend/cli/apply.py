"""`hotmend apply`: running processes to the new code."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from hotmend.cli.change import change_options, print_nothing, report
from hotmend.cli.output import Steps
from hotmend.live.driver import Options, apply
from hotmend.model.errors import UsageError
from hotmend.package.bundle import load
from hotmend.trial.rehearsal import Plan, Rehearsal, apply_rehearsed

_PLAN = Plan()


@click.command("apply")
@click.argument("file", type=click.Path(path_type=Path))
@change_options
@click.option(
    "--consistency",
    type=click.Choice(["strict", "lazy"]),
    default="strict",
    show_default=True,
    help="Wait until no thread is in old code, or, where that is proven, let it go on there.",
)
@click.option("--rehearse", is_flag=True, help="Apply to a stand-in of each server first, and go on if that lives.")
@click.option(
    "--rehearse-seconds",
    type=click.FloatRange(min=0),
    default=_PLAN.seconds,
    show_default=True,
    metavar="SECONDS",
    help="How long the changed stand-in has to live.",
)
@click.option(
    "--rehearse-command",
    default="",
    metavar="COMMAND",
    help="Shell command run beside the stand-in before and after: it must succeed with the same output.",
)
@click.option("--rehearse-expect-change", is_flag=True, help="The output of that command may change.")
@click.option(
    "--rehearse-start", default="", metavar="COMMAND", help="How to start the stand-in, if it cannot be told."
)
def apply_command(
    file: Path,
    pids: tuple[int, ...],
    dry_run: bool,
    deadline: float,
    max_pause: int,
    audit: Path,
    as_json: bool,
    consistency: str,
    rehearse: bool,
    rehearse_seconds: float,
    rehearse_command: str,
    rehearse_expect_change: bool,
    rehearse_start: str,
) -> int:
    """Change running processes to the new code.

    Every process that maps an old build of FILE, a hotpatch file or a bundle, or those named with --pid. All images of
    the update change in one switch per process; everything is checked before anything is written.
    """
    plan = Plan(rehearse_seconds, rehearse_command, rehearse_expect_change, _words(rehearse_start))
    if not rehearse and plan != _PLAN:
        raise UsageError("the --rehearse-... options go with --rehearse")
    hotpatches = load(file)
    options = Options(deadline, max_pause, dry_run, str(audit), lazy=consistency == "lazy")
    wanted = list(dict.fromkeys(pids)) or None
    rehearsals: list[Rehearsal] = []
    with Steps(threaded=False) as steps:
        if rehearse:
            rehearsals, results = apply_rehearsed(hotpatches, wanted, plan, options, steps)
        else:
            results = apply(hotpatches, wanted, options, lambda done, total: steps("applying", done, total))
    if not results:
        names = ", ".join(hotpatch.name for hotpatch in hotpatches)
        print_nothing(f"No process maps the old build of {names}: there is nothing to do.")
    return report(results, dry_run=dry_run, as_json=as_json, rehearsals=rehearsals)


def _words(command: str) -> tuple[str, ...]:
    """Return a command line as a shell would split it."""
    try:
        return tuple(shlex.split(command))
    except ValueError as error:
        raise UsageError(f"--rehearse-start: {error}") from error
