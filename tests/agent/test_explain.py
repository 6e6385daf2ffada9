"""`hotmend explain`, `timeline` and `support` on a booted machine whose redis is fixed in memory and then crashes."""

from __future__ import annotations

import io
import json
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.agent.machine import Machine
from tests.agent.test_restarts import NO_RESTARTS, REDIS_NEW, REDIS_OLD

PLANTED = (
    "s3cr3tpass9",
    "t0k3n-of-env",
    "wh1sper-probe",
    "mars7.secret.example",
    "mars7",
    "10.9.8.7",
    "alice",
    "Liddell",
)
SETTINGS = """
[[probe]]
kind = "http"
name = "shop"
url = "http://robot:wh1sper-probe@mars7.secret.example/health"
"""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine(tmp_path / "machine", systemd=True) as begun:
        begun.offer_only("redis-*")
        begun.run(NO_RESTARTS)
        begun.install(f"redis-server={REDIS_OLD}", f"redis-tools={REDIS_OLD}")
        begun.run("sed -i 's/^port .*/port 18964/' /etc/redis/redis.conf; systemctl start redis-server")
        begun.settle("redis-server", 1)
        yield begun


def asked(machine: Machine, *arguments: str) -> Any:
    done = machine.hotmend(*arguments, "--json")
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def test_a_fix_a_unit_and_its_crash(machine: Machine) -> None:
    (old,) = machine.pids("redis-server")
    assert asked(machine, "explain", "redis-server")["was_it_us"] == ""
    upgraded = asked(machine, "upgrade", "--memory-only", "redis-server", "redis-tools")
    cve = next(package["cves"][0] for package in upgraded["packages"] if package["cves"])

    found = asked(machine, "explain", cve)
    (place,) = found["places"]
    assert (place["pid"], place["owner"], place["fixed"]) == (old, "redis-server.service", True)
    assert (place["state"], place["version"]) == ("fixed in memory, old on disk", REDIS_NEW)
    assert place["effective_build_id"] != place["build_id"] == place["disk_build_id"]
    assert place["update"] == f"redis-tools={REDIS_NEW}"
    assert place["audit_lines"]
    assert found["disk"] == [f"/usr/bin/redis-check-rdb: redis-tools {REDIS_OLD}"]
    (same,) = asked(machine, "explain", "/usr/bin/redis-server")["places"]
    assert same["hotpatch"] == place["hotpatch"]
    assert machine.hotmend("explain", "CVE-1999-0001").returncode == 3

    machine.run(f"kill -SEGV {old}")
    limit = time.monotonic() + 30
    while machine.pids("redis-server") in ([], [old]) and time.monotonic() < limit:
        time.sleep(0.1)
    assert old not in machine.settle("redis-server", 1)
    found = asked(machine, "explain", "redis-server")
    assert found["was_it_us"] == "possible"
    assert f"lines {place['audit_lines'][0]}" in found["why"]
    assert any(event["source"] == "units" for event in found["events"])
    gone = asked(machine, "explain", str(old))
    assert (gone["answer"], gone["was_it_us"], gone["places"]) == ("it is gone", "unknown", [])

    lines = [json.loads(line) for line in machine.hotmend("timeline", "--since", "1h", "--json").stdout.splitlines()]
    assert [line["at"] for line in lines] == sorted(line["at"] for line in lines)
    assert {"history", "audit", "units"} <= {line["source"] for line in lines}
    about = machine.hotmend("timeline", "--pid", str(old), "--json").stdout.splitlines()
    assert about
    assert all(old in json.loads(line)["pids"] for line in about)
    after_a_restart(machine, cve)


def after_a_restart(machine: Machine, cve: str) -> None:
    """The crash brought the old file; the next upgrade brings the new one, and a restart by hand starts from there."""
    found = asked(machine, "explain", cve)
    assert (found["was_it_us"], [place["fixed"] for place in found["places"]]) == ("possible", [False])
    assert asked(machine, "upgrade", "redis-server", "redis-tools")["disk_error"] == ""
    before = machine.pids("redis-server")
    time.sleep(3)  # an end within two seconds of an installation counts as the package's doing
    machine.run("systemctl restart redis-server")
    (now,) = machine.settle("redis-server", 1)
    assert now not in before
    found = asked(machine, "explain", cve)
    assert "fixed on the disk, and by a start from there in all 1 places" in found["answer"]
    assert f"it was in memory by redis-tools={REDIS_NEW} from 20" in found["answer"]
    assert (found["was_it_us"], "hotmend asked for nothing" in found["why"]) == ("no", True)
    (place,) = found["places"]
    assert (place["pid"], place["fixed"], place["state"], place["hotpatch"]) == (now, True, "up to date", "")
    assert found["disk"] == [f"/usr/bin/redis-check-rdb: redis-tools {REDIS_NEW}"]


def test_what_is_planted_is_not_in_the_bundle(machine: Machine) -> None:
    machine.run("useradd --create-home --comment 'Alice Liddell' alice")
    machine.run("echo mars7 > /etc/hostname; echo '10.9.8.7 mars7.secret.example mars7' >> /etc/hosts")
    machine.run(f"mkdir -p /etc/hotmend && cat > /etc/hotmend/agent.toml <<'END'\n{SETTINGS}END")
    given = "--port 18965 --requirepass s3cr3tpass9 --set-proc-title no --save '' --daemonize yes --dir /home/alice"
    machine.run(f"TOKEN=t0k3n-of-env redis-server {given}")
    machine.settle("redis-server", 2)
    machine.hotmend("upgrade", "--memory-only", "redis-server", "redis-tools")
    machine.hotmend("hold", "--reason", "mars7 at 10.9.8.7, ask alice: s3cr3tpass9, wh1sper-probe")
    text = machine.run("cat /var/lib/hotmend/agent/history.jsonl").stdout
    assert all(word in text for word in ("mars7", "10.9.8.7", "alice", "s3cr3tpass9", "wh1sper-probe"))

    done = machine.hotmend("support", "-o", "/root/bundle.tar.zst")
    assert done.returncode == 0, done.stderr
    assert machine.run("stat -c %a /root/bundle.tar.zst").stdout == "600\n"
    packed = bytes.fromhex(machine.run("od -An -v -tx1 /root/bundle.tar.zst | tr -d ' \\n'").stdout)
    with tarfile.open(fileobj=io.BytesIO(zstandard.ZstdDecompressor().decompress(packed, 1 << 28))) as archive:
        files = {member.name: archive.extractfile(member) for member in archive.getmembers()}
        contents = {name: file.read().decode() for name, file in files.items() if file is not None}
    for name, content in contents.items():
        assert [word for word in PLANTED if word in content] == [], name
    told = {name.removeprefix("hotmend-support/"): content for name, content in contents.items()}
    assert told["errors.txt"] in ("", "/dev/kmsg: No such file or directory\n")  # such a machine has none
    assert '"redis-server"' in told["status.jsonl"]
    assert "[left out]" in told["configuration.json"]
    assert "user-1" in told["history.jsonl"]
    assert len(told["audit.jsonl"].splitlines()) >= 4
    assert json.loads(told["audit-check.json"])["sound"] is True
    assert "hotmend_alert" in told["metrics.prom"]
