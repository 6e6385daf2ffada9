"""Compiles what the selected tests need, in parallel, before the first of them runs."""

from __future__ import annotations

import pytest

from .builds import CompileError, Pair, compile_all
from .catalog import Case


@pytest.fixture(scope="session")
def pairs(request: pytest.FixtureRequest) -> dict[str, Pair | CompileError]:
    """Both builds of every selected case, by label."""
    cases: dict[str, Case] = {}
    for item in request.session.items:
        callspec = getattr(item, "callspec", None)
        case = callspec.params.get("case") if callspec else None
        if isinstance(case, Case):
            cases[case.label] = case
    return compile_all(cases.values())


@pytest.fixture
def pair(case: Case, pairs: dict[str, Pair | CompileError]) -> Pair:
    """Both builds of the test's case."""
    found = pairs[case.label]
    if isinstance(found, CompileError):
        raise found
    return found
