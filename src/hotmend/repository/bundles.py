"""Bundles as a client gets them: from the disk, made from their delta, or fetched whole.

Where whoever asks can read old images (`OldImage`), a bundle that has a delta is made from that. The delta is signed
like everything else, so nothing is decompressed before it is verified; what comes out has to be what the delta says and
to hold what the release says. Whatever goes wrong on that way leads back to the bundle itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from tuf.api.metadata import TargetFile

from hotmend.model.errors import FetchError, HotmendError, InputError, UsageError
from hotmend.model.hotpatch import Hotpatch
from hotmend.package.bundle import BUNDLE_FILE_BYTES_MAX, compress, decompress, unpack_content
from hotmend.package.delta import content_of, delta_content, delta_decode
from hotmend.repository import layout
from hotmend.repository.deltas import images_of
from hotmend.repository.layout import Tier
from hotmend.repository.making import check_content, check_hotpatches
from hotmend.repository.refusal import Refusal
from hotmend.repository.releases import ReleaseFile, ReleaseImage
from hotmend.repository.store import Store
from hotmend.repository.targets import SignedFiles, decoded

_LOCAL_LEVEL: Final = 3
"""Of bundles that are made from a delta; they stay on this machine."""

OldImage = Callable[[ReleaseImage], bytes | None]
"""Returns the old file of an image, None where it is not to be had. What it returns need not be right."""


class Came(StrEnum):
    """How a bundle came here."""

    WHOLE = "whole"
    DELTA = "against the old images"
    HERE = "was here"


@dataclass(frozen=True, slots=True)
class Arrival:
    """One bundle that was asked for.

    Attributes:
        name: of the bundle.
        how: it came.
        bytes: that were fetched for it, in vain as well.
        why: the delta was of no use; "" where it was, or there is none.
    """

    name: str
    how: Came
    bytes: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class _Vain:
    """A delta that was of no use: `bytes` that were fetched, and why; "" where there is none."""

    bytes: int = 0
    why: str = ""


class Bundles:
    """Bundles of one tier.

    Attributes:
        arrivals: those that were asked for, in order.
    """

    def __init__(self, files: SignedFiles, folder: Path, where: tuple[str, Tier], old: OldImage | None) -> None:
        self._files = files
        self._store = Store(folder)
        self._where = where
        self._old = old
        self.arrivals: list[Arrival] = []

    def get(self, file: ReleaseFile) -> tuple[Path, tuple[Hotpatch, ...]]:
        """Return where a bundle is, and its hotpatches, verified.

        Raises:
            Refusal: as `SignedFiles.fetch`, or it is not what the release says.
            FetchError: it could not be reached.
        """
        path = self._path(file)
        place = self._files.place(path)
        self._files.info(path, BUNDLE_FILE_BYTES_MAX, file.sha256)
        if (found := self.here(file)) is not None:
            self.arrivals.append(Arrival(file.name, Came.HERE, 0))
            return place, found
        tried = self._made(file)
        if isinstance(tried, tuple):
            return place, tried
        try:
            data = self._files.fetch(path, BUNDLE_FILE_BYTES_MAX, file.sha256)
        except FetchError as error:
            raise FetchError(f"{error}{f'; {tried.why}' if tried.why else ''}", error.hint) from error
        self.arrivals.append(Arrival(file.name, Came.WHOLE, tried.bytes + len(data), tried.why))
        return place, decoded(lambda data, _: check_content(file, data), data, path)

    def _path(self, file: ReleaseFile) -> str:
        return layout.file_path(*self._where, file.name)

    def here(self, file: ReleaseFile) -> tuple[Hotpatch, ...] | None:
        """Return the hotpatches of a bundle that is here, None where it is not."""
        path = self._path(file)
        if not self._files.place(path).is_file():
            return None
        info = self._files.info(path, BUNDLE_FILE_BYTES_MAX, file.sha256)
        if self._files.is_here(info):
            return decoded(lambda data, _: check_content(file, data), self._files.read(info), path)
        # What was made here from a delta is the same content in another compression.
        delta = self.delta(file)
        if delta is None or not self._files.is_here(delta):
            return None
        try:
            content = decompress(self._store.read(path, BUNDLE_FILE_BYTES_MAX))
            if content_of(content) != delta_content(self._files.read(delta)):
                return None
            return check_hotpatches(file, unpack_content(content))
        except InputError:
            return None

    def delta(self, file: ReleaseFile) -> TargetFile | None:
        """Return what is signed of the delta of a bundle, None where there is none that can be meant."""
        path = layout.delta_path(*self._where, file.name)
        info = self._files.find(path)
        if info is None or info.length >= file.bytes:
            return None
        try:
            images_of(info, file)
        except InputError:
            return None
        return info

    def _made(self, file: ReleaseFile) -> tuple[Hotpatch, ...] | _Vain:
        """Return the hotpatches of a bundle made from its delta, or what was fetched in vain and why."""
        delta = None if self._old is None else self.delta(file)
        if delta is None or self._old is None:
            return _Vain()
        images: list[bytes] = []
        for number in images_of(delta, file):
            image = self._old(file.images[number])
            if image is None:
                return _Vain(0, f"the old {file.images[number].path} is not to be had")
            images.append(image)
        fetched = 0 if self._files.is_here(delta) else delta.length
        try:
            data = self._files.fetch(delta.path, file.bytes)
            content = delta_decode(data, images)
            hotpatches = check_hotpatches(file, unpack_content(content))
        except Refusal as refusal:
            return _Vain(fetched, refusal.reason.sentence)
        except HotmendError as error:
            return _Vain(0 if isinstance(error, FetchError) else fetched, str(error))
        self._store.write(self._path(file), compress(content, _LOCAL_LEVEL))
        self.arrivals.append(Arrival(file.name, Came.DELTA, fetched))
        return hotpatches

    def carry(self, file: ReleaseFile) -> None:
        """Fetch the delta of a bundle, for another client to read.

        Raises:
            Refusal, FetchError: as `get`.
            UsageError: there is none.
        """
        delta = self.delta(file)
        if delta is None:
            raise UsageError(f"{file.name} has no delta")
        here = self._files.is_here(delta)
        self._files.fetch(delta.path, file.bytes)
        self.arrivals.append(Arrival(file.name, Came.HERE if here else Came.DELTA, 0 if here else delta.length))
