"""Stock servers as their units run them, from old versions to the security level: who is restarted, and who is not.

All six at once by both ways, and what administrators do afterwards, are `make six`; here they go one of the ways.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent import six
from tests.agent.load import Load, redis
from tests.agent.machine import Machine
from tests.agent.redis import newest, old_redis, oldest

REDIS_PORT = 18477


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine(tmp_path / "machine", systemd=True) as begun:
        yield begun


def test_redis_is_restarted_by_its_package_and_not_by_hotmend_upgrade(machine: Machine) -> None:
    """By deb-systemd-invoke, which asks the policy."""
    machine.offer_only("redis-*")
    old_redis(machine, REDIS_PORT)
    new = newest(machine, "redis-server")
    before = six.started(machine, "redis-server")
    machine.install(f"redis-server={new}", f"redis-tools={new}")
    assert six.started(machine, "redis-server") != before

    old = oldest(machine, "redis-server")
    machine.install(f"redis-server={old}", f"redis-tools={old}")
    assert "ProtectSystem" in machine.run("systemctl cat redis-server").stdout
    before = six.started(machine, "redis-server")
    with Load(machine, redis(REDIS_PORT)) as load:
        done = machine.hotmend("upgrade", "--json", "redis-server", "redis-tools")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["restarts"], answer["disk_error"]) == (0, [], "")
    assert "redis-server" in answer["held"]
    assert load.count.fine, load.count
    assert six.started(machine, "redis-server") == before
    assert machine.version("redis-server") == new
    assert machine.run("ls /usr/sbin/policy-rc.d", check=False).stdout == ""
    assert machine.hotmend("apt-hook", "fixed").stdout == "redis-server.service\n"


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_six_under_load_by_apt_then_reloaded_and_restarted(machine: Machine) -> None:
    """The exact list: two run on with new code, four whose updates need a baseline are restarted as ever."""
    six.start_all(machine)
    before = six.starts(machine)
    with six.asked(machine) as counts:
        said = six.apt_upgrade(machine)
    after = six.starts(machine)
    assert said.told == {
        "nginx": "old",
        "redis": "fixed",
        "haproxy": "fixed",
        "apache2": "partly fixed",
        "openssh": "old",
        "postgres": "old",
    }
    seen = six.Seen(said, {name for name in after if after[name] != before[name]}, counts)
    assert six.wrong_after_upgrade(machine, seen) == []
    assert machine.run("ls /usr/sbin/policy-rc.d", check=False).stdout == ""
    with six.asked(machine) as counts:
        six.graceful(machine)
    reloaded = six.starts(machine)
    assert six.wrong_after_reloads(counts, {name for name in after if after[name] != reloaded[name]}) == []
    assert six.with_old_program(machine)["haproxy"] == set()  # its main process has executed the new file
    six.restart_all(machine)
    assert six.wrong_after_restart(machine) == []
