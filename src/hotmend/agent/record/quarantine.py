"""Updates that are not taken on this machine any more, because it suffered from them."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from hotmend.agent.record.history import Action, AnyEvent, Quarantined
from hotmend.model.errors import InputError

_BYTES_MAX: Final = 16 << 20


class Entry(msgspec.Struct, frozen=True):
    """One update that is kept away.

    Attributes:
        update: as the history names it, or as whoever keeps it away does: PACKAGE=VERSION, a release, its file, or
            the id of a hotpatch.
        at, reason: since when, and why.
        brings: PACKAGE=VERSION; "" where who wrote it did not know (`packages_meant`).
    """

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


def packages_meant(entries: Iterable[Entry], events: Iterable[AnyEvent]) -> dict[str, tuple[Entry, ...]]:
    """Return every update that is kept away, and by which entries: by all its names, PACKAGE=VERSION among them.

    Who takes something back knows the ids of hotpatches, a server the name of a release; apt knows neither. What they
    were parts of is in the history.

    Args:
        entries: of the quarantine.
        events: of the history.
    """
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        for name in {entry.update, entry.brings} - {""}:
            found.setdefault(name, []).append(entry)
    named = {entry.update: entry for entry in entries}
    for event in events if named else ():
        if isinstance(event, Action):
            for name in {event.update, event.brings, event.release, *event.hotpatches} & named.keys():
                for other in {event.update, event.brings} - {""}:
                    if named[name] not in (by := found.setdefault(other, [])):
                        by.append(named[name])
    return {name: tuple(by) for name, by in found.items()}


def put_in(file: Path, new: Iterable[Entry], record: Callable[[Quarantined], None]) -> tuple[Entry, ...]:
    """Keep updates away from now on; return those that were not there before, each with its line in the history.

    Raises:
        InputError: the quarantine cannot be read.
        OSError: it cannot be written.
        HotmendError: the history cannot.
    """
    with _changing(file):
        before = read_quarantine(file)
        entries = {entry.update: entry for entry in before}
        for entry in new:
            if entry.update not in entries:
                record(Quarantined(update=entry.update, reason=entry.reason))
                entries[entry.update] = entry
        added = tuple(entries.values())[len(before) :]
        if added:
            write_quarantine(file, (*before, *added))
    return added


def take_out(
    file: Path, names: Iterable[str], events: Iterable[AnyEvent], reason: str, record: Callable[[Quarantined], None]
) -> tuple[Entry, ...]:
    """Have updates taken again; return the entries that went, each with its line in the history.

    PACKAGE=VERSION, or a release, stands for what came by it, by whatever name that was put there. It does not stand
    for a release with other updates in it: that one has to be named.

    Args:
        file: of the quarantine.
        names: of updates, as `packages_meant` has them, releases, and ids of hotpatches.
        events: of the history.
        reason: for people.
        record: writes a line.

    Raises:
        as `put_in`.
    """
    asked = set(names)
    wanted = asked | {
        name
        for event in events
        if isinstance(event, Action) and not asked.isdisjoint({event.update, event.brings, event.release})
        for name in (event.update, *event.hotpatches)
    }
    with _changing(file):
        entries = read_quarantine(file)
        gone = tuple(entry for entry in entries if entry.update in wanted or entry.brings in asked)
        for entry in gone:
            record(Quarantined(update=entry.update, reason=reason, lifted=True))
        if gone:
            write_quarantine(file, tuple(entry for entry in entries if entry not in gone))
    return gone


@contextlib.contextmanager
def _changing(file: Path) -> Iterator[None]:
    """Keep others from changing it between reading and writing: who takes back by hand waits for no run.

    Raises:
        OSError: its folder cannot be written.
    """
    file.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    descriptor = os.open(file.with_name(f"{file.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # a child that was made meanwhile has it open, too
        os.close(descriptor)


def write_quarantine(file: Path, entries: tuple[Entry, ...]) -> None:
    """Put the file there, on the disk, whole or not at all."""
    file.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    new = file.with_name(f"{file.name}.{os.getpid()}")
    with new.open("wb") as stream:
        stream.write(msgspec.json.format(msgspec.json.encode(entries), indent=1) + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(file)
