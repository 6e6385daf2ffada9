"""A bundle's content, compressed against old images that the machine has: the *delta* of a bundle.

    a skippable frame of zstandard with JSON: length and SHA-256 of the content
    a frame of zstandard, with the old images, one behind the other, as what stands before it

The content is the tar archive inside the bundle and not the bundle's own bytes: another version of zstandard compresses
the same archive to other bytes, and nobody could come to the same file again. `zstd -d --patch-from=OLD` reads a delta
against one image.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec
import zstandard
from msgspec import Meta

from hotmend.model.errors import InputError
from hotmend.package.bundle import BUNDLE_CONTENT_BYTES_MAX, COMPRESSION_LEVEL, WINDOW_BYTES_MAX

PREFIX_BYTES_MAX: Final = 64 << 20
"""Longest old images together: who reads a delta has them in memory, and who makes it waits 0.4 s for each MiB."""
_HEAD: Final = struct.Struct("<II")
_SKIPPABLE: Final = 0x184D2A5D
_HEAD_BYTES_MAX: Final = 1024
_WINDOW_LOG: Final = (10, WINDOW_BYTES_MAX.bit_length() - 1)


class Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a delta must become: `bytes` and `sha256` of a bundle's content."""

    format: Literal[1]
    bytes: Annotated[int, Meta(ge=0, le=BUNDLE_CONTENT_BYTES_MAX)]
    sha256: Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]


def content_of(content: bytes) -> Content:
    """Return what is said of a content."""
    return Content(1, len(content), hashlib.sha256(content).hexdigest())


def delta_encode(content: bytes, images: Sequence[bytes], level: int = COMPRESSION_LEVEL) -> bytes:
    """Return the delta of a bundle's content against old images. The same version of zstandard makes the same bytes.

    Raises:
        InputError: the images are too long together.
    """
    prefix = _prefix(images)
    head = msgspec.json.encode(content_of(content))
    # The window has to hold the images as well: what is further back is not looked for.
    window = min(max((len(content) + len(prefix)).bit_length(), _WINDOW_LOG[0]), _WINDOW_LOG[1])
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level, source_size=len(content), dict_size=len(prefix), window_log=window, write_checksum=False
    )
    compressor = zstandard.ZstdCompressor(dict_data=_dictionary(prefix), compression_params=parameters)
    return _HEAD.pack(_SKIPPABLE, len(head)) + head + compressor.compress(content)


def delta_content(delta: bytes) -> Content:
    """Return what a delta says that it becomes.

    Raises:
        InputError: no delta, or a damaged one.
    """
    return _split(delta)[0]


def delta_decode(delta: bytes, images: Sequence[bytes]) -> bytes:
    """Return the content that a delta becomes with old images.

    Raises:
        InputError: damaged, over a limit, or these are other images than it was made against.
    """
    content, frame = _split(delta)
    try:
        # No more is written to memory than the frame says at its beginning.
        size = zstandard.frame_content_size(frame)
        if size != content.bytes:
            raise InputError(f"delta: the compressed data claim {size} bytes, not {content.bytes}")
        decompressor = zstandard.ZstdDecompressor(
            dict_data=_dictionary(_prefix(images)), max_window_size=WINDOW_BYTES_MAX
        )
        found = decompressor.decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise InputError(f"delta: damaged, or made against other images: {error}") from None
    if content_of(found) != content:
        raise InputError("delta: made against other images")
    return found


def _split(delta: bytes) -> tuple[Content, bytes]:
    if len(delta) < _HEAD.size:
        raise InputError("delta: too short")
    magic, size = _HEAD.unpack_from(delta)
    if magic != _SKIPPABLE or size > _HEAD_BYTES_MAX:
        raise InputError("delta: does not begin as one")
    end = _HEAD.size + size
    try:
        return msgspec.json.decode(delta[_HEAD.size : end], type=Content), delta[end:]
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise InputError(f"delta: {error}") from None


def _prefix(images: Sequence[bytes]) -> bytes:
    if sum(map(len, images)) > PREFIX_BYTES_MAX:
        raise InputError(f"delta: the old images are longer than {PREFIX_BYTES_MAX} bytes together")
    return b"".join(images)


def _dictionary(prefix: bytes) -> zstandard.ZstdCompressionDict | None:
    if not prefix:
        return None
    return zstandard.ZstdCompressionDict(prefix, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
