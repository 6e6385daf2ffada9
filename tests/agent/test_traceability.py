"""The page of traceability: what the agent did on a booted machine with a stock server of an old version."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent.kills import HISTORY
from tests.agent.load import Load, redis
from tests.agent.machine import Machine
from tests.agent.redis import ALWAYS, configure, newest, old_redis, oldest
from tests.traceability import ROOT, Row, stands, table

CONFIGURATION = f"""
mode = "MODE"
observe_days = 0
health_seconds = 2
[maintenance]
classifications = []
include = ["redis-*"]
{ALWAYS}
"""
PORT = 18484
PROBE = f"""
[[probe]]
kind = "command"
name = "shop"
command = ["sh", "-c", "test -e /run/fine || ! grep -q HEALTH_CHECK {HISTORY}"]
tries = 1
"""
"""Fine until something was changed, and then where a test says so."""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine(tmp_path / "machine", systemd=True) as begun:
        begun.offer_only("redis-*")
        old_redis(begun, PORT)
        yield begun


def _did(machine: Machine, *words: str) -> tuple[int, list[Any]]:
    done = machine.hotmend(*words, "--json")
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def _row(line: str, asked: str, words: str, observed: str, code: int) -> Row:
    return Row(line, asked, f"hotmend {words} --json", f"{observed}; exit code {code}")


def _name(update: str) -> str:
    """Return a package without its version, which is another one after the next update."""
    return update.partition("=")[0]


def _processes(changed: list[int]) -> str:
    return f", {len(changed)} process with new code" if changed else ""


def _turn(machine: Machine, line: str, asked: str, words: str = "agent run --once") -> Row:
    code, (found,) = _did(machine, *words.split())
    told = []
    if "mode" in found:
        waiting = ", ".join(map(_name, found["waiting"])) or "nothing"
        told = [f"mode {found['mode']}", f"waiting: {waiting}", *([found["held"]] if found["held"] else [])]
        found = found["run"]
    if found is not None:
        actions = [f"{_name(a['update'])} {a['state']}{_processes(a['changed'])}" for a in found["actions"]]
        told += [found["state"], *actions]
    else:
        told.append("no run")
    return _row(line, asked, words, "; ".join(told), code)


def _status(machine: Machine, line: str, asked: str) -> Row:
    code, found = _did(machine, "status")
    told = [
        f"{row['comm']}: {h['name']} {'active' if h['active'] else 'inactive'} ({h['state']}), {' '.join(h['cves'])}"
        for row in found
        for h in row["hotpatches"]
    ]
    return _row(line, asked, "status", "; ".join(told) or "nothing", code)


def _engine(machine: Machine) -> Iterator[Row]:
    """By hand, without the agent: made, looked at, applied under load, taken back."""
    old, new = (f"redis-tools={version(machine, 'redis-tools')}" for version in (oldest, newest))
    file = "/run/redis.hotmend"
    made = machine.hotmend("build", old, new, "-o", file)
    size, whole = (
        int(machine.run(command).stdout)
        for command in (f"stat -c %s {file}", f"apt-cache show {new} | sed -n 's/^Size: //p'")
    )
    small = f"{100 * size / whole:.1f} % of the package's bytes; exit code {made.returncode}"
    yield Row("S2", "Smaller than the update", "hotmend build redis-tools=OLD redis-tools=NEW -o FILE", small)
    code, images = _did(machine, "inspect", file)
    told = f"{images[0]['verdict']}, {len(images[0]['functions'])} functions, {' '.join(images[0]['cves'])}"
    yield _row("S3", "The regular update's own changes, security content by its changelog", "inspect FILE", told, code)
    before = machine.pids("redis-server")
    with Load(machine, redis(PORT)) as load:
        code, results = _did(machine, "apply", file)
        machine.run("sleep 1")
    same = "the same process" if machine.pids("redis-server") == before else "another process"
    states = ", ".join(f"{result['comm']} {result['state']}" for result in results)
    yield _row("S1", "The code of running processes is changed, no restart", "apply FILE", f"{states}; {same}", code)
    failed = f"{load.count.bad} requests failed" if load.count.good else "no request was answered"
    yield _row("S4", "Workloads are not interrupted", "apply FILE", f"under load: {failed}", code)
    code, results = _did(machine, "revert", file)
    states = ", ".join(f"{result['comm']} {result['state']}" for result in results)
    yield _row("S45", "Taken back by hand, by the file alone", "revert FILE", states, code)
    code, (found,) = _did(machine, "upgrade", "--dry-run")
    told = ", ".join(f"{each['package']} {each['memory']}" for each in found["packages"])
    told += f"; restarts: {', '.join(found['restarts']) or 'none'}; nothing was changed: {found['dry_run']}"
    yield _row("S46", "A verdict before the installation", "upgrade --dry-run", told, code)


def _looked_up(machine: Machine) -> Iterator[Row]:
    """What is known afterwards: of one vulnerability, and of all that was done."""
    cve = _did(machine, "status")[1][0]["hotpatches"][0]["cves"][0]
    code, (found,) = _did(machine, "explain", cve)
    told = ", ".join(
        f"{place['comm']}: {'fixed' if place['fixed'] else 'not fixed'}, {'with' if place['since'] else 'without'} the "
        f"moment, by {_name(place['update'])}, {'on' if place['audit_lines'] else 'without'} lines of the audit record"
        for place in found["places"]
    )
    yield _row("S5", "In memory since when, for each vulnerability, and on what evidence", "explain CVE", told, code)
    code, found = _did(machine, "timeline")
    said = [entry["text"] for entry in found if entry["source"] == "history"]
    ends = [text for text in said if "redis-tools" in text and ("SUCCEEDED" in text or "ROLLED_BACK" in text)]
    told = f"{len(ends)} ends of redis-tools; " + ", ".join(
        f"{source}: {'yes' if any(entry['source'] == source for entry in found) else 'no'}"
        for source in ("history", "audit", "units")
    )
    yield _row("S23, S40", "Update history with the details of each, without an end", "timeline", told, code)


def _rows(machine: Machine) -> Iterator[Row]:
    yield from _engine(machine)
    configure(machine, CONFIGURATION.replace("MODE", "observe"))
    yield _turn(machine, "S41", "Assessed periodically; observing changes nothing")
    excluded = 'include = ["redis-*"]\nexclude = ["redis-*"]'
    configure(machine, CONFIGURATION.replace("MODE", "automatic").replace('include = ["redis-*"]', excluded))
    yield _turn(machine, "S43", "Excludes win over includes", "agent install")
    configure(machine, CONFIGURATION.replace("MODE", "notify"))
    yield _turn(machine, "S37", "Notify: offered, and not installed by itself")
    configure(machine, CONFIGURATION.replace("MODE", "automatic").replace("FREQ=DAILY", "FREQ=YEARLY;COUNT=1"))
    yield _turn(machine, "S31", "Automatic: nothing outside the window")
    machine.run("touch /etc/hotmend/hold")
    yield _turn(machine, "S29", "On hold: nothing at all, not by hand either", "agent install --anytime")
    machine.hotmend("hold", "--release")
    configure(machine, CONFIGURATION.replace("MODE", "automatic") + PROBE)
    yield _turn(machine, "S33", "A health probe that fails afterwards takes it back", "agent install")
    yield _status(machine, "S45", "... in memory")
    code, found = _did(machine, "agent", "quarantine")
    told = ", ".join(f"{_name(each['update'])}: {each['reason'].partition(':')[0]}" for each in found)
    yield _row("S45", "... and it stays away", "agent quarantine", told, code)
    machine.run("touch /run/fine")
    machine.hotmend("agent", "quarantine", "--lift", found[0]["update"])
    yield _turn(machine, "S29-S30, S43", "Automatic, in the window: memory, health, disk", "agent install")
    yield _status(machine, "S38, S44", "What is installed in memory, read on the machine")
    yield from _looked_up(machine)
    code, found = _did(machine, "restarts")
    due = [each for each in found if "redis" in json.dumps(each)]
    yield _row("S6", "Restarts of the service that are still due", "restarts", str(len(due)), code)
    configure(machine, CONFIGURATION.replace("MODE", "automatic"))
    yield _turn(machine, "S41", "Never offered again once it is verified in memory and on disk")
    code, (found,) = _did(machine, "agent", "assess")
    waiting = ", ".join(map(_name, found["waiting"])) or "nothing"
    yield _row(
        "S42",
        "Assessed on demand, with its time",
        "agent assess",
        f"{'with' if found['at'] else 'without'} its time; waiting: {waiting}",
        code,
    )


@pytest.mark.slow
def test_the_page_has_what_the_agent_did(machine: Machine) -> None:
    before = machine.pids("redis-server")
    rows = list(_rows(machine))
    assert machine.pids("redis-server") == before
    page = ROOT / "docs" / "traceability.md"
    assert stands(page, "agent", table(rows)), "the page was out of date and is written anew: read what changed"
