"""Judges the selected pairs once, with all processors, before the first of their tests."""

from __future__ import annotations

import os

import pytest

from pairs.catalog import PairCase
from pairs.sweep import Proofs, Result, sweep
from tests.scenarios.catalog import Configuration


@pytest.fixture(scope="session")
def results(request: pytest.FixtureRequest) -> dict[tuple[str, str], Result]:
    """The result of every selected pair, by its name and its configuration's label."""
    work: list[tuple[PairCase, Configuration]] = []
    for item in request.session.items:
        callspec = getattr(item, "callspec", None)
        task = callspec.params.get("task") if callspec else None
        if task:
            work.append(task)
    # The harm of the dangerous is shown by `make pairs`; here it is the verdict that counts.
    found = sweep(work, Proofs(live=True, harm=False), os.cpu_count() or 1)
    return {(result.pair, result.configuration): result for result in found}
