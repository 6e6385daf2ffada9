"""What `apply` and `revert` share: options, one report per process, the exit code."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from hotmend.cli.audit_option import audit_option
from hotmend.cli.output import ExitCode, print_json, print_note, print_reasons, print_table
from hotmend.cli.shapes import ChangeShape, ShadowShape, StandInShape, reason_shapes
from hotmend.live.driver import Options, ProcessResult
from hotmend.trial.rehearsal import Rehearsal

NOT_MAPPED = "not-mapped"
"""State, and code of the only reason, of a named process that has nothing to do with the update."""

_DEFAULTS = Options()
_DONE = frozenset({"applied", "reverted", "repaired", "would-apply", "would-revert", "would-repair"})

pause_option = click.option(
    "--max-pause",
    type=click.IntRange(min=1),
    default=_DEFAULTS.max_pause_us,
    show_default=True,
    metavar="MICROSECONDS",
    help="Longest time that the threads may stand still at once.",
)


def change_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say where, for how long, and whether at all."""
    options = (
        click.option(
            "--pid", "pids", type=click.IntRange(min=1), multiple=True, help="Only this process; can be repeated."
        ),
        click.option("--dry-run", is_flag=True, help="Do everything but write."),
        click.option(
            "--deadline",
            type=click.FloatRange(min=0),
            default=_DEFAULTS.deadline_seconds,
            show_default=True,
            metavar="SECONDS",
            help="How long to wait for a safe moment in each process.",
        ),
        pause_option,
        audit_option,
        click.option("--json", "as_json", is_flag=True, help="One object per process."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def report(
    results: Iterable[ProcessResult], *, dry_run: bool, as_json: bool, rehearsals: Sequence[Rehearsal] = ()
) -> ExitCode:
    """Print what happened to each process, and return the exit code."""
    stand_ins = {pid: _stand_in(rehearsal) for rehearsal in rehearsals for pid in rehearsal.pids}
    shapes = [_shape(result, stand_ins.get(result.pid), dry_run=dry_run) for result in results]
    if as_json:
        for shape in shapes:
            print_json(shape)
    elif shapes:
        _print(shapes)
    return exit_code({shape.state for shape in shapes})


def print_nothing(message: str) -> None:
    """Say that there was nothing to do; who is not root may just not see it."""
    if os.geteuid() == 0:
        print_note(message)
    else:
        print_note(f"{message} Processes of other users were not looked at: run as root.")


def exit_code(states: set[str]) -> ExitCode:
    """Return the exit code for processes that ended in `states`: the worst decides."""
    if "gone" in states:
        return ExitCode.FAILED
    if "refused" in states:
        return ExitCode.REFUSED
    return ExitCode.DONE if states & _DONE else ExitCode.NOTHING_TO_DO


def _stand_in(rehearsal: Rehearsal) -> StandInShape:
    return StandInShape(
        rehearsal.passed, rehearsal.processes, rehearsal.redirected, rehearsal.pause_us, rehearsal.seconds
    )


def _shape(result: ProcessResult, stand_in: StandInShape | None, *, dry_run: bool) -> ChangeShape:
    unrelated = result.state == "refused" and {reason.code for reason in result.reasons} == {NOT_MAPPED}
    return ChangeShape(
        pid=result.pid,
        comm=result.comm,
        start_time_ticks=result.start_time_ticks,
        state=NOT_MAPPED if unrelated else result.state,
        threads=result.threads,
        attempts=result.attempts,
        pause_us=result.pause_us,
        redirected=result.redirected,
        shadows=tuple(ShadowShape(s.name, s.hotpatch_id, s.start, s.end - s.start) for s in result.shadows),
        bytes_mapped=result.bytes_mapped,
        dry_run=dry_run,
        stand_in=stand_in,
        reasons=reason_shapes(result.reasons),
    )


def _print(shapes: list[ChangeShape]) -> None:
    print_table(
        "",
        ("#pid", "command", "result", "#functions", "#threads", "#attempts", "#pause µs", "images"),
        (
            (
                s.pid,
                s.comm,
                s.state,
                s.redirected,
                s.threads,
                s.attempts,
                f"{s.pause_us:.0f}",
                ", ".join(shadow.name for shadow in s.shadows) or "-",
            )
            for s in shapes
        ),
    )
    _print_stand_ins(shapes)
    for shape in shapes:
        if shape.reasons:
            click.echo(f"\nprocess {shape.pid} ({shape.comm})")
            print_reasons(shape.reasons)


def _print_stand_ins(shapes: list[ChangeShape]) -> None:
    """Print how the rehearsals went, one line for each server."""
    for stand_in in dict.fromkeys(shape.stand_in for shape in shapes if shape.stand_in is not None):
        pids = ", ".join(str(shape.pid) for shape in shapes if shape.stand_in == stand_in)
        outcome = "passed" if stand_in.passed else "did not pass"
        click.echo(
            f"\nthe stand-in of {pids} {outcome}: {stand_in.processes} of its processes changed, "
            f"{stand_in.redirected} functions, watched for {stand_in.seconds:.1f} s"
        )
