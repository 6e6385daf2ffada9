"""Releases and indexes as JSON: size first, then form, then meaning. The same value gives the same bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from hotmend.model.errors import InputError
from hotmend.repository.layout import DOCUMENT_BYTES_MAX, INDEX_BYTES_MAX
from hotmend.repository.releases import AnyRelease, Baseline, HotpatchRelease, Index

_release_decoder: msgspec.json.Decoder[AnyRelease] = msgspec.json.Decoder(AnyRelease)
_index_decoder = msgspec.json.Decoder(Index)
_encoder = msgspec.json.Encoder(order="sorted")


def release_encode(release: AnyRelease) -> bytes:
    """Return the release's document.

    Raises:
        InputError: the release breaks a rule or is too long.
    """
    data = msgspec.json.format(_encoder.encode(release), indent=1) + b"\n"
    if release_decode(data) != release:
        raise InputError(f"release {release.id}: does not come back from its document as it was")
    return data


def release_decode(data: bytes, source: str = "release") -> AnyRelease:
    """Return the release that a document holds.

    Raises:
        InputError: too long, not JSON, not this form (the message names the field), or against a rule.
    """
    if len(data) > DOCUMENT_BYTES_MAX:
        raise InputError(f"{source}: longer than {DOCUMENT_BYTES_MAX} bytes")
    try:
        release = _release_decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise InputError(f"{source}: {error}", "docs/releases.md describes the form") from None
    _check(release, source)
    return release


def index_encode(index: Index) -> bytes:
    """Return the index as JSON."""
    data = _encoder.encode(index) + b"\n"
    if index_decode(data) != index:
        raise InputError(f"index of {index.channel}: does not come back from its JSON as it was")
    return data


def index_decode(data: bytes, source: str = "index") -> Index:
    """Return the index that JSON holds.

    Raises:
        InputError: too long, not JSON, not this form, or a release stands there twice.
    """
    if len(data) > INDEX_BYTES_MAX:
        raise InputError(f"{source}: longer than {INDEX_BYTES_MAX} bytes")
    try:
        index = _index_decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise InputError(f"{source}: {error}") from None
    _unique((entry.id for entry in index.releases), f"{source}: release")
    return index


def _check(release: AnyRelease, source: str) -> None:
    if isinstance(release, Baseline):
        _unique((f"{p.name}:{p.architecture}" for p in release.manifest.packages), f"{source}: package")
    elif isinstance(release, HotpatchRelease):
        _unique((file.name for file in release.files), f"{source}: file")
        # Two files for one old build would leave open which of them a machine gets.
        images = [(image.path, image.old_build_id) for file in release.files for image in file.images]
        _unique((f"{path} {build_id}" for path, build_id in images), f"{source}: image")
        if release.id in {release.requires, *release.supersedes}:
            raise InputError(f"{source}: {release.id} builds on itself")


def _unique(names: Iterable[str], what: str) -> None:
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise InputError(f"{what} {twice} stands there twice")
