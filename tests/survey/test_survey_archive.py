"""Three small updates of the distribution itself, from apt's lists to the rows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hotmend.publisher.survey.report import read_lines
from hotmend.publisher.survey.suites import compare_suites, default_suites

pytestmark = pytest.mark.archive

_SOURCES_MAX = 3
_PACKAGE_BYTES_MAX = 400_000


def _small_sources() -> list[str]:
    """Return sources with few and small packages among those that differ today."""
    sizes: dict[str, int] = {}
    for candidate in compare_suites(*default_suites()).candidates:
        sizes[candidate.source] = sizes.get(candidate.source, 0) + candidate.old_bytes + candidate.new_bytes
    small = sorted(source for source, size in sizes.items() if 50_000 < size < _PACKAGE_BYTES_MAX)
    return small[:_SOURCES_MAX]


@pytest.mark.long
def test_small_updates_of_the_distribution_get_an_answer(tmp_path: Path) -> None:
    sources = _small_sources()
    assert sources, "the suites of this machine do not differ in anything small"
    only = [word for source in sources for word in ("--only", source)]
    command = [sys.executable, "-W", "ignore", "-m", "hotmend", "survey", "--output", str(tmp_path / "out"), *only]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    report = read_lines(tmp_path / "out" / "results.jsonl")
    assert [source.source for source in report.sources] == sources
    assert [package.error for package in report.packages if package.error] == []
    assert [(file.path, file.error) for file in report.files if file.error] == []
    assert report.summary.changed_files > 0
    for file in report.files:
        assert (file.verdict is not None) == (file.state == "changed"), file.path
        if file.functions and "reconstruction-failed" not in file.refusals:
            assert file.functions.reconstructed == file.functions.reconstructible, file.path
