"""Whether there is something new since: asked often by what stays in memory, so it loads nothing.

The part that acts looks into a folder of the part with a network, and root may write there by hand: what is not a small
plain file is neither read nor written through.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Final

from hotmend.agent.paths import Places

if sys.platform == "win32":
    SAFE: Final = os.O_BINARY | os.O_NOINHERIT
else:
    SAFE: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""How files in such a folder are opened: no link is followed, and nobody is waited for."""

_NAME_BYTES_MAX: Final = 200


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
    new = file.with_name(f".{file.name}.{os.getpid()}")
    with os.fdopen(opened_new(new, 0o644), "w", encoding="ascii") as stream:
        stream.write(name)
    new.replace(file)


def opened_new(file: Path, mode: int) -> int:
    """Make a file and open it for writing: it belongs to whom its folder belongs, as root may do the other's work.

    Raises:
        OSError: it cannot be made, or somebody makes another one at that moment.
    """
    file.unlink(missing_ok=True)  # of one that was killed
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFE, mode)
    if sys.platform != "win32" and os.geteuid() == 0:
        owner, own = file.parent.stat(), os.fstat(descriptor)
        if (owner.st_uid, owner.st_gid) != (own.st_uid, own.st_gid):
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
    return descriptor


def _name(file: Path) -> str:
    try:
        with os.fdopen(os.open(file, os.O_RDONLY | SAFE), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                return ""
            return stream.read(_NAME_BYTES_MAX).decode("ascii")
    except (OSError, UnicodeDecodeError):
        return ""
