"""The page of a survey: one HTML file with charts, without scripts and without anything from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from hotmend.publisher.survey.report import Report
from hotmend.publisher.survey.results import FileRow, SummaryRow

RANKED_MAX: Final = 15
"""Rows of the lists of the slowest and of the largest files."""
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a chart: what it is of, how long, what stands behind it, and the class that gives its colour."""

    label: str
    value: float
    text: str
    colour: str = "plain"


@dataclass(frozen=True, slots=True)
class Figure:
    """One of the headline figures: the number, what it is of, and what it is measured against."""

    value: str
    label: str
    detail: str = ""


def render_page(report: Report) -> str:
    """Return the page as HTML."""
    environment = Environment(
        loader=PackageLoader("hotmend.publisher.survey", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"mib": mib_text, "seconds": seconds_text, "number": number_text}
    changed = [file for file in report.files if file.state == "changed"]
    return environment.get_template("page.html.j2").render(
        report=report,
        summary=report.summary,
        about=report.summary.about,
        figures=_figures(report),
        outcomes=_outcome_bars(report.summary),
        codes=[Bar(c.code, c.files, number_text(c.files), "refused") for c in report.summary.codes],
        slowest=_ranked(changed, lambda file: file.seconds, seconds_text),
        largest=_ranked(changed, lambda file: file.peak_rss_bytes, mib_text),
        failed=[file for file in report.files if file.error is not None],
        unreadable=[package for package in report.packages if package.error is not None],
    )


def _figures(report: Report) -> list[Figure]:
    summary = report.summary
    counts = {row.outcome: row.sources for row in summary.outcomes}
    functions = summary.functions
    references = sum(row.count for row in summary.references)
    unresolved = sum(row.count for row in summary.references if row.evidence == "unresolved")
    return [
        Figure(
            share_text(summary.without_restart, summary.sources_with_changed_code),
            "of the updates with changed code need no restart",
            f"{summary.without_restart} of {summary.sources_with_changed_code}; "
            f"{counts['hotpatch with notes']} of them with notes to read",
        ),
        Figure(number_text(counts["partly"]), "updates need a baseline for a part of their code"),
        Figure(number_text(counts["baseline required"]), "updates need a baseline as a whole"),
        Figure(
            share_text(summary.files_hotpatched, summary.files_with_changed_code),
            "of the files with changed code can be hot-patched",
            f"{number_text(summary.files_hotpatched)} of {number_text(summary.files_with_changed_code)}; "
            f"a part of {number_text(summary.files_partial)} more",
        ),
        Figure(
            share_text(summary.functions_taken, summary.functions_changed),
            "of the changed functions can be replaced without a restart",
            f"{number_text(summary.functions_taken)} of {number_text(summary.functions_changed)}",
        ),
        Figure(
            share_text(summary.mapped_files, summary.files_with_changed_code),
            "of the files with changed code have every reference mapped",
            f"{number_text(unresolved)} of {number_text(references)} references are not",
        ),
        Figure(
            share_text(functions.reconstructed, functions.reconstructible, digits=3),
            "of the unchanged functions reconstructed byte for byte",
            f"{number_text(functions.reconstructed)} of {number_text(functions.reconstructible)}",
        ),
        Figure(
            number_text(summary.files_with_errors),
            "files without an answer",
            "a crash, a time-out or too little memory",
        ),
        Figure(
            mib_text(summary.peak_rss_bytes),
            "of memory at most for one file",
            f"the limit was {mib_text(summary.about.memory_bytes)}",
        ),
    ]


def _outcome_bars(summary: SummaryRow) -> list[Bar]:
    return [
        Bar(row.outcome, row.sources, share_text(row.sources, summary.sources), row.outcome.replace(" ", "-"))
        for row in summary.outcomes
        if row.sources
    ]


def _ranked(
    files: Iterable[FileRow], value: Callable[[FileRow], float], text: Callable[[float], str]
) -> list[tuple[FileRow, Bar]]:
    rows = sorted(files, key=lambda file: (-value(file), file.package, file.path))[:RANKED_MAX]
    return [(file, Bar(file.path.rsplit("/", 1)[-1], value(file), text(value(file)))) for file in rows if value(file)]


def share_text(part: int, whole: int, digits: int = 1) -> str:
    """Return a share in per cent, rounded down, so that 100 % means all."""
    if not whole:
        return "none"
    scale: int = 10**digits
    return f"{100 * scale * part // whole / scale:.{digits}f} %"


def number_text(value: float) -> str:
    """Return a number with thin spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def mib_text(value: float) -> str:
    """Return a number of bytes in MiB."""
    return f"{number_text(value / _MIB)} MiB"


def seconds_text(value: float) -> str:
    """Return a time as a person reads it."""
    if value < 10:
        return f"{value:.1f} s"
    return f"{value:.0f} s" if value < 120 else f"{value // 60:.0f} min {value % 60:.0f} s"
