"""Which boot of the machine this is."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_FILE: Final = "proc/sys/kernel/random/boot_id"
_CHARACTERS_MAX: Final = 64


def boot_id(root: Path = Path("/")) -> str:
    """Return the kernel's id of this boot; "" where it tells none."""
    try:
        return (root / _FILE).read_text("utf-8", "replace").strip()[:_CHARACTERS_MAX]
    except OSError:
        return ""
