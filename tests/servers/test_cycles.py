"""Apply and revert again and again under load, in short; `python -m bench --only cycles` does it for long."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.cycles import SUBJECTS, cycles_run, hotpatch_make
from tests.servers.packages import pair_find

pytestmark = [pytest.mark.servers, pytest.mark.archive, pytest.mark.live, pytest.mark.slow]
CYCLES, SECONDS_MAX = 12, 400.0


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.long] if n == "postgres" else []) for n in SUBJECTS]
)
def test_nothing_fails_and_nothing_grows(name: str, served: Path, run_folder: Path) -> None:
    subject = SUBJECTS[name]
    file = hotpatch_make(subject, pair_find(subject.package), served / f"cycles-{name}")
    with subject.start(served / f"cycles-{name}" / "old", run_folder) as server:
        outcome = cycles_run(subject, server, file, CYCLES, SECONDS_MAX)
    assert outcome.cycles == CYCLES
    assert (outcome.failures, outcome.restarted) == (0, []), outcome
    assert outcome.requests > 0
    applied, reverted = outcome.states["applied"], outcome.states["reverted"]
    assert applied > 0, outcome
    # Children forked by a patched parent are reverted only; those that end meanwhile are applied only.
    assert reverted > 0 if subject.forks else reverted == applied, outcome
    assert not outcome.refusals, outcome
    for pid, before in outcome.before.items():
        after = outcome.after[pid]
        assert after.maps == before.maps, (pid, outcome)
