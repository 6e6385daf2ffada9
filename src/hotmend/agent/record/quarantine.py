"""Updates that are not taken on this machine any more, because it suffered from them."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from hotmend.model.errors import InputError

_BYTES_MAX: Final = 16 << 20


class Entry(msgspec.Struct, frozen=True):
    """One update: as the history names it, since when and why, and the PACKAGE=VERSION that it brings."""

    update: str
    at: Annotated[datetime, Meta(tz=True)]
    reason: str
    brings: str = ""


def read_quarantine(file: Path) -> tuple[Entry, ...]:
    """Return what is in quarantine.

    Raises:
        InputError: the file cannot be read: what is in it must not be taken for nothing.
    """
    try:
        with file.open("rb") as stream:
            return msgspec.json.decode(stream.read(_BYTES_MAX), type=tuple[Entry, ...])
    except FileNotFoundError:
        return ()
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: {error}", "put it right; removing it takes every update out of quarantine") from None


def write_quarantine(file: Path, entries: tuple[Entry, ...]) -> None:
    """Put the file there, on the disk, whole or not at all."""
    file.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    new = file.with_name(f"{file.name}.{os.getpid()}")
    with new.open("wb") as stream:
        stream.write(msgspec.json.format(msgspec.json.encode(entries), indent=1) + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(file)


def with_entry(entries: tuple[Entry, ...], entry: Entry) -> tuple[Entry, ...]:
    """Return the entries with one more; an update stands there once, as it came there first."""
    return entries if any(e.update == entry.update for e in entries) else (*entries, entry)


def without(entries: tuple[Entry, ...], update: str) -> tuple[Entry, ...]:
    """Return the entries without an update."""
    return tuple(e for e in entries if e.update != update)
