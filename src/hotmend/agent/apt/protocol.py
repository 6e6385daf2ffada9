"""What apt tells its hooks before it calls dpkg: version 3 of the protocol of `DPkg::Pre-Install-Pkgs`, apt.conf(5)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hotmend.agent.apt.pending import Pending
from hotmend.model.errors import InputError

INPUT_BYTES_MAX: Final = 16 << 20
_FIRST_LINE = "VERSION 3"
_FIELDS = 9
_NONE = "-"


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A package that dpkg is about to unpack over an older version of it, and its .deb."""

    pending: Pending
    file: Path


def parse_upgrades(text: str) -> tuple[Unpacked, ...]:
    """Return what is upgraded; what comes in anew, goes, is the same version again or an older one is left out.

    Raises:
        InputError: it is not that protocol.
    """
    if len(text) > INPUT_BYTES_MAX:
        raise InputError(f"apt said more than {INPUT_BYTES_MAX} bytes")
    first, _, rest = text.partition("\n")
    _, blank, actions = rest.partition("\n\n")
    if rest.startswith("\n"):  # no configuration at all
        actions, blank = rest[1:], "\n\n"
    if first != _FIRST_LINE or not blank:
        raise InputError(
            f"apt does not speak version 3 of its protocol for hooks, but {first[:40]!r}", "run hotmend apt-hook on"
        )
    rows = (_upgrade(line) for line in actions.splitlines() if line)
    return tuple(row for row in rows if row is not None)


def _upgrade(line: str) -> Unpacked | None:
    fields = line.split(None, _FIELDS - 1)
    if len(fields) != _FIELDS:
        raise InputError(f"apt said of a package: {line[:200]!r}")
    package, old, architecture, _, direction, new, _, _, action = fields
    if direction != "<" or _NONE in (old, new) or action.startswith("**"):
        return None
    return Unpacked(Pending(package, architecture, old, new, ()), Path(action))
