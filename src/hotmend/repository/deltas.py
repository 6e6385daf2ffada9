"""The delta of a bundle in a repository: against which old images, whether it is worth its place, what is checked.

It is a target of its own beside the bundle, signed by the same role. `custom` in its metadata has the numbers of the
release's images whose old files it is compressed against; without it, these are all of them, in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from tuf.api.metadata import TargetFile

from hotmend.model.errors import InputError
from hotmend.package.bundle import decompress
from hotmend.package.delta import PREFIX_BYTES_MAX, content_of, delta_content, delta_encode
from hotmend.repository import metadata
from hotmend.repository.releases import IMAGES_MAX, ReleaseFile

SAVED_BYTES_MIN: Final = 2048
"""A delta that saves less is not published: some 200 bytes of metadata name it, and machines fetch those again with
each change of the tier while the bundle stands, about ten times in a quarter."""
SAVED_PART_MIN: Final = 10
"""One part in so many of the bundle has to be saved as well: old images have to be read for it."""
LOSS_PART_MAX: Final = 50
"""Images without which the delta grows, all in all, by less than one part in so many are left out: not every machine
has every library of a package, and who lacks one fetches the whole bundle."""
_CUSTOM: Final = "custom"
_TRIAL_LEVEL: Final = 9
"""For trying what each image brings: a twentieth of the time of the level that is published."""


class _Custom(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    images: Annotated[tuple[Annotated[int, Meta(ge=0, lt=IMAGES_MAX)], ...], Meta(min_length=1, max_length=IMAGES_MAX)]


@dataclass(frozen=True, slots=True)
class Delta:
    """A delta to be published.

    Attributes:
        data: the file.
        images: numbers of the release's images whose old files it is against; empty for all.
    """

    data: bytes
    images: tuple[int, ...] = ()

    def target(self, path: str) -> TargetFile:
        """Return what metadata say of it."""
        target = metadata.target_of(path, self.data)
        if self.images:
            target.unrecognized_fields[_CUSTOM] = {"images": list(self.images)}
        return target


def delta_make(bundle: bytes, images: Sequence[bytes | None]) -> Delta | None:
    """Return the delta of a bundle, None where it is not worth its place.

    Args:
        bundle: the file.
        images: old file of each image of its release, in order; None where it could not be read.

    Raises:
        InputError: the bundle is damaged.
    """
    content = decompress(bundle)
    chosen = _choose(content, images)
    if not chosen:
        return None
    data = delta_encode(content, [images[number] or b"" for number in chosen])
    if len(bundle) - len(data) < max(SAVED_BYTES_MIN, len(bundle) // SAVED_PART_MIN):
        return None
    return Delta(data, () if len(chosen) == len(images) else chosen)


def _choose(content: bytes, images: Sequence[bytes | None]) -> tuple[int, ...]:
    """Return the numbers of the images that the delta is to be against, in order."""
    chosen = [number for number, image in enumerate(images) if image]
    while sum(len(images[number] or b"") for number in chosen) > PREFIX_BYTES_MAX:
        chosen.remove(max(chosen, key=lambda number: len(images[number] or b"")))
    if len(chosen) < 2:
        return tuple(chosen)
    size = _trial(content, images, chosen)
    size_max = size + size // LOSS_PART_MAX
    for number in sorted(chosen, key=lambda number: len(images[number] or b"")):
        others = [other for other in chosen if other != number]
        if others and _trial(content, images, others) <= size_max:
            chosen = others
    return tuple(chosen)


def _trial(content: bytes, images: Sequence[bytes | None], chosen: Sequence[int]) -> int:
    return len(delta_encode(content, [images[number] or b"" for number in chosen], _TRIAL_LEVEL))


def images_of(target: TargetFile, file: ReleaseFile) -> tuple[int, ...]:
    """Return the numbers of the images whose old files a delta is against.

    Args:
        target: what metadata say of the delta.
        file: what the release says of the bundle.

    Raises:
        InputError: what they say is nothing that can be meant.
    """
    if target.custom is None:
        return tuple(range(len(file.images)))
    try:
        images = msgspec.convert(target.custom, _Custom).images
    except msgspec.ValidationError as error:
        raise InputError(f"{target.path}: custom: {error}") from None
    if list(images) != sorted(set(images)) or images[-1] >= len(file.images):
        raise InputError(f"{target.path}: custom: {images} are no images of the release")
    return images


def check_delta(target: TargetFile, file: ReleaseFile, bundle: bytes, delta: bytes) -> None:
    """Raise InputError unless a delta says that it becomes exactly what is in the bundle; this takes no old image."""
    images_of(target, file)
    if delta_content(delta) != content_of(decompress(bundle)):
        raise InputError(f"{target.path}: would become something else than {file.name} holds")
