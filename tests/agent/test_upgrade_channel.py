"""`hotmend upgrade` takes hotpatches from a signed channel where there is one, and makes what it has none for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hotmend.package.bundle import pack
from hotmend.publisher.build import build_update
from hotmend.repository.making import About, hotpatch_release
from tests.agent.machine import Machine
from tests.agent.test_upgrade import CONFIGURATION, HAPROXY_NEW, HAPROXY_OLD, settled, upgraded
from tests.repository.kit import BASELINE, CHANNEL, World, baseline
from tests.repository.web import Web, web_serve

SIGN = "CVE-2026-99999"
"""Only the channel's hotpatch names it: whoever has it in memory has taken the channel's."""
AWAY = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def bundle() -> bytes:
    """What the publisher made of the update."""
    update = build_update(f"haproxy={HAPROXY_OLD}", f"haproxy={HAPROXY_NEW}", lambda *_: None)
    return pack(tuple(replace(hotpatch, cves=(*hotpatch.cves, SIGN)) for hotpatch in update.hotpatches))


@pytest.fixture
def world(tmp_path: Path, bundle: bytes) -> World:
    """With a baseline, and a hotpatch that was withdrawn."""
    world = World(tmp_path / "world").make_keys().found()
    world.publisher().add(baseline(world.now), {})
    world.promote(BASELINE)
    publish(world, bundle, "bad")
    withdraw(world, "bad")
    return world


def publish(world: World, bundle: bytes, identity: str) -> None:
    release = hotpatch_release((bundle,), About(CHANNEL, BASELINE, identity), world.now)
    world.publisher().add(release, {release.files[0].name: bundle})
    world.promote(identity)


def withdraw(world: World, identity: str) -> None:
    world.sign(world.publisher().withdraw(CHANNEL, (identity,), "wrong answers"), "stable1", "stable2")


@pytest.fixture
def web(world: World) -> Iterator[Web]:
    with web_serve(world.mirror) as web:
        yield web


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """With haproxy of the main archive."""
    with Machine(tmp_path / "machine") as begun:
        begun.offer_only("haproxy")
        begun.install(f"haproxy={HAPROXY_OLD}")
        begun.run(f"/etc/init.d/haproxy stop; cat > /etc/haproxy/haproxy.cfg <<'END'\n{CONFIGURATION}END")
        begun.run("/etc/init.d/haproxy start")
        begun.settle("haproxy", 2)
        yield begun


def of_haproxy(machine: Machine, *arguments: str) -> tuple[int, Any]:
    code, answer = upgraded(machine, "haproxy", *arguments)
    (package,) = answer["packages"]
    return code, package


def test_taken_from_a_channel_or_made_here(world: World, web: Web, machine: Machine, bundle: bytes) -> None:
    channel = ("--channel", web.address, CHANNEL)
    before = machine.pids("haproxy")
    done = machine.hotmend("upgrade", "haproxy", *channel, "--channel-only")
    assert (done.returncode, "no root is trusted yet" in done.stderr) == (2, True)
    machine.run(f"mkdir -p /var/lib/hotmend/mirror && cp {world.mirror}/metadata/1.root.json /root/root.json")
    assert machine.hotmend("agent", "trust", "/root/root.json").returncode == 0

    code, package = of_haproxy(machine, *channel, "--dry-run")
    (made,) = package["hotpatches"]
    assert (code, package["memory"], made["release"]) == (0, "fixed", "")
    assert made["why"] == "its hotpatch, bad, is withdrawn: wrong answers"
    code, package = of_haproxy(machine, "--channel", AWAY, CHANNEL, "--dry-run")
    assert (code, package["memory"], AWAY in package["hotpatches"][0]["why"]) == (0, "fixed", True)

    publish(world, bundle, "good")
    forged = world.folder / "forged"
    shutil.copytree(world.mirror, forged)
    for file in forged.rglob("*good*.hotmend"):
        file.write_bytes(file.read_bytes()[::-1])
    web.folder = forged
    code, package = of_haproxy(machine, *channel, "--channel-only", "--memory-only")
    assert (code, package["memory"], package["processes"], package["hotpatches"]) == (4, "old", [], [])
    assert "[repository-files-do-not-fit]" in package["error"]
    assert [old["pid"] for old in package["still_old"]] == before
    assert machine.hotmend("status", "--json").stdout == ""
    assert machine.version("haproxy") == HAPROXY_OLD

    web.folder = world.mirror
    source = f'[channel]\naddress = "{web.address}"\nname = "{CHANNEL}"\n'
    machine.run(f"mkdir -p /etc/hotmend && cat > /etc/hotmend/agent.toml <<'END'\n{source}END")
    code, package = of_haproxy(machine)
    assert (code, package["memory"], package["disk"], package["error"]) == (0, "fixed", "updated", "")
    assert package["hotpatches"] == [{"channel": f"{CHANNEL}/stable", "release": "good", "why": ""}]
    assert SIGN in package["cves"]
    assert (machine.pids("haproxy"), settled(machine), machine.version("haproxy")) == (before, before, HAPROXY_NEW)
    found = json.loads(machine.hotmend("explain", SIGN, "--json").stdout)
    assert {(place["pid"], place["release"]) for place in found["places"]} == {(pid, "good") for pid in before}

    lines = map(json.loads, machine.run("cat /var/lib/hotmend/agent/history.jsonl").stdout.splitlines())
    told = [(e["update"], e["release"], e["brings"]) for e in lines if e["event"] == "action" and e["changed"]]
    assert told == [("good/good.0.hotmend", "good", f"haproxy={HAPROXY_NEW}")]  # as the agent calls it
