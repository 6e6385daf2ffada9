"""`hotmend doctor`: what this machine allows and lacks, each with a remedy."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import click

from hotmend.cli.output import ExitCode, print_json, print_table
from hotmend.cli.shapes import CheckShape
from hotmend.linux.machine_facts import machine_checks
from hotmend.linux.probes import Check, Found, own_checks, probe, specimen_checks
from hotmend.linux.specimen import specimen
from hotmend.live.machine import State
from hotmend.live.registry import patched_processes, process_status
from hotmend.model.errors import HotmendError


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="One object per check.")
def doctor_command(as_json: bool) -> int:
    """Say what this machine allows and lacks, each with a remedy.

    Each thing is tried, on a process of its own that ends with the command. What cannot be found out is never a yes.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hotmend"
    with specimen() as (pid, filtered):
        checks = [*machine_checks(cache, pid), *own_checks(), *specimen_checks(pid, filtered=filtered)]
    checks.append(probe("leftovers", _leftovers, "hotmend repair", needed=False))
    if as_json:
        for check in checks:
            print_json(CheckShape(check.name, check.found.value, check.needed, check.detail, check.remedy))
    else:
        print_table("", ("check", "as wanted", "what was found, and what to do"), map(_row, checks))
    lacking = any(check.needed and check.found is not Found.YES for check in checks)
    return ExitCode.REFUSED if lacking else ExitCode.DONE


def _leftovers() -> str:
    """Look for processes in which a patcher that died left something half done, which does no harm there; or damage."""
    left, damaged = [], []
    for pid in patched_processes():
        with contextlib.suppress(HotmendError):  # gone, or not ours to look at
            states = {status.state for status in process_status(pid)}
            left += [str(pid)] if states & {State.STAGED, State.SWITCHED} else []
            damaged += [str(pid)] if State.DAMAGED in states else []
    if damaged:
        text = f"entries of functions hold what nobody should have written in {', '.join(damaged)}: restart"
        raise HotmendError(text + (f"; half done in {', '.join(left)}" if left else ""))
    if left:
        raise HotmendError(f"a patcher that died left something to finish or undo in {', '.join(left)}")
    return "no process has anything that a patcher left half done"


def _row(check: Check) -> tuple[str, str, str]:
    needed = " (needed)" if check.needed and check.found is not Found.YES else ""
    return check.name, check.found + needed, check.detail + (f"; {check.remedy}" if check.remedy else "")
