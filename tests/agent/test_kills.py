"""`kill -9` of the agent right after lines of its history; `python -m faults.agent` takes every line.

Here are those around which memory, the disk, the hooks and the quarantine change, and by `make long` those of restarts.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.agent.kills import BROUGHT_IN, REBOOTED, TAKEN_BACK, Scenario, kill_at, kill_at_all, kinds
from tests.agent.machine import Machine
from tests.agent.redis import old_redis

SAMPLES = {
    BROUGHT_IN: ("action APPLYING", "disk-began", "run-state POST_EVENT"),
    TAKEN_BACK: ("quarantined", "action ROLLED_BACK"),
}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with Machine(tmp_path_factory.mktemp("kills") / "machine", systemd=True) as begun:
        begun.offer_only("redis-*")
        yield old_redis(begun)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("scenario", SAMPLES, ids=lambda scenario: scenario.name)
def test_the_record_tells_the_truth(machine: Machine, scenario: Scenario) -> None:
    lines = kinds(machine, scenario)
    found = {kind: kill_at(machine, scenario, 1 + lines.index(kind)) for kind in SAMPLES[scenario]}
    assert found == {kind: (kind, []) for kind in SAMPLES[scenario]}


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_restart_and_a_reboot(machine: Machine) -> None:
    """What was told and did not come about is done by the next turn."""
    found = list(kill_at_all(machine, REBOOTED))
    assert [kind for kind, _ in found][-3:] == ["restarted", "restarted restarted", "rebooting"]
    assert [wrong for _, wrong in found if wrong] == []
