"""One update's hotpatch files in one file: a tar archive, compressed with zstandard.

Members are `manifest.json` and one `*.hotpatch` ELF file per image, in the manifest's order. The same hotpatches
give the same bytes: times are 0, owners are root.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Final

import msgspec
import zstandard

from hotmend.image.tar import TarStream
from hotmend.model.addresses import BuildId
from hotmend.model.errors import InputError
from hotmend.model.hotpatch import Hotpatch
from hotmend.package.decode import decode
from hotmend.package.encode import encode
from hotmend.package.format import FILE_BYTES_MAX

BUNDLE_FORMAT: Final = 1
BUNDLE_FILE_BYTES_MAX: Final = 256 << 20
BUNDLE_CONTENT_BYTES_MAX: Final = 512 << 20
MEMBERS_MAX: Final = 4_000
MANIFEST_BYTES_MAX: Final = 16 << 20
WINDOW_BYTES_MAX: Final = 128 << 20
"""Most memory that the decompressor may be asked for; level 19 wants 8 MiB."""
COMPRESSION_LEVEL: Final = 19

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ELF_MAGIC = b"\x7fELF"
_MANIFEST = "manifest.json"


class ManifestEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One hotpatch of the bundle. `sha256` is the digest of the member, hexadecimal."""

    member: str
    sha256: str
    name: str
    path: str
    package: str
    old_build_id: BuildId
    new_build_id: BuildId


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is in the bundle."""

    format: int
    hotpatches: tuple[ManifestEntry, ...]


def pack(hotpatches: tuple[Hotpatch, ...]) -> bytes:
    """Return the bundle of `hotpatches`, in their order.

    Raises:
        InputError: a hotpatch is invalid or there are too many.
    """
    if len(hotpatches) >= MEMBERS_MAX:
        raise InputError(f"bundle: {len(hotpatches)} hotpatches are more than {MEMBERS_MAX - 1}")
    files = [encode(hotpatch) for hotpatch in hotpatches]
    entries = []
    for number, (hotpatch, data) in enumerate(zip(hotpatches, files, strict=True)):
        entries.append(
            ManifestEntry(
                member=f"{number:04}-{hotpatch.old_build_id[:16]}.hotpatch",
                sha256=hashlib.sha256(data).hexdigest(),
                name=hotpatch.name,
                path=hotpatch.path,
                package=hotpatch.package,
                old_build_id=hotpatch.old_build_id,
                new_build_id=hotpatch.new_build_id,
            )
        )
    manifest = msgspec.json.format(msgspec.json.encode(Manifest(BUNDLE_FORMAT, tuple(entries))))
    blob = io.BytesIO()
    with tarfile.open(fileobj=blob, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        _add(archive, _MANIFEST, manifest)
        for entry, data in zip(entries, files, strict=True):
            _add(archive, entry.member, data)
    return compress(blob.getvalue())


def compress(content: bytes, level: int = COMPRESSION_LEVEL) -> bytes:
    """Return the bundle of a content. Other versions of zstandard, and other levels, make other bytes of it."""
    return zstandard.ZstdCompressor(level=level, write_checksum=True).compress(content)


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), 0o644, 0
    info.uname = info.gname = "root"
    archive.addfile(info, io.BytesIO(data))


def load(path: str | Path) -> tuple[Hotpatch, ...]:
    """Return the hotpatches of a bundle, or the one of a single hotpatch file.

    Raises:
        InputError: the file cannot be read, is neither kind, or is damaged.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(BUNDLE_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    try:
        return unpack(data)
    except InputError as error:
        raise InputError(f"{path}: {error}", error.hint) from None


def unpack(data: bytes) -> tuple[Hotpatch, ...]:
    """Return the hotpatches that `data`, a whole file of either kind, holds."""
    if data.startswith(_ELF_MAGIC):
        return (decode(data),)
    return unpack_content(decompress(data))


def decompress(data: bytes) -> bytes:
    """Return the content of a bundle, a tar archive.

    Raises:
        InputError: no bundle, damaged, or over a limit.
    """
    if not data.startswith(_ZSTD_MAGIC):
        raise InputError("neither a bundle nor a hotpatch file", "hotmend build makes them from two builds")
    if len(data) > BUNDLE_FILE_BYTES_MAX:
        raise InputError(f"bundle: longer than {BUNDLE_FILE_BYTES_MAX} bytes")
    # The frame must say how long its content is: then nothing longer than that is ever written to memory, and a
    # truncated frame is an error rather than a short read.
    try:
        size = zstandard.frame_content_size(data)
        if not 0 <= size <= BUNDLE_CONTENT_BYTES_MAX:
            sentence = f"the compressed data claim {size} bytes; up to {BUNDLE_CONTENT_BYTES_MAX} are read"
            raise InputError(f"bundle: {sentence}")
        decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES_MAX)
        return decompressor.decompress(data, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise InputError(f"bundle: damaged: {error}") from None


def unpack_content(content: bytes) -> tuple[Hotpatch, ...]:
    """Return the hotpatches of a bundle's content.

    Raises:
        InputError: damaged, or with members that do not belong there.
    """
    return _match(_read_members(content))


def _read_members(content: bytes) -> dict[str, bytes]:
    archive = TarStream(io.BytesIO(content), members_max=MEMBERS_MAX + 1, bytes_max=len(content))
    members: dict[str, bytes] = {}
    for info in archive:
        limit = FILE_BYTES_MAX if members else MANIFEST_BYTES_MAX
        if not info.isreg() or info.name in members or info.size > limit:
            raise InputError(f"bundle: member {info.name[:80]!r} does not belong in a bundle")
        if not members and info.name != _MANIFEST:
            raise InputError(f"bundle: the first member is not {_MANIFEST}")
        members[info.name] = archive.read(info.size)
    return members


def _match(members: dict[str, bytes]) -> tuple[Hotpatch, ...]:
    """Decode the members that the manifest lists; there must be no others."""
    try:
        manifest = msgspec.json.decode(members.pop(_MANIFEST, b""), type=Manifest)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise InputError(f"bundle: damaged {_MANIFEST}: {error}") from None
    if manifest.format != BUNDLE_FORMAT:
        raise InputError(f"bundle: format {manifest.format}; this hotmend reads {BUNDLE_FORMAT}")
    if sorted(entry.member for entry in manifest.hotpatches) != sorted(members):
        raise InputError("bundle: the members are not those of the manifest")
    return tuple(_decode_member(entry, members[entry.member]) for entry in manifest.hotpatches)


def _decode_member(entry: ManifestEntry, data: bytes) -> Hotpatch:
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise InputError(f"bundle: {entry.member} is not what the manifest says")
    hotpatch = decode(data)
    ids = (hotpatch.old_build_id, hotpatch.new_build_id)
    if ids != (entry.old_build_id, entry.new_build_id) or hotpatch.path != entry.path:
        raise InputError(f"bundle: {entry.member} is another image's than the manifest says")
    return hotpatch
