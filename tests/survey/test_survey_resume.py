"""However often a survey is killed: every file has one answer, and what was recorded is not done again."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from hotmend.publisher.survey.report import read_lines
from tests.survey.dying import FILES, PACKAGES

_CONCURRENT = 2
"""Packages that are worked on at once, each of which may have one comparison under way."""


@pytest.mark.parametrize("die_at", [4, 7])
def test_deaths_at_every_distance(tmp_path: Path, die_at: int) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "tests.survey.dying", str(tmp_path), str(die_at)]
    root = Path(__file__).parents[2]
    deaths = 0
    while (code := subprocess.run(command, cwd=root, check=False).returncode) != 0:
        assert code == -9
        deaths += 1
        assert deaths <= PACKAGES * FILES, "it does not get on"
    expected = {f"tool{package}/{file}" for package in range(PACKAGES) for file in range(FILES)}
    assert Counter(file.path for file in read_lines(tmp_path / "results.jsonl").files) == dict.fromkeys(expected, 1)
    compared = Counter((tmp_path / "log").read_text().split())
    assert set(compared) == expected
    assert compared.total() <= PACKAGES * FILES + deaths * _CONCURRENT
    assert deaths
