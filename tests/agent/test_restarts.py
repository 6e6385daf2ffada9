"""`hotmend restarts` on a booted machine: two units with old code, one of them fixed in memory for a while."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent.machine import Machine
from tests.agent.redis import configure

HAPROXY_OLD, HAPROXY_NEW = "2.6.12-1+deb12u3", "2.6.12-1+deb12u4"
REDIS_OLD, REDIS_NEW = "5:7.0.15-1~deb12u7", "5:7.0.15-1~deb12u10"
HAPROXY = """
global
    master-worker
    chroot /var/lib/haproxy
    user haproxy
    group haproxy
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend all
    bind 127.0.0.1:18962
    http-request return status 200 content-type text/plain string "here"
"""
BEHIND = "[Unit]\nAfter=redis-server.service\nWants=redis-server.service\n"
NO_RESTARTS = "printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """With redis and haproxy of the main archive; haproxy comes behind redis."""
    with Machine(tmp_path / "machine", systemd=True) as begun:
        begun.offer_only("redis-* haproxy")
        begun.run(NO_RESTARTS)
        begun.install(f"redis-server={REDIS_OLD}", f"redis-tools={REDIS_OLD}", f"haproxy={HAPROXY_OLD}")
        begun.run("sed -i 's/^port .*/port 18961/' /etc/redis/redis.conf")
        begun.run(f"cat > /etc/haproxy/haproxy.cfg <<'END'\n{HAPROXY}END")
        folder = "/etc/systemd/system/haproxy.service.d"
        begun.run(f"mkdir {folder}; printf '{BEHIND}' > {folder}/order.conf; systemctl daemon-reload")
        begun.run("systemctl start redis-server haproxy")
        begun.settle("redis-server", 1)
        begun.settle("haproxy", 2)
        yield begun


def restarts(machine: Machine, *arguments: str) -> tuple[int, Any]:
    """Run it; return exit code and object."""
    done = machine.hotmend("restarts", "--json", *arguments)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def history(machine: Machine) -> list[tuple[str, str]]:
    """Return the units of lines about restarts, and how each had ended then."""
    text = machine.run("cat /var/lib/hotmend/agent/history.jsonl 2>/dev/null || true").stdout
    events = [json.loads(line) for line in text.splitlines()]
    return [(event["unit"], event["outcome"]) for event in events if event["event"] == "restarted"]


def test_only_what_is_old_in_memory_is_due_and_the_order_is_kept(machine: Machine) -> None:
    assert restarts(machine) == (3, {"restarts": [], "others": [], "reboot": [], "done": []})

    # fixed in memory alone, then on disk as well: no restart of redis is due, one of haproxy is
    assert machine.hotmend("upgrade", "--memory-only", "redis-server", "redis-tools").returncode == 0
    assert "settled" in machine.hotmend("status").stdout
    assert restarts(machine)[0] == 3
    machine.install(f"redis-server={REDIS_NEW}", f"redis-tools={REDIS_NEW}", f"haproxy={HAPROXY_NEW}")
    code, answer = restarts(machine)
    (need,) = answer["restarts"]
    assert (code, need["name"], need["how"], answer["others"]) == (0, "haproxy.service", "restart", [])
    assert {image["path"] for process in need["processes"] for image in process["images"]} == {"/usr/sbin/haproxy"}
    assert sorted(process["pid"] for process in need["processes"]) == machine.pids("haproxy")

    # taken back, redis is due as well, and first
    machine.hotmend("revert", "--all")
    assert [need["name"] for need in restarts(machine)[1]["restarts"]] == ["redis-server.service", "haproxy.service"]

    # with redis goes haproxy, which is never to be touched: then neither is
    requires = "/etc/systemd/system/haproxy.service.d/requires.conf"
    machine.run(f"printf '[Unit]\\nRequires=redis-server.service\\n' > {requires}; systemctl daemon-reload")
    configure(machine, 'never_units = ["haproxy.service"]')
    answer = restarts(machine)[1]
    never = "it is on the list of what is never touched"
    assert {need["name"]: (need["how"], need["reason"]) for need in answer["others"]} == {
        "redis-server.service": ("by hand", f"haproxy.service goes with it: {never}"),
        "haproxy.service": ("reboot", never),
    }
    assert answer["restarts"] == []
    machine.run(f"rm {requires} /etc/hotmend/agent.toml; systemctl daemon-reload")

    # on hold nothing is restarted
    before = {name: machine.pids(name) for name in ("redis-server", "haproxy")}
    machine.run("mkdir -p /etc/hotmend && touch /etc/hotmend/hold")
    assert restarts(machine, "--do")[0] == 4
    machine.run("rm /etc/hotmend/hold")
    assert {name: machine.pids(name) for name in before} == before

    code, answer = restarts(machine, "--do")
    assert (code, answer["restarts"]) == (0, [])
    assert [(done["unit"], done["outcome"]) for done in answer["done"]] == [
        ("redis-server.service", "restarted"),
        ("haproxy.service", "restarted"),
    ]
    assert not set(before["redis-server"]) & set(machine.settle("redis-server", 1))
    assert not set(before["haproxy"]) & set(machine.settle("haproxy", 2))
    assert history(machine) == [
        ("redis-server.service", ""),
        ("redis-server.service", "restarted"),
        ("haproxy.service", ""),
        ("haproxy.service", "restarted"),
    ]
    assert restarts(machine, "--do")[0] == 3


def test_a_unit_that_does_not_come_back_ends_it(machine: Machine) -> None:
    machine.install(f"redis-server={REDIS_NEW}", f"redis-tools={REDIS_NEW}", f"haproxy={HAPROXY_NEW}")
    machine.run("echo nonsense >> /etc/redis/redis.conf")
    before = machine.pids("haproxy")
    code, answer = restarts(machine, "--do")
    assert (code, [(done["unit"], done["outcome"]) for done in answer["done"]]) == (
        1,
        [("redis-server.service", "failed")],
    )
    assert [need["name"] for need in answer["restarts"]] == ["haproxy.service"]
    assert machine.pids("haproxy") == before
    assert history(machine) == [("redis-server.service", ""), ("redis-server.service", "failed")]
