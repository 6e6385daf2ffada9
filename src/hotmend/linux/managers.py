"""What else manages updates on this machine, by the files that each leaves. None of them is asked or changed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_BY_FILES: Final = (
    ("landscape", ("etc/landscape/client.conf",), "its client is configured"),
    ("salt", ("etc/salt/minion", "etc/salt/minion_id", "etc/venv-salt-minion/minion"), "a minion is configured"),
    ("katello", ("etc/rhsm/rhsm.conf",), "its subscription client is configured"),
    ("azure-arc", ("var/opt/azcmagent/agentconfig.json",), "its agent is connected"),
)
_LIVEPATCH: Final = "sys/kernel/livepatch"
_PERIODIC: Final = re.compile(r'^\s*APT::Periodic::Unattended-Upgrade\s+"([^"]*)"\s*;', re.MULTILINE)
_FILE_CHARACTERS_MAX: Final = 1 << 16


def managers(root: Path = Path("/")) -> dict[str, str]:
    """Return what else manages updates here, by the names that facts have for it, each with what was seen of it."""
    found = {name: told for name, files, told in _BY_FILES if any((root / file).exists() for file in files)}
    if (root / "usr/bin/unattended-upgrade").exists():
        found["unattended-upgrades"] = _unattended(root / "etc/apt/apt.conf.d")
    modules = _names(root / _LIVEPATCH)
    if modules:
        found["kernel-livepatch"] = ", ".join(modules)
    return found


def _unattended(folder: Path) -> str:
    """Return whether it installs by itself; of several settings the last one counts, as for apt."""
    said = [value for name in _names(folder) for value in _PERIODIC.findall(_text(folder / name))]
    by_itself = bool(said) and said[-1] not in ("", "0")
    return "it installs by itself" if by_itself else "it is there, and does not install by itself"


def _names(folder: Path) -> list[str]:
    try:
        return sorted(each.name for each in folder.iterdir())
    except OSError:
        return []


def _text(file: Path) -> str:
    try:
        with file.open(encoding="utf-8", errors="replace") as stream:
            return stream.read(_FILE_CHARACTERS_MAX)
    except OSError:
        return ""
