"""The agent on a booted machine with stock servers of an old version."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent.kills import HISTORY, active, history
from tests.agent.machine import ROOT, Machine
from tests.agent.redis import ALWAYS, PORT, configure, newest, old_redis, oldest


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine(tmp_path / "machine", systemd=True) as begun:
        yield begun


@pytest.fixture
def redis(machine: Machine) -> Machine:
    """With redis of the main archive, as its package runs it; nothing else is offered."""
    machine.offer_only("redis-*")
    return old_redis(machine)


def asked(machine: Machine, *arguments: str) -> tuple[int, Any]:
    done = machine.hotmend(*arguments, "--json")
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


def states(machine: Machine, update: str) -> list[str]:
    return [e["state"] for e in history(machine) if e["event"] == "action" and e["update"].startswith(update)]


AUTOMATIC = f"""
mode = "automatic"
observe_days = 0
health_seconds = 1
[maintenance]
classifications = []
include = ["redis-*"]
{ALWAYS}
"""


def test_automatic(machine: Machine) -> None:
    """Memory first, then the disk without a restart, of a hundred updates those that are wanted; and never twice."""
    redis = old_redis(machine)
    (before,) = redis.pids("redis-server")
    started = redis.run("systemctl show -p MainPID,NRestarts,ActiveEnterTimestampMonotonic redis-server").stdout
    configure(redis, AUTOMATIC)
    code, turn = asked(redis, "agent", "run", "--once")
    assert (code, turn["mode"], turn["recovered"], turn["held"]) == (0, "automatic", "", "")
    found = {action["update"].partition("=")[0]: action for action in turn["run"]["actions"]}
    assert set(found) == {"redis-server", "redis-tools"}
    assert found["redis-tools"]["state"] == "SUCCEEDED"
    assert (found["redis-tools"]["changed"], found["redis-tools"]["old"]) == ([before], [])
    assert "CVE-2026-25243" in found["redis-tools"]["cves"]
    assert redis.version("redis-tools") == newest(redis, "redis-tools")
    assert redis.run("systemctl show -p MainPID,NRestarts,ActiveEnterTimestampMonotonic redis-server").stdout == started
    assert redis.run(f"redis-cli -p {PORT} ping").stdout == "PONG\n"
    assert states(redis, "redis-tools") == ["VERIFYING", "APPLYING", "HEALTH_CHECK", "SUCCEEDED"]
    code, turn = asked(redis, "agent", "run", "--once")
    assert (code, turn["waiting"], turn["run"]) == (0, [], None)


def test_what_comes_along_with_a_package_keeps_it_off_the_disk(machine: Machine) -> None:
    """redis-server needs redis-tools of its own version, whose code runs, is excluded, and would be restarted."""
    redis = old_redis(machine)
    before = redis.pids("redis-server"), redis.version("redis-server")
    configure(redis, AUTOMATIC.replace('include = ["redis-*"]', 'include = ["redis-*"]\nexclude = ["redis-tools"]'))
    _, turn = asked(redis, "agent", "run", "--once")
    assert "what comes with it runs and was not changed: redis-tools=" in turn["run"]["detail"]
    assert (redis.pids("redis-server"), redis.version("redis-server")) == before


def test_observe_and_hold_and_windows(redis: Machine) -> None:
    configure(redis, AUTOMATIC.replace("observe_days = 0", "observe_days = 7"))
    code, turn = asked(redis, "agent", "run", "--once")
    assert (code, turn["mode"], len(turn["waiting"]), turn["run"]) == (0, "observe", 2, None)
    configure(redis, AUTOMATIC)
    redis.run("touch /etc/hotmend/hold")
    code, turn = asked(redis, "agent", "run", "--once")
    assert (code, turn["held"], turn["run"]) == (0, "on hold until it is released", None)
    code, ended = asked(redis, "agent", "install", "--anytime")
    assert (code, ended["state"]) == (4, "BLOCKED")
    assert redis.hotmend("hold", "--release").returncode == 0
    configure(
        redis,
        AUTOMATIC.replace("start = 2000-01-01T00:00:00, minutes = 1440", "start = 2090-01-01T00:00:00, minutes = 9"),
    )
    code, turn = asked(redis, "agent", "run", "--once")
    assert (code, turn["run"]["state"]) == (3, "WAITING_WINDOW")
    code, ended = asked(redis, "agent", "install")
    assert (code, ended["state"]) == (3, "WAITING_WINDOW")
    assert [e for e in history(redis) if e["event"] == "run-began"] == []
    assert redis.hotmend("status", "--json").stdout == ""


def test_who_begins_from_the_old_file_wakes_the_agent(redis: Machine) -> None:
    """With a turn every ten hours: a service that is started anew from a disk without the fix has it soon after."""
    configure(redis, "disk = false\nassess_minutes = 600\n" + AUTOMATIC)
    (before,) = redis.pids("redis-server")
    agent = subprocess.Popen(redis.command(f"exec {sys.executable} -m hotmend agent run"), stderr=subprocess.DEVNULL)
    try:
        _await(redis, lambda: active(redis) == [before])
        _await(redis, lambda: [e["event"] for e in history(redis)][-1] == "run-ended")
        redis.run("test -e /var/lib/hotmend/agent/unfinished || sleep 5; systemctl restart redis-server")
        (after,) = redis.settle("redis-server", 1)
        assert after != before
        _await(redis, lambda: active(redis) == [after])
        _await(redis, lambda: [e["event"] for e in history(redis)].count("run-ended") == 2)
    finally:
        redis.run("pkill -TERM -f 'hotmend agent run$'")
        agent.wait(60)
    lost = [event["lost"] for event in history(redis) if event["event"] == "assessed"]
    assert [one["processes"] for one in lost[-1]] == [[f"redis-server ({after})"]]


def _await(machine: Machine, done: Callable[[], bool], seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, history(machine)[-3:]
        time.sleep(0.2)


PROBES = f"""
[[probe]]
kind = "command"
name = "answers"
command = ["sh", "-c", '''
    test -e /run/falls-ill && grep -q HEALTH_CHECK {HISTORY} && exit 1
    test -e /run/fine && redis-cli -p {PORT} ping
''']
tries = 1
[[post_event]]
command = ["sh", "-c", "echo $HOTMEND_UPDATES > /run/post"]
[[pre_event]]
command = ["sh", "-c", "test ! -e /run/no"]
"""


def test_a_failing_probe_takes_back_and_quarantines(redis: Machine) -> None:
    configure(redis, AUTOMATIC + PROBES)
    code, turn = asked(redis, "agent", "run", "--once")
    assert (code, turn["run"]["state"]) == (4, "BLOCKED")
    assert "ill before anything was changed" in turn["run"]["detail"]
    redis.run("touch /run/fine /run/no")
    code, ended = asked(redis, "agent", "install")
    assert (code, ended["state"], ended["detail"]) == (4, "BLOCKED", "pre-event: sh: exit code 1")
    redis.run("rm /run/no")
    redis.run("touch /run/falls-ill")
    configure(redis, AUTOMATIC + PROBES)
    code, ended = asked(redis, "agent", "install")
    assert (code, ended["state"]) == (1, "ROLLED_BACK")
    tools = next(action for action in ended["actions"] if action["update"].startswith("redis-tools"))
    assert (tools["state"], tools["changed"]) == ("ROLLED_BACK", [])
    rows = [json.loads(line) for line in redis.hotmend("status", "--json").stdout.splitlines()]
    assert [hotpatch["active"] for row in rows for hotpatch in row["hotpatches"]] == [False]
    assert redis.version("redis-tools") == oldest(redis, "redis-tools")
    assert redis.run("cat /run/post").stdout.split() == sorted(action["update"] for action in ended["actions"])
    quarantined = redis.hotmend("agent", "quarantine", "--json").stdout
    assert json.loads(quarantined)["update"] == tools["update"]
    redis.run("rm /run/falls-ill")
    code, ended = asked(redis, "agent", "install")
    assert (code, ended["state"], ended["actions"]) == (3, "NOT_APPLICABLE", [])  # nor its sister, which needs it
    assert [event["because"] for event in history(redis) if event["event"] == "disk-left"] == [[tools["update"]]]
    assert redis.hotmend("agent", "quarantine", "--lift", tools["update"]).returncode == 0
    kill = "while test $(grep -c HEALTH_CHECK {0}) = {1}; do sleep 0.1; done; kill -ABRT $(pidof redis-server)"
    watched = redis.run(f"grep -c HEALTH_CHECK {HISTORY}").stdout.strip()
    configure(redis, AUTOMATIC.replace("seconds = 1", "seconds = 15") + PROBES)  # long enough for a crash to fall into
    with subprocess.Popen(redis.command(kill.format(HISTORY, watched))):
        code, ended = asked(redis, "agent", "install")
    (why,) = [action["detail"] for action in ended["actions"] if action["state"] == "ROLLED_BACK"]
    # The last where it had lived for long enough to be missed.
    said = ("redis-server.service has restarted", "redis-server crashed", "ended while they were watched")
    assert any(each in why for each in said), why
    assert redis.hotmend("agent", "quarantine", "--lift", tools["update"]).returncode == 0
    configure(redis, AUTOMATIC + PROBES)
    code, ended = asked(redis, "agent", "install")
    assert (code, [a["state"] for a in ended["actions"] if a["changed"]]) == (0, ["SUCCEEDED"])


HAPROXY_PORT, NGINX_PORT = 18482, 18483
HAPROXY = f"""
global
    master-worker
    stats socket /run/haproxy.sock mode 600
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend all
    bind 127.0.0.1:{HAPROXY_PORT}
    http-request return status 200 content-type text/plain string "here"
