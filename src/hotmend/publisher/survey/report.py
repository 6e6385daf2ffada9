"""From the rows of files and packages to what a survey says of sources and of the whole. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hotmend.model.errors import InputError
from hotmend.model.verdict import Verdict
from hotmend.publisher.survey.results import (
    OUTCOMES,
    AboutRow,
    CodeCountRow,
    CountRow,
    FileRow,
    FunctionsRow,
    OutcomeCountRow,
    PackageResult,
    PackageRow,
    Row,
    SourceRow,
    SummaryRow,
)

_APPLIES = (Verdict.HOTPATCH, Verdict.HOTPATCH_WITH_NOTES)


@dataclass(frozen=True, slots=True)
class Report:
    """All rows of a survey."""

    summary: SummaryRow
    sources: tuple[SourceRow, ...]
    packages: tuple[PackageRow, ...]
    files: tuple[FileRow, ...]


def make_report(results: Sequence[PackageResult], unseen: dict[str, tuple[str, ...]], about: AboutRow) -> Report:
    """Put the results of all packages together.

    Args:
        results: one for each package.
        unseen: source -> packages of it that differ and were not looked into.
        about: how the survey was made.
    """
    packages = tuple(sorted((r.package for r in results), key=lambda p: (p.source, p.package)))
    files = tuple(sorted((f for r in results for f in r.files), key=lambda f: (f.source, f.package, f.path)))
    by_source: dict[str, tuple[list[PackageRow], list[FileRow]]] = {}
    for package in packages:
        by_source.setdefault(package.source, ([], []))[0].append(package)
    for file in files:
        by_source[file.source][1].append(file)
    sources = tuple(
        source_row(name, parts[0], parts[1], unseen.get(name, ())) for name, parts in sorted(by_source.items())
    )
    return Report(_summary(sources, packages, files, unseen, about), sources, packages, files)


def source_row(
    source: str, packages: Sequence[PackageRow], files: Sequence[FileRow], unseen: tuple[str, ...]
) -> SourceRow:
    """Return what the packages of one source add up to."""
    changed = [file for file in files if file.state == "changed"]
    with_code = [file for file in changed if file.has_changed_code]
    known = [package.cves for package in packages if package.cves is not None]
    errors = sum(file.error is not None for file in files) + sum(p.error is not None for p in packages)
    return SourceRow(
        source=source,
        old_versions=tuple(sorted({package.old_version for package in packages})),
        new_versions=tuple(sorted({package.new_version for package in packages})),
        outcome=_outcome(changed, with_code, errors),
        packages=tuple(package.package for package in packages),
        unseen=unseen,
        cves=tuple(dict.fromkeys(cve for cves in known for cve in cves)) if known else None,
        changed_files=len(changed),
        files_with_changed_code=len(with_code),
        files_hotpatched=sum(file.verdict in _APPLIES for file in with_code),
        files_partial=sum(file.partial is not None for file in with_code),
        functions_changed=sum(file.functions_changed for file in with_code),
        functions_taken=sum(file.functions_taken for file in with_code),
        refusals=tuple(code for code, _ in Counter(c for f in changed for c in f.refusals).most_common()),
        errors=errors,
        seconds=round(sum(p.compare_seconds + p.unpack_seconds for p in packages), 3),
    )


def _outcome(changed: Sequence[FileRow], with_code: Sequence[FileRow], errors: int) -> str:
    """Return which of `OUTCOMES` it is. An update is as good as the worst of its files."""
    if errors:
        return "no answer"
    refused = [file for file in changed if file.verdict == Verdict.BASELINE_REQUIRED]
    if refused:
        return "partly" if any(file.functions_taken for file in with_code) else "baseline required"
    if not with_code:
        return "no code changed"
    notes = any(file.verdict == Verdict.HOTPATCH_WITH_NOTES for file in changed)
    return "hotpatch with notes" if notes else "hotpatch"


def _summary(
    sources: Sequence[SourceRow],
    packages: Sequence[PackageRow],
    files: Sequence[FileRow],
    unseen: dict[str, tuple[str, ...]],
    about: AboutRow,
) -> SummaryRow:
    outcomes = Counter(source.outcome for source in sources)
    changed = [file for file in files if file.state == "changed"]
    with_code = [file for file in changed if file.has_changed_code]
    evidence: Counter[str] = Counter()
    for file in changed:
        evidence.update({row.evidence: row.count for row in file.references})
    return SummaryRow(
        about=about,
        sources=len(sources),
        unseen_sources=len(unseen.keys() - {source.source for source in sources}),
        packages=len(packages),
        outcomes=tuple(OutcomeCountRow(outcome, outcomes[outcome]) for outcome in OUTCOMES),
        sources_with_changed_code=sum(source.outcome != "no code changed" for source in sources),
        without_restart=outcomes["hotpatch"] + outcomes["hotpatch with notes"],
        files=len(files),
        changed_files=len(changed),
        files_with_changed_code=len(with_code),
        files_hotpatched=sum(file.verdict in _APPLIES for file in with_code),
        files_partial=sum(file.partial is not None for file in with_code),
        functions_changed=sum(file.functions_changed for file in with_code),
        functions_taken=sum(file.functions_taken for file in with_code),
        files_with_errors=sum(file.error is not None for file in files),
        mapped_files=sum(file.functions is not None and not file.unresolved for file in with_code),
        references=tuple(CountRow(name, count) for name, count in sorted(evidence.items())),
        functions=_functions(changed),
        codes=count_codes(changed),
        peak_rss_bytes=max((package.peak_rss_bytes for package in packages), default=0),
        compare_seconds=round(sum(file.seconds for file in files), 3),
        cpu_seconds=round(sum(package.cpu_seconds for package in packages), 3),
        hotpatch_bytes=sum(file.hotpatch_bytes or 0 for file in files),
    )


def _functions(files: Iterable[FileRow]) -> FunctionsRow:
    counted = [file.functions for file in files if file.functions is not None]
    names = FunctionsRow.__struct_fields__
    return FunctionsRow(*(sum(getattr(counts, name) for counts in counted) for name in names))


def count_codes(files: Iterable[FileRow]) -> tuple[CodeCountRow, ...]:
    """Return the reasons for baselines, those that stop the most files first."""
    stopped = [(code, file) for file in files for code in file.refusals]
    rows = [
        CodeCountRow(code, count, len({file.source for other, file in stopped if other == code}))
        for code, count in Counter(code for code, _ in stopped).items()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.files, row.code)))


def write_lines(report: Report, path: Path) -> None:
    """Write all rows as JSON lines. The file appears as a whole."""
    replace_file(path, lines_of(report))


def lines_of(report: Report) -> bytes:
    """Return all rows as JSON lines: the summary, then sources, packages and files."""
    encoder = msgspec.json.Encoder()
    rows: tuple[Row, ...] = (report.summary, *report.sources, *report.packages, *report.files)
    return b"".join(encoder.encode(row) + b"\n" for row in rows)


def replace_file(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, and nothing between."""
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error


def read_lines(path: Path) -> Report:
    """Read what `write_lines` wrote.

    Raises:
        InputError: there is no such file, or it is something else.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}", "run the survey first") from error
    return report_of(data, str(path))


def report_of(lines: bytes, name: str) -> Report:
    """Return the report that `lines_of` made these lines of.

    Raises:
        InputError: they are something else; `name` says in the message where they came from.
    """
    decoder = msgspec.json.Decoder(Row)
    try:
        rows = [decoder.decode(line) for line in lines.splitlines()]
    except msgspec.DecodeError as error:
        raise InputError(f"{name}: not the results of a survey of this version ({error})") from error
    summaries = [row for row in rows if isinstance(row, SummaryRow)]
    if len(summaries) != 1:
        raise InputError(f"{name}: holds {len(summaries)} summaries instead of one", "run the survey again")
    return Report(
        summaries[0],
        tuple(row for row in rows if isinstance(row, SourceRow)),
        tuple(row for row in rows if isinstance(row, PackageRow)),
        tuple(row for row in rows if isinstance(row, FileRow)),
    )
