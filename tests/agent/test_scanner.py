"""A scanner that compares versions finds what is fixed in memory alone; told by `hotmend vex`, it does not."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.machine import Machine
from tests.agent.test_restarts import REDIS_NEW, REDIS_OLD
from tests.agent.trivy import scan, trivy_binary, write_database

pytestmark = pytest.mark.archive
OTHER = "CVE-2026-00001"


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that nobody can read."""
    with tempfile.TemporaryDirectory(prefix="hotmend-scanner-") as name:
        yield Path(name)


def test_the_scanner_believes_it(tmp_path: Path, folder: Path) -> None:
    with Machine(tmp_path / "machine") as machine:
        machine.offer_only("redis-*")
        machine.run("printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d")
        machine.install(f"redis-server={REDIS_OLD}", f"redis-tools={REDIS_OLD}")
        machine.run("redis-server --port 18966 --save '' --daemonize yes")
        machine.settle("redis-server", 1)
        assert machine.hotmend("vex").returncode == 3
        upgraded = json.loads(machine.hotmend("upgrade", "--memory-only", "--json", "redis-tools").stdout)
        cves = set(upgraded["packages"][0]["cves"])
        assert cves
        document = machine.hotmend("vex").stdout
        rows = [json.loads(line) for line in machine.hotmend("vex", "--json").stdout.splitlines()]
        assert {(row["cve"], row["package"], row["version"], row["status"]) for row in rows} == {
            (cve, "redis-tools", REDIS_OLD, "not_affected") for cve in cves
        }
        packages = machine.run("cat /var/lib/dpkg/status").stdout
        release = machine.run("cat /etc/os-release").stdout
        restarted = machine.run("redis-cli -p 18966 shutdown; redis-server --port 18966 --save '' --daemonize yes")
        assert restarted.returncode == 0
        machine.settle("redis-server", 1)
        assert machine.hotmend("vex").returncode == 3

    root = folder / "root"
    for name, text in {
        "var/lib/dpkg/status": packages,
        "etc/os-release": release,
        "etc/debian_version": "12.12\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    advisories = {name: json.dumps({"FixedVersion": REDIS_NEW}).encode() for name in (*cves, OTHER)}
    write_database(
        folder, {"debian 12": {"redis": advisories}}, {name: {"Severity": "HIGH"} for name in (*cves, OTHER)}
    )
    (folder / "vex.json").write_text(document)
    binary = trivy_binary(folder)
    everything = {(cve, package) for cve in (*cves, OTHER) for package in ("redis-server", "redis-tools")}
    assert scan(folder, binary, root) == everything
    told = scan(folder, binary, root, "--vex", str(folder / "vex.json"))
    assert told == everything - {(cve, "redis-tools") for cve in cves}
