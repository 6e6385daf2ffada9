"""`hotmend revert`: the old code again, or the hotpatch that was replaced."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hotmend.cli.change import change_options, print_nothing, report
from hotmend.cli.output import Steps, print_note
from hotmend.live.driver import Options, ProcessResult, revert
from hotmend.live.gate import hotpatch_id
from hotmend.model.errors import HotmendError, UsageError
from hotmend.package.bundle import load

if TYPE_CHECKING:
    from hotmend.agent.by_hand import Holders


@click.command("revert")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--all", "everything", is_flag=True, help="Everything that is applied, whatever file it came from.")
@click.option("--baseline", is_flag=True, help="Down to the old code: also what it took over from.")
@change_options
def revert_command(
    file: Path | None,
    everything: bool,
    baseline: bool,
    pids: tuple[int, ...],
    dry_run: bool,
    deadline: float,
    max_pause: int,
    audit: Path,
    as_json: bool,
) -> int:
    """Bring back what was before, under the same safety rule: the old code, or an earlier hotpatch.

    What FILE holds, or --all; in every process that has it, or in those named with --pid. A hotpatch that took over
    from an earlier one gives way to that one, and with --baseline or --all to the old code. Needs no server, network or
    database. An agent on this machine does not bring it again: hotmend agent quarantine.
    """
    if (file is None) != everything:
        raise UsageError("say what to take back: either FILE or --all")
    ids = None if file is None else [hotpatch_id(hotpatch) for hotpatch in load(file)]
    asked = list(dict.fromkeys(pids)) or None
    kept = {} if dry_run else _keep_away(ids, asked, below=baseline)
    with Steps(threaded=False) as steps:
        results = revert(
            ids,
            asked,
            Options(deadline, max_pause, dry_run, str(audit), baseline),
            lambda done, total: steps("reverting", done, total),
        )
    # Without --pid every process that has any hotpatch was asked; those without this one are of no interest.
    shown = [result for result in results if pids or result.state != "unchanged"]
    if not dry_run:
        _note(results, kept)
    if not shown:
        print_nothing("It is not applied in any process: there is nothing to do.")
    return report(shown, dry_run=dry_run, as_json=as_json)


def _keep_away(ids: list[str] | None, pids: list[int] | None, *, below: bool) -> Holders:
    """Tell the agent of this machine, if there is one, not to bring it again. Taking back does not depend on it."""
    from hotmend.agent.by_hand import keep_away
    from hotmend.agent.paths import Places

    try:
        return keep_away(Places(), ids, pids, below=below)
    except (OSError, HotmendError):
        return {}  # it is tried again, and told, afterwards: code that has to go does not wait for room on the disk


def _note(results: list[ProcessResult], kept: Holders) -> None:
    from hotmend.agent.by_hand import note_reverted
    from hotmend.agent.paths import Places

    try:
        note_reverted(Places(), results, kept=kept)
    except (OSError, HotmendError) as error:
        print_note(f"the agent was not told ({error}); keep it from applying it again: hotmend hold")
