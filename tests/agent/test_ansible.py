"""The Ansible role, run by ansible-playbook on a booted machine."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.agent.machine import Machine
from tests.agent.package import PACKAGING
from tests.repository.kit import CHANNEL as CHANNEL_NAME
from tests.repository.kit import World

pytestmark = [pytest.mark.servers, pytest.mark.slow]

BEGIN = datetime(2026, 11, 29, tzinfo=UTC)
ROLES = PACKAGING / "ansible" / "roles"
PLAY = """
- hosts: all
  gather_facts: false
  roles:
    - role: hotmend
      vars:
        hotmend_deb: {package}
        hotmend_never_units: [payments.service]
        hotmend_probe_addresses: [192.0.2.10]
        hotmend_windows:
          - {{ name: night, rule: "FREQ=WEEKLY;BYDAY=TU,TH", start: "2026-01-06T02:00:00", minutes: 120 }}
        hotmend_freezes:
          - {{ name: "the \\"end\\"", first: "2026-12-20", last: "2027-01-06", yearly: true }}
        hotmend_probes:
          - {{ kind: tcp, name: redis, port: 18492 }}
"""
CHANNEL = {"address": "/srv/channel", "name": CHANNEL_NAME}
CONFIGURATION = """
import json, pathlib, msgspec
from hotmend.agent.configuration import read_configuration
print(msgspec.json.encode(read_configuration(pathlib.Path("/etc/hotmend/agent.toml"))).decode())
"""


@pytest.fixture
def machine(tmp_path: Path, package: Path) -> Iterator[Machine]:
    root = World(tmp_path / "channel", BEGIN).make_keys().found().first_root
    with Machine(tmp_path / "machine", systemd=True) as begun:
        begun.run(f"mkdir /root/play && cp -r {ROLES} /root/play/roles")
        begun.run(f"cat > /root/play/root.json <<'END'\n{root.decode()}\nEND\ntruncate -s -1 /root/play/root.json")
        begun.run(f"cat > /root/play/play.yml <<'END'\n{PLAY.format(package=package)}END")
        yield begun


def play(machine: Machine, *arguments: str, good: bool = True) -> dict[str, int]:
    """Run the role; return its counts."""
    command = f"ansible-playbook -i localhost, -c local play.yml {' '.join(arguments)}"
    done = machine.run(f"cd /root/play && env -u PYTHONPATH {command}", check=False)
    assert (done.returncode == 0) == good, done.stdout[-3000:] + done.stderr[-1000:]
    recap = done.stdout[done.stdout.index("PLAY RECAP") :]
    return {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", recap)}


def gone(machine: Machine, path: str) -> bool:
    return machine.run(f"test -e {path}", check=False).returncode == 1


@pytest.mark.long
def test_installs_configures_and_leaves(machine: Machine) -> None:
    assert play(machine, "--check")["changed"]
    assert gone(machine, "/usr/bin/hotmend")
    assert gone(machine, "/etc/hotmend")

    channel = shlex.quote(json.dumps({"hotmend_channel": CHANNEL, "hotmend_channel_root": "root.json"}))
    wanted = f"-e hotmend_mode=notify -e hotmend_apt_hook=true -e {channel}"
    assert play(machine, wanted)["changed"]
    found = json.loads(machine.run(f"/usr/lib/hotmend/bin/python3 -I -c '{CONFIGURATION}'").stdout)
    assert (found["mode"], found["never_units"], found["channel"]["name"]) == (
        "notify",
        ["payments.service"],
        CHANNEL_NAME,
    )
    assert [window["name"] for window in found["maintenance"]["window"]] == ["night"]
    assert [freeze["name"] for freeze in found["maintenance"]["freeze"]] == ['the "end"']
    assert found["probe"][0]["port"] == 18492
    assert machine.run("systemctl is-active hotmend-agent hotmend-fetch").stdout == "active\nactive\n"
    assert "192.0.2.10" in machine.run("systemctl show --property=IPAddressAllow hotmend-agent").stdout
    assert not gone(machine, "/etc/apt/apt.conf.d/99hotmend")
    trusted = "/var/lib/hotmend/channel/trusted-root.json"
    assert machine.run(f"cmp /root/play/root.json {trusted}").returncode == 0

    assert play(machine, wanted)["changed"] == 0
    assert play(machine, "-e hotmend_mode=nonsense", good=False)["failed"] == 1
    assert machine.run("grep ^mode /etc/hotmend/agent.toml").stdout == 'mode = "notify"\n'

    assert play(machine, "-e hotmend_mode=observe")["changed"]
    assert gone(machine, "/etc/apt/apt.conf.d/99hotmend")
    assert machine.run("systemctl is-active hotmend-fetch", check=False).stdout == "inactive\n"
    leave = "-e hotmend_state=purged -e hotmend_revert=true"
    assert play(machine, leave)["changed"]
    assert gone(machine, "/usr/bin/hotmend")
    assert gone(machine, "/etc/hotmend")
    assert play(machine, leave)["changed"] == 0


def test_ansible_lint_has_nothing_to_say() -> None:
    done = subprocess.run(
        ["ansible-lint", "--offline", "--strict", "roles/hotmend"],
        cwd=PACKAGING / "ansible",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
