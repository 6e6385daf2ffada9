"""What a cell is told: what it holds, and which processes are started in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

HOME = "/hotmend-trial"
OUT, WORK = f"{HOME}/out", f"{HOME}/work"
"""Directories in the cell: what programs print (root's own), and what they work on."""


@dataclass(frozen=True, slots=True)
class User:
    """Whose rights a process has."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


NOBODY = User(65534, 65534)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a process in a cell may use; 0 leaves a limit as it is."""

    cpu_seconds: int = 0
    memory_bytes: int = 0
    file_bytes: int = 0
    files: int = 0


@dataclass(frozen=True, slots=True)
class Start:
    """A process to start.

    Attributes:
        name: of its output files, unique in the cell.
        arguments: with the program's name in front; () for calls.
        program: file to run; "" for calls.
        environment, directory, user, limits: as they say.
        strict: no privilege can be gained, as root neither.
        standard_input: file in the cell.
        calls: what `linux.foreign` takes, instead of a program.
    """

    name: str
    program: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    directory: str
    user: User
    limits: Limits
    strict: bool = True
    standard_input: str = "/dev/null"
    calls: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """A process of a cell.

    Attributes:
        name: as given.
        inner: its pid in the cell.
        pid: its pid here.
    """

    name: str
    inner: int
    pid: int


@dataclass(frozen=True, slots=True)
class Contents:
    """What a cell holds besides the copy of all files. Files are open descriptors, which stay the caller's.

    Attributes:
        mounts: open mount namespace whose files it copies; None: those of this process.
        packages: .deb files to unpack where they would be installed.
        copies: files to write at absolute paths, with owner and mode.
        work: for each working directory (`WORK/0`, `WORK/1` ...) its files and their names.
        owner: of the working directories and what is in them.
        reachable: paths whose directories anybody may pass through, in the cell.
    """

    mounts: int | None = None
    packages: tuple[int, ...] = ()
    copies: tuple[tuple[int, str], ...] = ()
    work: tuple[tuple[tuple[int, str], ...], ...] = ()
    owner: User = NOBODY
    reachable: tuple[str, ...] = ()

    @property
    def descriptors(self) -> list[int]:
        """All open files, each once."""
        files = [d for d, _ in self.copies] + [d for folder in self.work for d, _ in folder]
        return list(dict.fromkeys([*self.packages, *files, *([] if self.mounts is None else [self.mounts])]))


def specification(contents: Contents, size_bytes: int) -> dict[str, Any]:
    """Return what the first process is told."""
    return {
        "size_bytes": size_bytes,
        "mounts": contents.mounts,
        "packages": list(contents.packages),
        "copies": [list(copy) for copy in contents.copies],
        "work": [[list(file) for file in folder] for folder in contents.work],
        "owner": [contents.owner.uid, contents.owner.gid],
        "reachable": list(contents.reachable),
        "descriptors": contents.descriptors,
    }
