"""The Debian package: what it holds, that it is the same wherever it is built, and what lintian says of it."""

from __future__ import annotations

import hashlib
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from hotmend import __version__
from hotmend.agent.configuration import parse_configuration
from hotmend.linux.outside import VARIABLE, outside
from tests.agent.machine import ROOT
from tests.agent.package import PACKAGING, build

DEBIAN = PACKAGING / "debian"
SHIPPED = (DEBIAN / "agent.toml").read_text("utf-8")
LIBRARIES = "usr/lib/hotmend/lib/python3.11/site-packages"


def test_the_shipped_configuration_observes() -> None:
    found = parse_configuration(SHIPPED, "agent.toml")
    assert (found.mode, found.observe_days, found.reboot, found.restart) == ("observe", 7, "never", False)


def test_what_it_shows_as_comments_can_be_used() -> None:
    found = parse_configuration(re.sub(r"(?m)^#(?=\[|\w+ = )", "", SHIPPED), "agent.toml")
    assert found.channel is not None
    assert [window.name for window in found.maintenance.window] == ["Sunday morning"]
    assert [freeze.name for freeze in found.maintenance.freeze] == ["end of the year"]
    assert len(found.probe) == 2


def test_the_versions_agree() -> None:
    assert (DEBIAN / "changelog").read_text().startswith(f"hotmend ({__version__}) ")


def test_every_library_it_needs_is_locked() -> None:
    """And nothing of the optional parts."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = (PACKAGING / "requirements.txt").read_text("utf-8").splitlines()[1:]
    locked = {line.partition("==")[0] for line in lines}
    names = {re.split(r"[\[<>=;]", one)[0] for one in project["dependencies"] if "sys_platform == 'win32'" not in one}
    assert names <= locked
    others = {re.split(r"[\[<>=;]", one)[0] for one in project["optional-dependencies"]["publisher"]}
    assert not (others - names) & locked
    assert all(re.fullmatch(r"[a-z0-9.-]+==\S+ --hash=sha256:[0-9a-f]{64}", line) for line in lines)


def test_the_agent_is_not_filtered() -> None:
    """Any of these gives it a seccomp filter, and the kernel then shows it no other process's."""
    unit = (DEBIAN / "hotmend.hotmend-agent.service").read_text()
    forbidden = (
        "SystemCall", "MemoryDeny", "Restrict", "LockPersonality", "PrivateDevices", "ProtectKernel", "ProtectClock",
        "ProtectHostname", "PrivateUsers", "ProcSubset",
    )  # fmt: skip
    assert not [line for line in unit.splitlines() if line.startswith(forbidden) and "RestartSec" not in line]


def test_outside_of_a_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert outside(["apt-get", "update"], {"A": "b"}, seconds_max=3, directory="/x") == ["apt-get", "update"]
    monkeypatch.setenv(VARIABLE, "systemd-run")
    made = outside(["apt-get", "update"], {"A": "b c"}, directory="/x")
    assert made[0] == "systemd-run"
    assert made[-3:] == ["--", "apt-get", "update"]
    assert {"--wait", "--pipe", "--setenv=A=b c", "--working-directory=/x", "--property=KillMode=process"} <= set(made)
    assert outside(["sh", "-c", "echo $$ $A"], {})[-3:] == ["sh", "-c", "echo $$$$ $$A"]  # it has variables of its own
    limited = outside(["true"], {}, seconds_max=2.5)
    assert "--property=RuntimeMaxSec=3.5" in limited
    assert "--property=KillMode=process" not in limited


@pytest.mark.long
@pytest.mark.archive
def test_twice_the_same_bytes(package: Path, tmp_path: Path) -> None:
    """From another folder, with other times of files."""
    again = build(tmp_path / "out", tmp_path / "another")
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(package.read_bytes()).digest()


@pytest.mark.long
@pytest.mark.archive
def test_lintian_has_nothing_to_say(package: Path) -> None:
    done = subprocess.run(
        ["lintian", "--allow-root", "--fail-on=error,warning", package], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.slow
@pytest.mark.archive
def test_what_is_in_it(package: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    subprocess.run(["dpkg-deb", "--raw-extract", package, root], check=True)
    libraries = root / LIBRARIES
    assert (root / "DEBIAN" / "conffiles").read_text() == "/etc/hotmend/agent.toml\n"
    assert (libraries / "hotmend/linux/libwindow.so").exists()
    names = [str(path.relative_to(root)) for path in root.rglob("*")]
    assert not [name for name in names if name.endswith((".pyc", "RECORD", "direct_url.json", "INSTALLER"))]
    places = (bytes(ROOT), bytes(package.parent))
    for path in (path for path in root.rglob("*") if path.is_file() and not path.is_symlink()):
        content = path.read_bytes()
        assert not [place for place in places if place in content], path
    told = (root / "usr/share/doc/hotmend/copyright").read_text()
    for info in libraries.glob("*.dist-info"):
        assert info.name.startswith("hotmend-") or f"/{info.name.partition('-')[0]}*" in told
