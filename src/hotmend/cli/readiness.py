"""`hotmend readiness`: what a year of this machine's security updates would have been with hotmend."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hotmend.cli.output import ExitCode, print_json, print_note, print_table
from hotmend.cli.publish_shapes import CodeShape, ReadinessShape, ReplayedShape
from hotmend.model.errors import InputError, UsageError

if TYPE_CHECKING:
    from hotmend.publisher.readiness import Readiness
    from hotmend.publisher.survey.report import Report


@click.command("readiness")
@click.option(
    "--survey",
    "results",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Results of a survey of this machine's release; by default those that come with hotmend.",
)
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/"),
    show_default=True,
    metavar="DIR",
    help="Where the machine's files are.",
)
@click.option("--until", metavar="DAY", help="Last day of the year looked at; today by default.")
@click.option("--json", "as_json", is_flag=True, help="One object on stdout.")
def readiness_command(results: Path | None, root: Path, until: str | None, as_json: bool) -> int:
    """Replay this machine's security updates of the last twelve months against the results of a survey.

    Reads the logs of dpkg and apt and installed changelogs; changes nothing, and asks nobody.
    """
    from hotmend.publisher.history import changes_of, history_read
    from hotmend.publisher.readiness import replay

    report = _report(results, root)
    history = history_read(root)
    readiness = replay(history, changes_of(history.installed, root), report, _day(until))
    if as_json:
        print_json(_shape(readiness, report))
    else:
        _print(_shape(readiness, report))
    return ExitCode.DONE if readiness.updates else ExitCode.NOTHING_TO_DO


def _day(text: str | None) -> date:
    try:
        return date.fromisoformat(text) if text else datetime.now(UTC).date()
    except ValueError:
        raise UsageError(f"--until: not a day: {text}", "for example 2026-10-01") from None


def _report(results: Path | None, root: Path) -> Report:
    """Return the results asked for, or those that come with hotmend for this machine's release."""
    from hotmend.publisher.survey.compact import read_compact
    from hotmend.publisher.survey.report import read_lines
    from hotmend.publisher.survey.suites import codename
    from hotmend.reference.shipped import SURVEY, shipped_survey

    if results is not None:
        if results.suffix != ".zst":
            return read_lines(results)
        try:
            return read_compact(results.read_bytes(), str(results))
        except OSError as error:
            raise InputError(f"{results}: {error.strerror or error}", "run the survey first") from error
    name = codename(root)
    data = shipped_survey(name)
    if data is None:
        raise UsageError(
            f"no survey of {name} comes with hotmend",
            "run `hotmend survey` on a machine of that release, and give --survey",
        )
    return read_compact(data, SURVEY.format(name))


def _shape(readiness: Readiness, report: Report) -> ReadinessShape:
    about = report.summary.about
    return ReadinessShape(
        f"{about.old_suite} to {about.new_suite}, {about.finished[:10]}",
        readiness.since,
        readiness.until,
        readiness.complete,
        tuple(
            ReplayedShape(
                update.installed.day,
                update.installed.package,
                update.installed.old_version,
                update.installed.new_version,
                update.replay.value,
                update.exact,
                update.like.value if update.like is not None else None,
                update.security,
                update.codes,
                update.cves,
            )
            for update in readiness.updates
        ),
        {replay.value: count for replay, count in readiness.counts.items()},
        readiness.restart_days,
        readiness.restart_days_left,
        readiness.restart_days_left_if_alike,
        readiness.restart_days_saved_a_year,
        readiness.reboot_days,
        tuple(CodeShape(code, count) for code, count in readiness.codes),
    )


def _print(shape: ReadinessShape) -> None:
    rows = [(u.day.isoformat(), u.package, u.new_version, _told(u), ", ".join(u.codes)) for u in shape.updates]
    print_note(f"Compared with the survey {shape.survey}.")
    print_table(f"{shape.since} to {shape.until}", ("day", "package", "version", "with hotmend", "in the way"), rows)
    told = ", ".join(f"{count} {replay}" for replay, count in shape.counts.items() if count)
    click.echo(f"\n{len(shape.updates)} security updates: {told or 'none'}")
    click.echo(
        f"Days with restarts of services: {shape.restart_days} without hotmend, {shape.restart_days_left} with it; "
        f"{shape.restart_days_saved_a_year:g} a year saved"
    )
    click.echo(f"Days on which a kernel came in, which takes a reboot with or without hotmend: {shape.reboot_days}")
    if not shape.complete:
        print_note(f"The logs go back to {shape.since} only.")
    if shape.counts.get("unknown"):
        print_note("Unknown are builds that the survey has not compared; they count as restarts that are left.")
        alike = shape.restart_days_left_if_alike
        print_note(
            f"Had each been what its package's update in the survey is, days left would be {alike}: an estimate."
        )


def _told(update: ReplayedShape) -> str:
    if update.like is not None:
        return f"{update.replay}; the package's update in the survey: {update.like}"
    another = "" if update.exact or update.replay == "unknown" else " (another old build)"
    return update.replay + another
