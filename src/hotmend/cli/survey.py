"""`hotmend survey`: what the updates of a whole distribution amount to."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from hotmend.cli.output import ExitCode, Steps, print_json, print_note, print_table, share_text, size_text
from hotmend.model.errors import UsageError

if TYPE_CHECKING:
    from hotmend.publisher.survey.report import Report

_DEFAULT_OUTPUT = "survey"
_MEMORY_MIB = 2048
_FILE_SECONDS = 900.0
_CACHE_BYTES = 4 << 30


@click.command("survey")
@click.argument("old_suite", required=False)
@click.argument("new_suite", required=False)
@click.option("--only", multiple=True, metavar="SOURCE", help="Look at this source package only; can be repeated.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=_DEFAULT_OUTPUT,
    show_default=True,
    metavar="DIR",
    help="Where results, page and queue are.",
)
@click.option("--workers", type=click.IntRange(1, 1024), metavar="N", help="Files at once; default: processors.")
@click.option("--database", metavar="URL", default="", envvar="HOTMEND_DATABASE", help="PostgreSQL for many machines.")
@click.option("--worker", is_flag=True, help="Take work from the queue of another machine.")
@click.option("--wait", type=click.FloatRange(0), default=30.0, metavar="SECONDS", help="How long to wait for work.")
@click.option(
    "--memory", type=click.IntRange(64), default=_MEMORY_MIB, show_default=True, metavar="MIB", help="For one file."
)
@click.option(
    "--file-seconds", type=click.FloatRange(1), default=_FILE_SECONDS, show_default=True, help="Time for one file."
)
@click.option("--cache-bytes", type=click.IntRange(0), default=_CACHE_BYTES, metavar="N", help="Most to fetch ahead.")
@click.option("--keep-debs", is_flag=True, help="Keep what was fetched in hotmend's cache.")
@click.option("--partial/--no-partial", default=True, show_default=True, help="Try a part where the whole is refused.")
@click.option("--fresh", is_flag=True, help="Forget what an earlier run has found.")
@click.option("--page-only", is_flag=True, help="Make the page again from the results.")
@click.option(
    "--compact",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the results without their evidence as well: for `readiness` on other machines.",
)
@click.option("--json", "as_json", is_flag=True, help="One object on stdout.")
def survey_command(
    old_suite: str | None,
    new_suite: str | None,
    only: tuple[str, ...],
    output: Path,
    workers: int | None,
    database: str,
    worker: bool,
    wait: float,
    memory: int,
    file_seconds: float,
    cache_bytes: int,
    keep_debs: bool,
    partial: bool,
    fresh: bool,
    page_only: bool,
    compact: Path | None,
    as_json: bool,
) -> int:
    """Compare every package that differs between two suites, and write what came out.

    By default the suites are the release of this machine and its security suite. Run again, it goes on where it
    stopped.
    """
    # The queue brings a database library with it, the comparison numpy: the other commands start without.
    from hotmend.publisher.survey import run
    from hotmend.publisher.survey.compact import write_compact
    from hotmend.publisher.survey.suites import default_suites

    if (old_suite is None) != (new_suite is None):
        raise UsageError("one suite is missing", "give OLD_SUITE and NEW_SUITE, or neither")
    if page_only:
        report = run.page_only(output)
        if compact is not None:
            write_compact(report, compact)
        _print(report, output, as_json=as_json)
        return ExitCode.DONE
    settings = run.Settings(
        output=output,
        database=database,
        workers=workers or os.cpu_count() or 1,
        memory_bytes=memory << 20,
        file_seconds=file_seconds,
        cache_bytes=cache_bytes,
        keep_debs=keep_debs,
        partial=partial,
        wait_seconds=wait,
        command=shlex.join(["hotmend", *sys.argv[1:]]),
    )
    with Steps(threaded=True) as steps:
        if worker:
            done = run.run_worker(settings, steps)
            print_note(f"{done} packages were looked at here.")
            return ExitCode.DONE if done else ExitCode.NOTHING_TO_DO
        suites = (old_suite, new_suite) if old_suite and new_suite else default_suites()
        report = run.run_survey(suites, frozenset(only), settings, steps, fresh=fresh)
    if compact is not None:
        write_compact(report, compact)
    _print(report, output, as_json=as_json)
    return ExitCode.DONE if report.sources else ExitCode.NOTHING_TO_DO


def _print(report: Report, output: Path, *, as_json: bool) -> None:
    if as_json:
        print_json(report.summary)
        return
    summary = report.summary
    rows = [(row.outcome, row.sources) for row in summary.outcomes]
    print_table(f"{summary.about.old_suite} -> {summary.about.new_suite}", ("outcome", "#updates"), rows)
    share = share_text(summary.without_restart, summary.sources_with_changed_code)
    click.echo(
        f"\n{summary.without_restart} of {summary.sources_with_changed_code} updates with changed code need no restart"
        + (f" ({share})" if share else "")
    )
    mapped = share_text(summary.mapped_files, summary.files_with_changed_code)
    proof = summary.functions
    click.echo(
        f"{summary.changed_files} changed ELF files, {summary.files_with_changed_code} with changed code, "
        f"{summary.files_with_errors} without an answer; every reference mapped in {mapped or 'none'}; "
        f"{proof.reconstructed} of {proof.reconstructible} unchanged functions reconstructed; "
        f"at most {size_text(summary.peak_rss_bytes)} of memory for one file"
    )
    print_table(
        "", ("reason for a baseline", "#files", "#updates"), [msgspec.structs.astuple(c) for c in summary.codes]
    )
    click.echo(f"\nWrote {output / 'results.jsonl'} and {output / 'survey.html'}")