"""
LOAD = f"""
import pathlib, socket, urllib.request
good = bad = 0
while not pathlib.Path("/run/load-ends").exists():
    try:
        with socket.create_connection(("127.0.0.1", {PORT}), 5) as redis:
            redis.sendall(b"PING\\r\\n")
            good += redis.recv(100) == b"+PONG\\r\\n"
        good += urllib.request.urlopen("http://127.0.0.1:{HAPROXY_PORT}/", timeout=5).read() == b"here"
        good += b"nginx" in urllib.request.urlopen("http://127.0.0.1:{NGINX_PORT}/", timeout=5).read()
    except OSError:
        bad += 1
print(good, bad)
"""


def old_nginx(machine: Machine) -> list[int]:
    """Install nginx as it was, and start it on one port of loopback; return its processes."""
    old = oldest(machine, "nginx")
    machine.install(f"nginx={old}", f"nginx-common={old}")
    listen = f"-e '/\\[::\\]/d' -e 's/listen 80 default_server/listen 127.0.0.1:{NGINX_PORT}/'"
    machine.run(f"systemctl stop nginx; sed -i {listen} /etc/nginx/sites-enabled/default; systemctl start nginx")
    return machine.settle("nginx", 1 + int(machine.run("nproc").stdout))


def by_name(keys: dict[str, str] | list[str]) -> dict[tuple[str, str], str]:
    """Return what is said of updates, "" of those only named, by release and package: a file's name ends in a hash."""
    said = keys if isinstance(keys, dict) else dict.fromkeys(keys, "")
    found = {}
    for key, state in said.items():
        release, _, file = key.partition("/")
        found[release, file.rpartition("-")[0] if file.endswith(".hotmend") else file] = state
    return found


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_month_of_a_channel(redis: Machine) -> None:
    """Observed for a week, then each release in the next window that no freeze forbids; none that was withdrawn.

    The publisher's runs make the channel: a baseline, redis, haproxy (withdrawn before it was ever seen, then let
    through again), and nginx, which takes a baseline; then what has haproxy is withdrawn, and let through again.
    """
    redis.install(f"haproxy={oldest(redis, 'haproxy')}")
    redis.run(f"cat > /etc/haproxy/haproxy.cfg <<'END'\n{HAPROXY}END\nsystemctl restart haproxy")
    before = redis.pids("redis-server"), redis.settle("haproxy", 2), old_nginx(redis)
    names = {"redis": "redis-tools", "haproxy": "haproxy", "nginx": "nginx"}
    updates = [f"{source} {name} {oldest(redis, name)} {newest(redis, name)}" for source, name in names.items()]
    load = subprocess.Popen(redis.command(f"exec python3 -c '{LOAD}'"), stdout=subprocess.PIPE, text=True)
    script = shlex.join([sys.executable, "-m", "tests.agent.month", *updates])
    redis.run("mkdir -p /etc/hotmend")
    played = redis.run(f"cd {ROOT} && {script}", seconds=1500)
    redis.run("touch /run/load-ends")
    told, _ = load.communicate(timeout=60)
    good, bad = map(int, told.split())
    rows = {row["day"]: row for row in map(json.loads, played.stdout.splitlines())}
    days = {day: row["turns"] for day, row in rows.items()}
    published = {day: row["publisher"]["published"] for day, row in rows.items() if row["publisher"]["published"]}
    assert published == {
        0: ["2027.03"],
        2: ["2027.03.h1"],
        8: ["2027.03.h2"],
        12: ["2027.03.h3"],
        20: ["2027.03.u-nginx"],
        25: ["2027.03.h4"],
    }
    assert {day for day, row in rows.items() if row["publisher"]["signed"]} == {2, 4, 10, 14, 22, 27}
    ((day, (problem,)),) = [(d, p) for d, row in rows.items() if (p := row["publisher"]["problems"])]
    assert (day, "was withdrawn with the release it was in" in problem) == (11, True)

    runs = {day: by_name(turns[-1]["actions"]) for day, turns in days.items() if turns[-1]["actions"]}
    waiting = {day: by_name(turns[-1]["waiting"]) for day, turns in days.items()}
    assert [day for day, turns in days.items() if turns[-1]["mode"] == "observe"] == list(range(7))
    outside = {day: turns[0]["run"] for day, turns in days.items() if len(turns) == 2}
    assert outside == dict.fromkeys((0, 2, 10, 13)) | dict.fromkeys((7, 16, 22), "WAITING_WINDOW")
    first, second, third = ("2027.03.h1", "redis-tools"), ("2027.03.h3", "haproxy"), ("2027.03.u-nginx", "nginx")
    assert [day for day, keys in waiting.items() if first in keys] == [4, 5, 6, 7]
    assert runs[7] == {first: "SUCCEEDED"}
    assert [day for day, keys in waiting.items() if second in keys] == [14, 15, 16]
    assert days[15][-1]["run"] == "WAITING_WINDOW"
    assert runs[16] == {second: "SUCCEEDED"}
    # Each release holds what those before it held: what is in memory already is offered by none of them again.
    assert {key for turns in days.values() for t in turns for key in by_name(t["waiting"])} == {first, second, third}
    assert [(day, run) for day, run in runs.items() if day > 16] == [(d, {third: "FAILED"}) for d in range(22, 31)]
    assert "[allocation-size-changed]" in days[22][-1]["details"]["2027.03.u-nginx/nginx"]
    withdrawn = {day: by_name(turns[-1]["withdrawn"]) for day, turns in days.items() if turns[-1]["withdrawn"]}
    assert withdrawn == {day: {second: ""} for day in (24, 25, 26)}  # on day 27 the same file is in force again

    assert (redis.pids("redis-server"), redis.pids("haproxy"), redis.pids("nginx")) == before
    assert active(redis) == sorted([*before[0], *before[1]])
    assert (good > 0, bad) == (True, 0)


