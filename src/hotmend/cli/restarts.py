"""`hotmend restarts`: which restarts are still due and why, knowing what is fixed in memory; and doing them."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from hotmend.cli.output import ExitCode, print_json, print_note, print_table
from hotmend.cli.report_shapes import NeedShape, RestartsShape, ended_shape, need_shape
from hotmend.model.errors import UsageError

if TYPE_CHECKING:
    from hotmend.agent.census.restarts import Ended, Plan


@click.command("restarts")
@click.option("--do", "wanted", is_flag=True, help="Restart the units, one after another, until one fails.")
@click.option("--json", "as_json", is_flag=True, help="One object on stdout.")
def restarts_command(wanted: bool, as_json: bool) -> int:
    """Show which restarts are still due, and why: what a hotpatch has fixed in memory needs none.

    Units come in the order in which they are restarted: each behind what it is started after or needs. What ends
    sessions, is never touched or would bring old code back is named with what it takes instead.
    """
    from hotmend.agent.census.assessment import take_assessment
    from hotmend.agent.census.never import Never
    from hotmend.agent.census.restarts import do_restarts, means_of, plan_of
    from hotmend.agent.configuration import read_configuration
    from hotmend.agent.paths import Places
    from hotmend.agent.record.history import History
    from hotmend.agent.record.hold import read_hold

    places = Places()
    if os.geteuid() != 0:
        raise UsageError("only root can look at all processes", "run it as root")
    never = Never(*read_configuration(places.configuration).never)
    assessment = take_assessment()
    plan = plan_of(assessment, never)
    done: tuple[Ended, ...] = ()
    hold = read_hold(places.hold, datetime.now(UTC)) if wanted else None
    if wanted and hold is None:
        done = do_restarts(plan, means_of(History(places.history)))
        assessment = take_assessment()
        plan = plan_of(assessment, never)
    shape = RestartsShape(
        tuple(map(need_shape, plan.restarts)),
        tuple(map(need_shape, plan.others)),
        assessment.reboot,
        tuple(map(ended_shape, done)),
    )
    if as_json:
        print_json(shape)
    else:
        _print(shape)
    if hold is not None:
        print_note(f"Nothing was restarted: {hold}")
        return ExitCode.REFUSED
    return _code(plan, done, assessment.reboot, wanted=wanted)


def _code(plan: Plan, done: tuple[Ended, ...], reboot: tuple[str, ...], *, wanted: bool) -> ExitCode:
    left = bool(plan.restarts or plan.others or reboot)
    if any(not ended.good for ended in done):
        return ExitCode.FAILED
    if not wanted:
        return ExitCode.DONE if left else ExitCode.NOTHING_TO_DO
    if left:
        return ExitCode.REFUSED
    return ExitCode.DONE if done else ExitCode.NOTHING_TO_DO


def _print(shape: RestartsShape) -> None:
    for ended in shape.done:
        click.echo(f"{ended.unit}: {ended.outcome}" + (f": {ended.detail}" if ended.detail else ""))
    needs = [*shape.restarts, *shape.others]
    if needs:
        rows = [(n.name, n.how, n.reason or "-", len(n.processes), _why(n)) for n in needs]
        print_table("", ("what", "takes", "because", "#processes", "old code"), rows)
    for reason in shape.reboot:
        click.echo(f"Reboot due: {reason}")
    if not needs and not shape.reboot:
        print_note("No restart is due.")


def _why(need: NeedShape) -> str:
    """Return which images are old, and how."""
    found = {
        f"{image.path} ({'a part is left for the baseline' if image.part else image.state})"
        for process in need.processes
        for image in process.images
    }
    return ", ".join(sorted(found))
