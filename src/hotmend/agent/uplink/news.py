"""Whether the server has asked for something since: asked often by what stays in memory, so it loads nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hotmend.agent.paths import Places


def letter_name(places: Places) -> str:
    """Return a name that changes with what a letter asks for; "" where there is none."""
    try:
        return places.orders.read_text("ascii")[:200]
    except (OSError, UnicodeDecodeError):
        return ""


def note_letter(file: Path, name: str) -> None:
    """Write the name down."""
    new = file.with_name(f".{file.name}")
    new.write_text(name, "ascii")
    if sys.platform != "win32" and os.geteuid() == 0:
        owner = file.parent.stat()
        os.chown(new, owner.st_uid, owner.st_gid)
    new.replace(file)
