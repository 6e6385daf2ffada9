"""Every scenario, compiled by gcc and clang at -O0 and -O2, by `make long` at -O3 too, patched while it runs.

A scenario is a folder with the two builds' sources and `scenario.toml` (its keys: `catalog.Scenario`): the old
answer -> apply -> the new answer, never the old one again -> revert -> the old answer, all in one process that in
the end leaves with status 0. What must be refused has to be refused, for one of the reasons the scenario names.

A `gap` in a `[[where]]` marks what the engine is known to do wrong, and which rule it lacks. Such a case has to
fail: when it passes, the suite fails until the mark is taken away.
"""

from __future__ import annotations

import pytest

from .builds import Pair
from .catalog import Case, all_cases
from .engine import HotmendEngine
from .play import check_native, gap_marks, play

pytestmark = pytest.mark.scenario

CASES = all_cases()


def _length_marks(case: Case) -> list[pytest.MarkDecorator]:
    """To compile and play all of one level takes minutes, and -O3 shows least that the others do not."""
    return [pytest.mark.long] if case.configuration.level == "-O3" else []


BY_LABEL = [pytest.param(case, id=case.label, marks=_length_marks(case)) for case in CASES]
PLAYED = [pytest.param(case, id=case.label, marks=[*gap_marks(case), *_length_marks(case)]) for case in CASES]


@pytest.mark.parametrize("case", BY_LABEL)
def test_builds_answer_as_declared(case: Case, pair: Pair) -> None:
    check_native(case, pair)


@pytest.mark.timeout(600, func_only=True)  # compiling all of them first takes longer
@pytest.mark.parametrize("case", PLAYED)
def test_scenario(case: Case, pair: Pair) -> None:
    play(case, pair, HotmendEngine())
