"""What else manages updates on a Linux machine is recognised by its files, and nothing where there are none."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from hotmend.linux.managers import managers
from hotmend.servicing.facts import Manager

PERIODIC = "etc/apt/apt.conf.d/20auto-upgrades"
BY_ITSELF, NOT_BY_ITSELF = "it installs by itself", "it is there, and does not install by itself"


def _put(root: Path, path: str, text: str = "") -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_a_machine_without_any_has_none(tmp_path: Path) -> None:
    _put(tmp_path, PERIODIC, 'APT::Periodic::Unattended-Upgrade "1";\n')  # what is not installed does nothing
    assert managers(tmp_path) == {}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("etc/landscape/client.conf", "landscape"),
        ("etc/salt/minion", "salt"),
        ("etc/venv-salt-minion/minion", "salt"),
        ("etc/rhsm/rhsm.conf", "katello"),
        ("var/opt/azcmagent/agentconfig.json", "azure-arc"),
        ("sys/kernel/livepatch/lp_5_10/enabled", "kernel-livepatch"),
    ],
)
def test_each_is_recognised_by_its_files(tmp_path: Path, path: str, name: str) -> None:
    _put(tmp_path, path)
    assert list(managers(tmp_path)) == [name]
    assert name in get_args(Manager)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, NOT_BY_ITSELF),
        ({"20auto-upgrades": 'APT::Periodic::Unattended-Upgrade "1";'}, BY_ITSELF),
        ({"20auto-upgrades": 'APT::Periodic::Unattended-Upgrade "0";'}, NOT_BY_ITSELF),
        (
            {
                "20auto-upgrades": 'APT::Periodic::Unattended-Upgrade "0";',
                "20auto-upgrades.ucf-dist": 'APT::Periodic::Unattended-Upgrade "1";',
                "50unattended-upgrades.bak": 'APT::Periodic::Unattended-Upgrade "1";',
                "99on~": 'APT::Periodic::Unattended-Upgrade "1";',
            },
            NOT_BY_ITSELF,
        ),
        ({"10periodic.conf": 'apt::Periodic {\n Enable "1"; Unattended-Upgrade "1"; # by itself\n};'}, BY_ITSELF),
        ({"10periodic": 'APT { Periodic { Unattended-Upgrade "1"; }; Other "x"; };'}, BY_ITSELF),
        ({"10periodic": 'APT { Periodic { Enable "1"; }; Unattended-Upgrade "1"; };'}, NOT_BY_ITSELF),
        ({"10periodic": '/* APT::Periodic::Unattended-Upgrade "1"; */ # APT::Periodic {'}, NOT_BY_ITSELF),
        (
            {
                "99on": 'APT::Periodic::Unattended-Upgrade "1";',
                "../apt.conf": 'APT::Periodic::Unattended-Upgrade "0";',
            },
            NOT_BY_ITSELF,
        ),
        ({"20auto-upgrades": '// APT::Periodic::Unattended-Upgrade "1";'}, NOT_BY_ITSELF),
        (
            {
                "20auto-upgrades": 'APT::Periodic::Unattended-Upgrade "1";',
                "99off": 'APT::Periodic::Unattended-Upgrade "0";',
            },
            NOT_BY_ITSELF,
        ),
    ],
)
def test_of_unattended_upgrades_it_is_told_whether_it_installs(
    tmp_path: Path, files: dict[str, str], told: str
) -> None:
    _put(tmp_path, "usr/bin/unattended-upgrade")
    for name, text in files.items():
        _put(tmp_path, f"etc/apt/apt.conf.d/{name}", text)
    assert managers(tmp_path) == {"unattended-upgrades": told}
