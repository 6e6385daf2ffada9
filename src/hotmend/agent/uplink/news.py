"""Whether there is something new since: asked often by what stays in memory, so it loads nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hotmend.agent.paths import Places


def letter_name(places: Places) -> str:
    """Return a name that changes with what a letter asks for; "" where there is none."""
    return _name(places.orders)


def states_name(places: Places) -> str:
    """Return a name that changes with the states that are to be told to the server; "" where there are none."""
    return _name(places.states)


def whole_name(places: Places) -> str:
    """Return a name that changes with the bundles that are needed whole (`agent.old_images`); "" for none."""
    try:
        with places.old_builds.open("r", encoding="ascii") as file:
            return file.readline()
    except (OSError, UnicodeDecodeError):
        return ""


def note_name(file: Path, name: str) -> None:
    """Write a name down."""
    new = file.with_name(f".{file.name}")
    new.write_text(name, "ascii")
    if sys.platform != "win32" and os.geteuid() == 0:
        owner, own = file.parent.stat(), new.stat()
        if (owner.st_uid, owner.st_gid) != (own.st_uid, own.st_gid):
            os.chown(new, owner.st_uid, owner.st_gid)
    new.replace(file)


def _name(file: Path) -> str:
    try:
        return file.read_text("ascii")[:200]
    except (OSError, UnicodeDecodeError):
        return ""
