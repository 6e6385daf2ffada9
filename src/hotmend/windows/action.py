"""Actions and their record: what will be done is on disk before it is done, and outlives a reboot between two steps.

One file for each action, replaced as a whole; beside it the registration files exported before the first change.
"""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import msgspec

from hotmend.model.errors import InputError
from hotmend.windows.regfile import encode_reg
from hotmend.windows.registry import Machine, Registry, Value

RECORD_BYTES_MAX: Final = 4 << 20

State = Literal["running", "awaiting-reboot", "done", "undone", "failed"]


class Change(msgspec.Struct, frozen=True):
    """One value that an action changes.

    Attributes:
        key, name: which.
        before: what it was; None for absent.
        after: what it is to be; None for absent.
        at: when it was written; on record just before.
    """

    key: str
    name: str
    before: Value | None
    after: Value | None
    at: datetime


class Event(msgspec.Struct, frozen=True):
    """Something that happened, in words."""

    at: datetime
    what: str


class Action(msgspec.Struct, frozen=True):
    """One action on this machine.

    Attributes:
        id: `NNNN-SUBJECT`, the name of its file.
        subject: a remedy, or `rollback`.
        state: where it stands.
        began_at: when.
        changes: values, in the order in which they are changed.
        exports: registration files of the keys as they were.
        events: in the order in which they happened.
        reboot_after: the next boot must be later than this; None where none is waited for.
        details: what the subject needs to go on, by name.
    """

    id: str
    subject: str
    state: State
    began_at: datetime
    changes: tuple[Change, ...] = ()
    exports: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()
    reboot_after: datetime | None = None
    details: dict[str, str] = msgspec.field(default_factory=dict)

    def happened(self, at: datetime, what: str) -> Action:
        """Return the action with one event more."""
        return msgspec.structs.replace(self, events=(*self.events, Event(at, what)))


class Actions:
    """The records of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def all(self) -> tuple[Action, ...]:
        """Return all actions, oldest first.

        Raises:
            InputError: a record is damaged; nothing is done on a machine whose past is not known.
        """
        found = (path for path in self.folder.glob("*.json") if re.match(r"\d{4,}-", path.name))
        return tuple(_load(path) for path in sorted(found))

    def last(self, subject: str) -> Action | None:
        """Return the newest action on a subject that was not undone."""
        return next((a for a in reversed(self.all()) if a.subject == subject and a.state != "undone"), None)

    def begin(self, subject: str, at: datetime, **details: str) -> Action:
        """Return a new action; it is on disk already."""
        number = max((int(action.id.partition("-")[0]) for action in self.all()), default=0) + 1
        action = Action(f"{number:04d}-{subject}", subject, "running", at, details=details)
        return self.save(action.happened(at, "begun"))

    def save(self, action: Action) -> Action:
        """Write an action and return it. It is on disk when this returns."""
        self._write(f"{action.id}.json", msgspec.json.format(msgspec.json.encode(action)))
        return action

    def export(self, action: Action, machine: Machine, keys: tuple[str, ...]) -> Action:
        """Export keys with everything below them, as they are now; an absent key has no file but an event."""
        for number, key in enumerate(dict.fromkeys(keys), len(action.exports) + 1):
            tree = key_tree(machine, key)
            if not tree:
                action = action.happened(machine.now(), f"{key} is absent; nothing to export")
                continue
            name = f"{action.id}.{number}.reg"
            self._write(name, encode_reg(tree))
            action = msgspec.structs.replace(action, exports=(*action.exports, name))
        return self.save(action)

    def _write(self, name: str, data: bytes) -> None:
        """Replace a file as a whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path, half = self.folder / name, self.folder / f"{name}.new"
        with half.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)


def key_tree(registry: Registry, key: str) -> dict[str, dict[str, Value]]:
    """Return a key and all below it, with their values; empty where the key is absent."""
    values = registry.values(key)
    if values is None:
        return {}
    tree = {key: values}
    for name in registry.subkeys(key) or ():
        tree |= key_tree(registry, f"{key}\\{name}")
    return tree


def _load(path: Path) -> Action:
    if path.stat().st_size > RECORD_BYTES_MAX:
        raise InputError("{source}: larger than {limit} bytes", source=str(path), limit=RECORD_BYTES_MAX)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Action)
    except msgspec.DecodeError as error:
        raise InputError(
            "{source}: {why}",
            "the record is damaged; its exports are in the same folder",
            source=str(path),
            why=str(error),
        ) from error
