"""Every pair at one configuration: C and C++ as Debian builds, Rust with Debian's compiler.

All configurations, and the proof that what is called dangerous does harm, are for `make pairs`.
"""

from __future__ import annotations

import pytest

from pairs.catalog import Class, PairCase, read_pairs
from pairs.matrix import AS_DEBIAN, RUST_AS_DEBIAN, all_configurations, tasks
from pairs.report import result_line
from pairs.sweep import Outcome, Result
from tests.scenarios.catalog import Configuration

pytestmark = [pytest.mark.scenario, pytest.mark.slow]

CHOSEN = [c for c in all_configurations() if c.label in (AS_DEBIAN, RUST_AS_DEBIAN)]


def _marks(pair: PairCase) -> list[pytest.MarkDecorator]:
    """A known gap is shown as such; one that was mended shows as passed, and its mark can go."""
    return [pytest.mark.xfail(reason=f"known gap: {pair.gap}", raises=AssertionError, strict=False)] if pair.gap else []


TASKS = [
    pytest.param((pair, configuration), id=f"{pair.name}-{configuration.label}", marks=_marks(pair))
    for pair, configuration in tasks(read_pairs(), CHOSEN)
]

KNOWN_ALARMS = {
    "argument-added": "an exported function that handed its argument through to another one seems not to have read it",
    "unwind-through-new-code": "Rust: changed code that calls others; the rules do not see all that is dangerous there",
    "code-outside-frames-changed": "Rust: data between functions cannot be told from code",
    "unexplained-data-change": "a table that nobody else refers to lies behind one that is not its user's",
    "contents-may-be-copied": "the address of a text goes to a formatting function, which may keep it",
}
"""Codes for which harmless pairs may be refused at these configurations, and why."""


@pytest.mark.timeout(900, func_only=True)  # compiling and judging all of them comes before the first
@pytest.mark.parametrize("task", TASKS)
def test_pair(task: tuple[PairCase, Configuration], results: dict[tuple[str, str], Result]) -> None:
    result = results[task[0].name, task[1].label]
    assert not result.defect, result_line(result)
    if result.kind is Class.DANGEROUS:
        assert result.outcome in (Outcome.REFUSED, Outcome.NO_CHANGE), result_line(result)
    if result.outcome is Outcome.FALSE_ALARM:
        assert set(result.codes) <= KNOWN_ALARMS.keys(), result_line(result)