@pytest.mark.long
def test_what_takes_a_restart_gets_it_in_the_window_and_then_the_reboot(machine: Machine) -> None:
    """nginx is refused as a whole: installed only where restarts are allowed."""
    old, before = oldest(machine, "nginx"), old_nginx(machine)
    configure(machine, AUTOMATIC.replace("redis-*", "nginx*"))
    code, turn = asked(machine, "agent", "run", "--once")
    assert (code, turn["run"]["state"], turn["restarted"]) == (1, "FAILED", [])
    assert "not installed, because it takes a restart: nginx" in turn["run"]["detail"]
    assert (machine.version("nginx"), machine.pids("nginx")) == (old, before)
    configure(machine, 'restart = true\nnever_units = ["nginx.*"]\n' + AUTOMATIC.replace("redis-*", "nginx*"))
    asked(machine, "agent", "install")
    assert (machine.version("nginx"), machine.pids("nginx")) == (newest(machine, "nginx"), before)
    assert ["nginx"] in [event["held"] for event in history(machine) if event["event"] == "disk-began"]
    machine.install(f"nginx={old}", f"nginx-common={old}")
    before = machine.pids("nginx")
    configure(machine, "restart = true\n" + AUTOMATIC.replace("redis-*", "nginx*"))
    asked(machine, "agent", "install")
    assert machine.version("nginx") == newest(machine, "nginx")
    assert not set(machine.pids("nginx")) & set(before)
    code, turn = asked(machine, "agent", "run", "--once")
    assert (code, turn["reboot"]) == (0, "no reboot is due")
    machine.run("touch /run/reboot-required")
    code, turn = asked(machine, "agent", "run", "--once")
    assert code == 0
    assert "the policy is never to reboot" in turn["reboot"]
    configure(machine, 'reboot = "if-required"\n' + AUTOMATIC.replace("redis-*", "nginx*"))
    machine.hotmend("agent", "run", "--once")
    assert machine.ends_by_itself()
