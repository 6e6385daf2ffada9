"""Which file of the old package became which file of the new one. No code is compared here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Generic, Protocol, TypeVar

_SO_VERSION = re.compile(r"(\.so)[.0-9]*$")
_NUMBERS = re.compile(r"[0-9]+([.+~-][0-9]+)*")


class FileState(StrEnum):
    """What became of an ELF file between two packages."""

    IDENTICAL = "identical"
    CHANGED = "changed"
    ADDED = "added"
    REMOVED = "removed"


class PackagedFile(Protocol):
    """A file of a package. `content` is equal exactly for equal files: the bytes themselves, or their digest."""

    @property
    def path(self) -> str:
        """Where it is in the package, without a leading slash."""

    @property
    def content(self) -> bytes:
        """What tells it from another file."""


_File = TypeVar("_File", bound=PackagedFile)


@dataclass(frozen=True, slots=True)
class FilePair(Generic[_File]):
    """An ELF file of the update: `old` is missing where it was added, `new` where it was removed."""

    old: _File | None
    new: _File | None

    @property
    def path(self) -> str:
        """The path it goes by: the new one where there is one."""
        file = self.new or self.old
        return file.path if file else ""

    @property
    def state(self) -> FileState:
        """By bytes alone: a changed file may still be the same build (see `publisher.build`)."""
        if self.old is None:
            return FileState.ADDED
        if self.new is None:
            return FileState.REMOVED
        return FileState.IDENTICAL if self.old.content == self.new.content else FileState.CHANGED


def pair_files(old: Sequence[_File], new: Sequence[_File]) -> tuple[FilePair[_File], ...]:
    """Pair the files of two packages, sorted by path.

    Equal paths come first. What is left is paired where a weaker key is unique on both sides: the base name,
    the library name without its version, and the path with its numbers taken out.
    """
    left = {file.path: file for file in old}
    right = {file.path: file for file in new}
    pairs = [FilePair(left.pop(path), right.pop(path)) for path in sorted(left.keys() & right.keys())]
    for key in (_base_name, _library_name, _path_without_numbers):
        pairs += _pair_by(key, left, right)
    pairs += [FilePair(file, None) for file in left.values()]
    pairs += [FilePair(None, file) for file in right.values()]
    return tuple(sorted(pairs, key=lambda pair: pair.path))


def _pair_by(key: Callable[[str], str], left: dict[str, _File], right: dict[str, _File]) -> list[FilePair[_File]]:
    """Move the files whose key occurs once on each side into pairs."""
    count_left, count_right = Counter(map(key, left)), Counter(map(key, right))
    by_key = {key(path): path for path in right}
    pairs = []
    for path in list(left):
        if count_left[key(path)] == 1 == count_right[key(path)]:
            pairs.append(FilePair(left.pop(path), right.pop(by_key[key(path)])))
    return pairs


def _base_name(path: str) -> str:
    return PurePosixPath(path).name


def _library_name(path: str) -> str:
    return _SO_VERSION.sub(r"\1", _base_name(path))


def _path_without_numbers(path: str) -> str:
    return _NUMBERS.sub("#", path)
