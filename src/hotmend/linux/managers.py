"""What else manages updates on this machine, by the files that each leaves. None of them is asked or changed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_BY_FILES: Final = (
    ("landscape", ("etc/landscape/client.conf",), "its client is configured"),
    ("salt", ("etc/salt/minion", "etc/salt/minion_id", "etc/venv-salt-minion/minion"), "a minion is configured"),
    ("katello", ("etc/rhsm/rhsm.conf",), "its subscription client is configured"),
    ("azure-arc", ("var/opt/azcmagent/agentconfig.json",), "its agent is connected"),
)
_LIVEPATCH: Final = "sys/kernel/livepatch"
_PERIODIC: Final = "apt::periodic::unattended-upgrade"
_PART: Final = re.compile(r"(?!\.)[\w:-]+|(?!\.)[\w.:-]+\.conf", re.ASCII)
"""Names of the files in apt.conf.d that apt reads, apt.conf(5); what ucf or an editor leaves there is none."""

_TOKEN: Final = re.compile(
    r'//[^\n]*|#[^\n]*|/\*.*?\*/|"(?P<quoted>[^"]*)"|(?P<mark>[{};])|(?P<word>[^\s{};"]+)', re.DOTALL
)
_FILE_CHARACTERS_MAX: Final = 1 << 16


def managers(root: Path = Path("/")) -> dict[str, str]:
    """Return what else manages updates here, by the names that facts have for it, each with what was seen of it."""
    found = {name: told for name, files, told in _BY_FILES if any((root / file).exists() for file in files)}
    if (root / "usr/bin/unattended-upgrade").exists():
        found["unattended-upgrades"] = _unattended(root / "etc/apt")
    modules = _names(root / _LIVEPATCH)
    if modules:
        found["kernel-livepatch"] = ", ".join(modules)
    return found


def _unattended(folder: Path) -> str:
    """Return whether it installs by itself; of several settings the last one counts, as for apt."""
    parts = folder / "apt.conf.d"
    files = [*(parts / name for name in _names(parts) if _PART.fullmatch(name)), folder / "apt.conf"]
    said = [value for file in files for name, value in _settings(_text(file)) if name == _PERIODIC]
    by_itself = bool(said) and said[-1] not in ("", "0")
    return "it installs by itself" if by_itself else "it is there, and does not install by itself"


def _settings(text: str) -> Iterator[tuple[str, str]]:
    """Yield names, in small letters, and values of an apt.conf; a name may be written in blocks."""
    scopes, words = [""], list[str]()
    for token in _TOKEN.finditer(text):
        if token["mark"] is None:
            words += [word for word in (token["quoted"], token["word"]) if word is not None]
            continue
        if token["mark"] == "{":
            scopes.append(f"{scopes[-1]}{words[0]}::" if words else scopes[-1])
        elif token["mark"] == "}" and len(scopes) > 1:
            scopes.pop()
        elif token["mark"] == ";" and len(words) > 1:
            yield f"{scopes[-1]}{words[0]}".lower(), words[1]
        words.clear()


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
