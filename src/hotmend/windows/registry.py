"""Values of the registry, and what can be asked of a machine. Keys are written with `HKLM` in front."""

from __future__ import annotations

import importlib
import struct
import sys
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import Protocol, Self, cast

import msgspec

from hotmend.model.errors import InputError, UsageError

VALUE_BYTES_MAX = 1 << 20


class Kind(IntEnum):
    """The types of values that are written here; others are read and exported as they are."""

    SZ = 1
    EXPAND_SZ = 2
    BINARY = 3
    DWORD = 4
    MULTI_SZ = 7
    QWORD = 11


class Value(msgspec.Struct, frozen=True):
    """One value: its type and its bytes as the registry holds them.

    Attributes:
        kind: `Kind`, or another type's number.
        data: strings are UTF-16-LE and end in a zero; numbers are little-endian.
    """

    kind: int
    data: bytes

    @classmethod
    def dword(cls, number: int) -> Self:
        """Return a REG_DWORD."""
        return cls(Kind.DWORD, struct.pack("<I", number))

    @classmethod
    def text(cls, text: str, kind: Kind = Kind.SZ) -> Self:
        """Return a REG_SZ or REG_EXPAND_SZ."""
        return cls(kind, f"{text}\0".encode("utf-16-le"))

    @property
    def number(self) -> int | None:
        """The number that a REG_DWORD or REG_QWORD holds; None for other types and for damaged values."""
        size = {Kind.DWORD: 4, Kind.QWORD: 8}.get(Kind(self.kind)) if self.kind in set(Kind) else None
        return int.from_bytes(self.data, "little") if size == len(self.data) else None

    @property
    def string(self) -> str | None:
        """The text that a REG_SZ or REG_EXPAND_SZ holds; None for other types."""
        if self.kind not in {Kind.SZ, Kind.EXPAND_SZ}:
            return None
        return self.data.decode("utf-16-le", "replace").partition("\0")[0]

    @property
    def strings(self) -> tuple[str, ...] | None:
        """The texts of a REG_MULTI_SZ; None for other types."""
        if self.kind != Kind.MULTI_SZ:
            return None
        return tuple(text for text in self.data.decode("utf-16-le", "replace").split("\0") if text)

    def shown(self) -> str:
        """Return the value as a person reads it."""
        for found in (self.number, self.string, self.strings):
            if found is not None:
                return ", ".join(found) if isinstance(found, tuple) else str(found)
        return self.data.hex(" ")


class Service(msgspec.Struct, frozen=True):
    """A service of Windows: `running` is False only where it is stopped entirely."""

    name: str
    running: bool


class Ran(msgspec.Struct, frozen=True):
    """What a program of the system said: its exit code, and what it wrote, standard error after standard output."""

    code: int
    text: str


class Registry(Protocol):
    """The registry of a machine, its 64-bit view. Absent keys are None, never an error.

    Raises (all methods):
        PermissionRefusedError: this user may not.
        SystemCallError: anything else that Windows answers.
    """

    def values(self, key: str) -> dict[str, Value] | None:
        """Return all values of a key; the default value is ''."""

    def subkeys(self, key: str) -> tuple[str, ...] | None:
        """Return the names of the keys below one."""

    def written_at(self, key: str) -> datetime | None:
        """Return when a value of the key was last written."""

    def write(self, key: str, name: str, value: Value) -> None:
        """Write one value. A key that is absent is created; one that exists keeps everything it has."""

    def remove(self, key: str, name: str) -> None:
        """Remove one value; nothing happens where it is absent. There is no way to remove a key."""


class Machine(Registry, Protocol):
    """What else is asked of Windows."""

    def now(self) -> datetime:
        """Return the time, in UTC."""

    def booted_at(self) -> datetime:
        """Return when the kernel started; 'fast startup' resumes it and changes nothing."""

    def service(self, name: str) -> Service | None:
        """Return a service, or None where there is none of this name."""

    def stop_service(self, name: str, seconds_max: float) -> None:
        """Stop a service and wait until it has stopped.

        Raises:
            SystemCallError: it did not stop in time.
        """

    def run(self, arguments: tuple[str, ...], seconds_max: float) -> Ran:
        """Run a program of the system and return what it said.

        Raises:
            FileNotFoundError: there is no such program.
            TimeoutError: it took longer; it was ended.
        """

    def reboot(self, seconds: int, why: str) -> None:
        """Order a reboot that people who are logged on can still see coming.

        Raises:
            SystemCallError: Windows refused it; one that is ordered already counts as ordered.
        """

    def keep_private(self, folder: Path) -> None:
        """Make a folder that is for the system and administrators alone, with all that is put into it.

        Raises:
            PermissionRefusedError: this user is no administrator.
        """

    def folder(self, variable: str) -> str | None:
        """Return a folder that an environment variable names, such as `SystemRoot`."""


def local_machine() -> Machine:
    """Return this machine.

    Raises:
        UsageError: this is not Windows, or pywin32 is missing.
    """
    platform: str = sys.platform
    if platform != "win32":
        raise UsageError("this works on a Windows machine only", "run it there; FACTS.json can be judged anywhere")
    try:
        return cast("Machine", importlib.import_module("hotmend.windows.winapi").LocalMachine())
    except ImportError as error:
        raise UsageError(
            "this Python lacks {name}", "run {command}", name=error.name, command="python -m pip install pywin32"
        ) from error


def value_or_none(registry: Registry, key: str, name: str) -> Value | None:
    """Return one value; names are compared as Windows does, without regard to case."""
    for found, value in (registry.values(key) or {}).items():
        if found.lower() == name.lower():
            return value
    return None


def check_key(key: str) -> str:
    """Return `key` if it is one of the local machine.

    Raises:
        InputError: another hive, or no key at all.
    """
    hive, _, path = key.partition("\\")
    if hive.upper() not in {"HKLM", "HKEY_LOCAL_MACHINE"} or not path.strip("\\"):
        raise InputError("{key}: not a key of HKEY_LOCAL_MACHINE", key=key)
    return f"HKLM\\{path}"
