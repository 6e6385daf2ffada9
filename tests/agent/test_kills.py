"""`kill -9` of the agent right after lines of its history; `python -m faults.agent` takes every line.

Here is one on the way in and one on the way back, and by `make long` those of restarts; on a process without a machine
around it every line is tried (tests/live/test_agent_run.py).
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.agent.kills import (
    BROUGHT_IN,
    ONCE,
    REBOOTED,
    TAKEN_BACK,
    Scenario,
    active,
    begin,
    history,
    kill_at,
    kill_at_all,
    kind_of,
    kinds,
    next_turn,
    untrue,
)
from tests.agent.machine import Machine
from tests.agent.redis import old_redis
from tests.servers.process import wait_until

SAMPLES = {
    BROUGHT_IN: ("disk-began",),
    TAKEN_BACK: ("quarantined",),
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


SLOW = """
DPkg::Pre-Invoke { "touch /run/dpkg; until test -e /run/go; do sleep 0.1; done"; };
"""


@pytest.mark.timeout(600)
def test_apt_goes_on_where_the_turn_is_killed(machine: Machine) -> None:
    """Restarts are held back as long as apt lives; the next turn leaves it alone, the one after it has the truth."""
    pids = begin(machine, BROUGHT_IN)
    machine.run(f"cat > /etc/apt/apt.conf.d/50slow <<'END'\n{SLOW}END")
    try:
        turn = subprocess.Popen(machine.command(f"exec {ONCE}"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: machine.run("test -e /run/dpkg", check=False).returncode == 0, "dpkg is about to run", 300)
        machine.run("pkill -KILL -f '[a]gent run --once'")
        turn.wait()
        cut, truth = history(machine)[-1], active(machine)
        assert (kind_of(cut), truth) == ("disk-began", pids)
        done = machine.hotmend("agent", "run", "--once")
        assert done.returncode == 1
        assert "a run was cut off while apt was at work, and process " in done.stderr
        assert "disk-ended" not in [kind_of(line) for line in history(machine)]
        machine.run("touch /run/go; while pgrep -x apt-get; do sleep 0.1; done")
    finally:
        machine.run("touch /run/go; rm /etc/apt/apt.conf.d/50slow")
    next_turn(machine)
    lines = history(machine)
    assert [line["error"] for line in lines if line["event"] == "disk-ended"] == [""]
    assert [*untrue(lines, cut["run"], truth), *BROUGHT_IN.wrong(machine, pids)] == []


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_restart_and_a_reboot(machine: Machine) -> None:
    """What was told and did not come about is done by the next turn."""
    found = list(kill_at_all(machine, REBOOTED))
    assert [kind for kind, _ in found][-3:] == ["restarted", "restarted restarted", "rebooting"]
    assert [wrong for _, wrong in found if wrong] == []
