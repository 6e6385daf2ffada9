"""`hotmend watch`: processes that begin to run an old build are changed too."""

from __future__ import annotations

import datetime
import signal
from pathlib import Path

import click

from hotmend.cli.audit_option import audit_option
from hotmend.cli.change import pause_option
from hotmend.cli.output import ExitCode, print_json, print_note, print_reasons
from hotmend.cli.shapes import WatchedShape, reason_shapes
from hotmend.linux.execs import ExecEvents
from hotmend.live.driver import Options, ProcessResult
from hotmend.live.watch import Watch
from hotmend.package.bundle import load

_DEADLINE_SECONDS = 2.0
_INTERVAL_SECONDS = 5.0


@click.command("watch")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=_INTERVAL_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="How often to look at all processes.",
)
@click.option("--no-events", is_flag=True, help="Look at all processes at each interval, and do nothing else.")
@click.option(
    "--deadline",
    type=click.FloatRange(min=0),
    default=_DEADLINE_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for a safe moment at each try.",
)
@pause_option
@audit_option
@click.option("--json", "as_json", is_flag=True, help="One object per change.")
def watch_command(
    file: Path, interval: float, no_events: bool, deadline: float, max_pause: int, audit: Path, as_json: bool
) -> int:
    """Change every process that maps an old build of FILE, now and from now on.

    Until SIGTERM or control-C. New processes are told by the kernel; libraries that a process opens later are found at
    the next look at all processes.
    """
    ended: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: ended.append(received))
    hotpatches = load(file)
    events = None if no_events else _events(interval)
    watch = Watch(
        hotpatches=hotpatches,
        options=Options(deadline, max_pause, audit=str(audit)),
        report=lambda result, waited: _print(result, waited, as_json=as_json),
        interval_seconds=interval,
        events=events,
    )
    names = ", ".join(hotpatch.name for hotpatch in hotpatches)
    try:
        watch.run(lambda: not ended, lambda: print_note(f"Watching for processes that run the old build of {names}."))
    finally:
        if events is not None:
            events.close()
    if watch.lost:
        print_note(f"The kernel's events were lost {watch.lost} times; all processes were looked at instead.")
    return ExitCode.DONE


def _events(interval: float) -> ExecEvents | None:
    """Return the kernel's events, or say what is done without them."""
    try:
        return ExecEvents()
    except OSError as error:
        print_note(
            f"The kernel does not tell of new processes here ({error}): all are looked at every {interval:g} s "
            "instead, and a new one runs the old code for as long."
        )
        return None


def _print(result: ProcessResult, waited: float | None, *, as_json: bool) -> None:
    shape = WatchedShape(
        at=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        pid=result.pid,
        comm=result.comm,
        start_time_ticks=result.start_time_ticks,
        state=result.state,
        redirected=result.redirected,
        pause_us=result.pause_us,
        since_start_ms=None if waited is None else round(waited * 1000, 1),
        reasons=reason_shapes(result.reasons),
    )
    if as_json:
        print_json(shape)
        return
    since = "" if shape.since_start_ms is None else f", {shape.since_start_ms:.0f} ms after its start"
    done = f", {shape.redirected} functions, pause {shape.pause_us:.0f} µs" if shape.state == "applied" else ""
    click.echo(f"{shape.at} process {shape.pid} ({shape.comm}): {shape.state}{done}{since}")
    print_reasons(shape.reasons)
