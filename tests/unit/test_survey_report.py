"""From rows of files to what a survey says; the page and the lines hold the same."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotmend.model.errors import InputError
from hotmend.publisher.survey.packages import Prepared, package_result
from hotmend.publisher.survey.page import render_page, share_text
from hotmend.publisher.survey.report import Report, make_report, read_lines, source_row, write_lines
from hotmend.publisher.survey.results import AboutRow, CountRow, FileRow, FunctionsRow, PackageResult, ReasonRow
from hotmend.publisher.survey.suites import Candidate

_ABOUT = AboutRow("old", "new", (), "hotmend survey", "2026-01-01T00:00:00+00:00", "1", 2, 2 << 30, 900.0, 12.5, 1)
_VERDICTS = ("hotpatch", "hotpatch with notes", "baseline required", "no change")


def _file(
    verdict: str | None, *codes: str, path: str = "usr/bin/tool", source: str = "tool", **more: object
) -> FileRow:
    reasons = tuple(ReasonRow(code, "refusal", f"Because of {code}.", ("main",), 1) for code in codes)
    row = FileRow(source, source, "1", "2", path, path, "changed", 1000, 1100, verdict, reasons=reasons)
    counts = FunctionsRow(90, 0 if verdict == "no change" else 5, 1 if verdict != "no change" else 0, 2, 0, 90, 90)
    return msgspec.structs.replace(row, functions=counts if verdict else None, seconds=1.5, **more)


def _result(files: list[FileRow], source: str = "tool") -> PackageResult:
    candidate = Candidate(source, source, "1", "2", 10, 20)
    return package_result(candidate, Prepared(None, None, 0.5, 0.5, 0.5, 1 << 20), files, "here")


def _report(*results: PackageResult) -> Report:
    return make_report(results, {"tool": ("tool-data",), "scripts": ("scripts",)}, _ABOUT)


@pytest.mark.parametrize(
    ("verdicts", "outcome"),
    [
        (["no change", "no change"], "no code changed"),
        (["hotpatch", "no change"], "hotpatch"),
        (["hotpatch", "hotpatch with notes"], "hotpatch with notes"),
        (["hotpatch", "baseline required"], "partly"),
        (["no change", "baseline required"], "baseline required"),
        (["hotpatch", None], "no answer"),
        ([], "no code changed"),
    ],
)
def test_an_update_is_as_good_as_its_worst_file(verdicts: list[str | None], outcome: str) -> None:
    files = [_file(v, error=None if v else "crashed", path=f"usr/bin/{n}") for n, v in enumerate(verdicts)]
    assert source_row("tool", [_result(files).package], files, ()).outcome == outcome


@given(st.lists(st.sampled_from([*_VERDICTS, None]), max_size=8))
def test_no_restart_means_that_no_file_needs_one(verdicts: list[str | None]) -> None:
    files = [_file(v, error=None if v else "crashed", path=str(n)) for n, v in enumerate(verdicts)]
    row = source_row("tool", [_result(files).package], files, ())
    if row.outcome in ("hotpatch", "hotpatch with notes", "no code changed"):
        assert set(verdicts) <= {"hotpatch", "hotpatch with notes", "no change"}


def test_a_package_that_cannot_be_fetched_is_no_answer() -> None:
    failed = package_result(Candidate("tool", "tool", "1", "2", 1, 1), Prepared(None, "gone", 0, 0, 0, 0), [], "here")
    report = make_report([failed], {}, _ABOUT)
    assert report.sources[0].outcome == "no answer"
    assert report.packages[0].verdict is None
    assert report.summary.without_restart == 0


def test_the_summary_counts_files_reasons_and_references() -> None:
    mapped = (CountRow("votes", 7),)
    unmapped = (CountRow("unresolved", 1), CountRow("votes", 3))
    report = _report(
        _result(
            [
                _file("hotpatch", references=mapped),
                _file("baseline required", "object-grew", path="b", references=unmapped),
            ]
        ),
        _result([_file("baseline required", "object-grew", "short", source="other", references=mapped)], "other"),
    )
    summary = report.summary
    assert [(c.code, c.files, c.sources) for c in summary.codes] == [("object-grew", 2, 2), ("short", 1, 1)]
    assert (summary.changed_files, summary.files_with_changed_code, summary.mapped_files) == (3, 3, 2)
    assert {c.evidence: c.count for c in summary.references} == {"votes": 17, "unresolved": 1}
    assert (summary.functions.reconstructed, summary.functions.reconstructible) == (270, 270)
    assert (summary.sources, summary.unseen_sources) == (2, 1)
    assert {o.outcome: o.sources for o in summary.outcomes if o.sources} == {"partly": 1, "baseline required": 1}


def test_lines_come_back_as_they_were(tmp_path: Path) -> None:
    report = _report(_result([_file("hotpatch"), _file(None, error="crashed", error_kind="crash", path="b")]))
    write_lines(report, tmp_path / "results.jsonl")
    assert read_lines(tmp_path / "results.jsonl") == report


@pytest.mark.parametrize("text", ["", "{}\n", "not json\n"])
def test_other_files_are_not_taken_for_results(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.jsonl").write_text(text)
    with pytest.raises(InputError):
        read_lines(tmp_path / "results.jsonl")


class _Page(HTMLParser):
    """What a browser would fetch or run, and what is read aloud."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_needs_nothing_from_elsewhere_and_charts_have_a_text() -> None:
    evil = _file("baseline required", "object-grew", path="usr/bin/<script>alert(1)</script>")
    page = _Page()
    text = render_page(_report(_result([evil, _file("hotpatch", path="b"), _file(None, error="<b>", path="c")])))
    page.feed(text)
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.tags}
    assert not [a for _, attrs in page.tags for a in attrs if a in ("src", "href") or a.startswith("on")]
    charts = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert len(charts) >= 3
    assert all(attrs.get("role") == "img" and attrs.get("aria-label") for attrs in charts)
    assert "object-grew" in text


def test_an_empty_survey_has_a_page() -> None:
    assert "Nothing differs" in render_page(make_report([], {}, _ABOUT))


def test_a_share_is_never_rounded_up_to_all() -> None:
    assert share_text(9999, 10_000) == "99.9 %"
    assert share_text(10_000, 10_000) == "100.0 %"
    assert share_text(0, 0) == "none"
