"""`hotmend status`: what is applied where, read from the processes' memory alone."""

from __future__ import annotations

import contextlib
import time

import click

from hotmend.agent.paths import Places
from hotmend.agent.record.history import History
from hotmend.agent.record.withdrawn import last_withdrawn, sentences
from hotmend.cli.output import ExitCode, Steps, print_json, print_note, print_table
from hotmend.cli.shapes import AppliedFunctionShape, AppliedShape, StatusShape
from hotmend.linux.procfs import read_stat
from hotmend.live.registry import AppliedHotpatch, patched_processes, process_status
from hotmend.model.errors import ProcessGoneError


@click.command("status")
@click.option("--pid", "pids", type=click.IntRange(min=1), multiple=True, help="Only this process; can be repeated.")
@click.option("--json", "as_json", is_flag=True, help="One object per process.")
def status_command(pids: tuple[int, ...], as_json: bool) -> int:
    """Show what is applied in running processes.

    Read from their memory: there is no database. A hotpatch that was taken back is still there, inactive; its
    memory is kept and used again. The agent's history only adds which of them their publisher has withdrawn.
    """
    withdrawn = _withdrawn()
    with Steps(threaded=False) as steps:
        steps("looking at processes", 0, 1)
        found = list(dict.fromkeys(pids)) or patched_processes()
        shapes = []
        for number, pid in enumerate(found):
            steps("reading memory", number, len(found))
            try:
                shapes.append(_shape(pid, withdrawn))
            except ProcessGoneError:
                # Named by the user it is an error; found by us it has merely ended meanwhile.
                if pids:
                    raise
    if as_json:
        for shape in shapes:
            print_json(shape)
    else:
        _print(shapes)
    return ExitCode.DONE


def _withdrawn() -> dict[str, str]:
    """Return what to tell of withdrawn hotpatches, by id; nothing where this user may not read the history."""
    with contextlib.suppress(OSError):
        return sentences(last_withdrawn(History(Places().history).read().events))
    return {}


def _shape(pid: int, withdrawn: dict[str, str]) -> StatusShape:
    stat = read_stat(pid)
    hotpatches = tuple(_applied_shape(applied, withdrawn) for applied in process_status(pid))
    return StatusShape(pid, stat.comm, stat.start_time_ticks, hotpatches)


def _applied_shape(applied: AppliedHotpatch, withdrawn: dict[str, str]) -> AppliedShape:
    return AppliedShape(
        id=applied.id,
        name=applied.name,
        path=applied.path,
        package=applied.package,
        state=applied.state.value,
        active=applied.active,
        old_build_id=applied.old_build_id,
        new_build_id=applied.new_build_id,
        old_version=applied.versions[0],
        new_version=applied.versions[1],
        cves=applied.cves,
        redirections=tuple(AppliedFunctionShape(f.name, f.old, f.new, f.live) for f in applied.functions),
        applied_at=applied.applied_at,
        bytes_mapped=applied.bytes_mapped,
        replaced_by=applied.replaced_by,
        part=applied.part,
        withdrawn=withdrawn.get(applied.id, "") if applied.active else "",
    )


def _print(shapes: list[StatusShape]) -> None:
    _refusal()
    rows = [
        (s.pid, s.comm, h.name, _code_text(h), len(h.redirections), h.id, _versions_text(h), _time_text(h.applied_at))
        for s in shapes
        for h in s.hotpatches
    ]
    if not rows:
        print_note("Nothing is applied.")
        return
    print_table("", ("#pid", "command", "image", "code", "#functions", "hotpatch", "versions", "since"), rows)
    for told in dict.fromkeys(h.withdrawn for s in shapes for h in s.hotpatches if h.withdrawn):
        print_note(f"withdrawn by its publisher: {told}")


def _refusal() -> None:
    """Say that this machine's server does not speak with it, where that is so."""
    if not Places().server.exists():
        return
    from hotmend.agent.uplink.carrying import refused

    if told := refused(Places()):
        print_note(f"{told}. This machine goes on with the last policy that its server signed.")


def _code_text(applied: AppliedShape) -> str:
    """Say which code runs; the state tells how far the protocol has come."""
    if applied.replaced_by:
        return f"replaced by {applied.replaced_by}"
    return f"{'new' if applied.active else 'old'} ({applied.state})"


def _versions_text(applied: AppliedShape) -> str:
    if applied.new_version:
        return f"{applied.old_version} -> {applied.new_version}"
    return f"{applied.old_build_id[:12]} -> {applied.new_build_id[:12]}"


def _time_text(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else ""
