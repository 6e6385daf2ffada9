"""Garbage: files that nothing in force refers to any more, after a time of grace for machines that are downloading."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from hotmend.repository import layout
from hotmend.repository.layout import ROOT, SNAPSHOT, TARGETS
from hotmend.repository.state import PUBLIC, State, metadata_name, state_load, target_name
from hotmend.repository.store import Store

_VERSIONED: Final = re.compile(r"[1-9][0-9]*\.[a-z0-9.-]+\.json")


def garbage_collect(store: Store, grace: timedelta, now: datetime) -> tuple[str, ...]:
    """Delete files of targets and old versions of metadata that nothing in force names; return their names.

    Roots stay for good: a machine that was off for years follows them one by one. A file counts as young from when it
    was written, or from when this saw for the first time that nothing names it, whichever is later: a list of what is
    doomed, beside the public folder, remembers that.

    Raises:
        HotmendError: another publisher is at work, or a file cannot be deleted.
        InputError: the repository does not verify; nothing is deleted.
    """
    with store.lock():
        state = state_load(store)
        if state is None or state.torn:
            return ()
        store.sweep()
        useful = _useful(state)
        doomed = _doomed_since(store)
        found = {name for name in _names(store) if name not in useful}
        since = {name: doomed.get(name, now) for name in found}
        gone = tuple(sorted(name for name, when in since.items() if now - when >= grace))
        for name in gone:
            store.remove(name)
        _doomed_write(store, {name: when for name, when in since.items() if name not in gone})
        return gone


def _useful(state: State) -> frozenset[str]:
    named = {metadata_name(role, state.role(role).signed.version) for role in (TARGETS, SNAPSHOT, *state.delegated)}
    for role in state.delegated.values():
        named |= {target_name(path, target.hashes["sha256"]) for path, target in role.signed.targets.items()}
    return frozenset(named)


def _names(store: Store) -> list[str]:
    """Return all files that could be garbage."""
    public = store.root / PUBLIC
    versions = [path for path in (public / layout.METADATA_FOLDER).glob("*.json") if _VERSIONED.fullmatch(path.name)]
    roots = re.compile(rf"[0-9]+\.{ROOT}\.json")
    files = [path for path in (public / layout.TARGETS_FOLDER).rglob("*") if path.is_file()]
    kept: list[Path] = [path for path in versions if not roots.fullmatch(path.name)]
    return [str(path.relative_to(store.root)) for path in (*kept, *files)]


_DOOMED: Final = "doomed"
_DOOMED_BYTES_MAX: Final = 64 << 20


def _doomed_since(store: Store) -> dict[str, datetime]:
    if not store.exists(_DOOMED):
        return {}
    lines = store.read(_DOOMED, _DOOMED_BYTES_MAX).decode("utf-8", "replace").splitlines()
    rows = (line.partition(" ") for line in lines)
    try:
        return {name: datetime.fromisoformat(when) for when, _, name in rows}
    except ValueError:
        return {}  # whatever was written there, the time of grace begins anew


def _doomed_write(store: Store, since: dict[str, datetime]) -> None:
    text = "".join(f"{when.isoformat()} {name}\n" for name, when in sorted(since.items()))
    store.write(_DOOMED, text.encode())
