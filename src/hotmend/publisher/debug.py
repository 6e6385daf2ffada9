"""Debug information of an image: in its own file, in a separate one, or from a debuginfod server.

What is found by name or place counts only if it has the image's build-id.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from hotmend.debug.read import Reading
from hotmend.image.deb import is_deb, unpack_debug_files
from hotmend.image.debugfile import DebugFile, read_debug_file
from hotmend.image.elf import read_static_symbols
from hotmend.image.image import Image, Symbol
from hotmend.model.addresses import BuildId
from hotmend.model.errors import InputError
from hotmend.model.types import TypePair
from hotmend.publisher.debuginfod import Servers

SYSTEM_DIRECTORY: Final = Path("/usr/lib/debug")
_OWN_FILE: Final = "the files themselves"
FILES_MAX: Final = 50_000
"""Most files of a given directory that are looked at."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file with an image's debug information, and the one it shares entries with, if any."""

    path: Path
    supplement: Path | None
    where: str


@dataclass(frozen=True, slots=True)
class BuildFile:
    """The file of one build: its image, and the path or the bytes it was read from."""

    image: Image
    source: Path | bytes


@dataclass(frozen=True, slots=True)
class Loaded:
    """The types of both builds if they could be had, and in words where from or why not.

    `symbols` are what the two separate debug files name, where the images themselves are stripped of it.
    """

    types: TypePair | None = None
    text: str = ""
    symbols: tuple[tuple[Symbol, ...], tuple[Symbol, ...]] = ((), ())


class DebugSources:
    """Where to look. Use it as a context manager: packages are unpacked into a directory that goes with it."""

    def __init__(self, given: Sequence[Path] = (), servers: Servers | None = None) -> None:
        """Take directories, `-dbgsym` packages and single files in.

        Raises:
            InputError: one of them is not there, or is a damaged package.
        """
        self._stack = ExitStack()
        self._servers = servers if servers is not None else Servers.configured()
        self._labels: dict[Path, str] = {}
        """What the directories of unpacked packages are called."""
        self._given = [self._unpacked(path) for path in given]
        self._index: dict[BuildId, Path] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _temporary(self) -> Path:
        return Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="hotmend-debug-")))

    def _unpacked(self, path: Path) -> Path:
        try:
            if path.is_dir() or not is_deb(path):
                return path
        except OSError as error:
            raise InputError(f"{path}: {error.strerror or error}") from error
        directory = self._temporary()
        unpack_debug_files(path, directory)
        self._labels[directory] = str(path)
        return directory

    def load(self, old: BuildFile, new: BuildFile) -> Loaded:
        """Return the types of both builds. Whatever goes wrong is said in the text; it is no error."""
        places = [self.find(side) for side in (old, new)]
        if places[0] is None or places[1] is None:
            missing = [name for name, place in zip(("old", "new"), places, strict=True) if place is None]
            return Loaded(text=f"no debug information of the {missing[0]} build" if len(missing) == 1 else "")
        readings: list[Reading] = []
        try:
            for place, side in zip(places, (old, new), strict=True):
                assert place is not None  # noqa: S101 - both were looked at above
                readings.append(Reading(place.path, place.where, side.image.build_id, place.supplement))
            symbols = _symbols(places[0]), _symbols(places[1])
            pair = TypePair(readings[0].types(), readings[1].types())
        except InputError as error:
            return Loaded(text=f"types were not compared: {error}")
        finally:
            for reading in readings:
                reading.cancel()
        sources = dict.fromkeys((pair.old.source, pair.new.source))
        return Loaded(pair, f"debug information from {' and '.join(sources)}", symbols)

    def find(self, build: BuildFile) -> Found | None:
        """Return where the debug information of a build is, None where there is none."""
        image = build.image
        if any(s.name in (".debug_info", ".zdebug_info") and s.size for s in image.sections):
            return self._checked(self._own_file(build), image.build_id, _OWN_FILE)
        for path in self._candidates(build):
            label = next((label for directory, label in self._labels.items() if path.is_relative_to(directory)), path)
            found = self._checked(path, image.build_id, str(label))
            if found is not None:
                return found
        fetched = self._servers.fetch(image.build_id)
        return self._checked(fetched, image.build_id, "debuginfod") if fetched is not None else None

    def _own_file(self, build: BuildFile) -> Path:
        if isinstance(build.source, Path):
            return build.source
        path = self._temporary() / "image"
        path.write_bytes(build.source)
        return path

    def _candidates(self, build: BuildFile) -> Iterator[Path]:
        known = self._by_build_id(build.image.build_id)
        if known is not None:
            yield known
        yield _below(SYSTEM_DIRECTORY, build.image.build_id)
        if isinstance(build.source, Path) and any(s.name == ".gnu_debuglink" for s in build.image.sections):
            yield from _linked(build.source)

    def _checked(self, path: Path, build_id: BuildId, where: str) -> Found | None:
        """Return a candidate if it is what is looked for and complete."""
        if not path.is_file():
            return None
        try:
            file = read_debug_file(path)
        except InputError:
            return None
        if not file.has_types or file.build_id != build_id:
            return None
        if not file.supplement_id:
            return Found(path, None, where)
        supplement = self._supplement(path, file)
        return Found(path, supplement, where) if supplement is not None else None

    def _supplement(self, path: Path, file: DebugFile) -> Path | None:
        known = self._by_build_id(file.supplement_id)
        for candidate in (known, path.parent / file.supplement, _below(SYSTEM_DIRECTORY, file.supplement_id)):
            if candidate is not None and candidate.is_file() and _build_id(candidate) == file.supplement_id:
                return candidate
        return self._servers.fetch(file.supplement_id)

    def _by_build_id(self, build_id: BuildId) -> Path | None:
        """Return the file of a build-id among what was given."""
        if not self._given:
            return None
        for directory in self._given:
            for base in (directory, directory / "usr/lib/debug"):
                if (path := _below(base, build_id)).is_file():
                    return path
        if self._index is None:
            self._index = {key: path for path in self._files() if (key := _build_id(path))}
        return self._index.get(build_id)

    def _files(self) -> Iterator[Path]:
        every = itertools.chain.from_iterable(path.rglob("*") if path.is_dir() else [path] for path in self._given)
        for number, path in enumerate(every):
            if number >= FILES_MAX:
                raise InputError(f"more than {FILES_MAX} files below {', '.join(map(str, self._given))}")
            if path.is_file():
                yield path


def _symbols(found: Found) -> tuple[Symbol, ...]:
    """Return the names in a separate debug file; an image knows those in its own."""
    return read_static_symbols(found.path) if found.where != _OWN_FILE else ()


def _below(directory: Path, build_id: str) -> Path:
    """Return where a debug file stands by its build-id."""
    return directory / ".build-id" / build_id[:2] / f"{build_id[2:]}.debug"


def _build_id(path: Path) -> BuildId:
    """Return the build-id of a file with debug information, empty for any other file."""
    try:
        file = read_debug_file(path)
    except InputError:
        return BuildId("")
    return file.build_id if file.has_types else BuildId("")


def _linked(path: Path) -> Iterator[Path]:
    """Return where `.gnu_debuglink` may lead, as debuggers look for it."""
    try:
        link = Path(read_debug_file(path).link).name
    except InputError:
        return
    if link:
        directory = path.resolve().parent
        yield directory / link
        yield directory / ".debug" / link
        yield SYSTEM_DIRECTORY / directory.relative_to("/") / link
