"""Bundles that are not what they say."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import zstandard

from hotmend.model.errors import InputError
from hotmend.package import bundle as bundle_module
from hotmend.package.bundle import Manifest, load, pack, unpack
from hotmend.package.encode import encode
from tests.hotpatches import sample

Members = dict[str, bytes]


def _members() -> Members:
    data = zstandard.ZstdDecompressor().stream_reader(pack((sample(),))).read()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = {}
        for info in archive:
            file = archive.extractfile(info)
            assert file is not None
            found[info.name] = file.read()
        return found


def _bundle(members: Members, kind: bytes = tarfile.REGTYPE) -> bytes:
    blob = io.BytesIO()
    with tarfile.open(fileobj=blob, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.type = len(data), kind
            archive.addfile(info, io.BytesIO(data))
    return zstandard.compress(blob.getvalue())


def _with_manifest(change: Callable[[Manifest], Manifest]) -> Members:
    members = _members()
    manifest = msgspec.json.decode(members["manifest.json"], type=Manifest)
    return members | {"manifest.json": msgspec.json.encode(change(manifest))}


def _entry(**changes: str) -> Members:
    def change(manifest: Manifest) -> Manifest:
        entry = msgspec.structs.replace(manifest.hotpatches[0], **changes)
        return msgspec.structs.replace(manifest, hotpatches=(entry,))

    return _with_manifest(change)


def test_the_helper_makes_a_bundle_that_is_right() -> None:
    assert unpack(_bundle(_members())) == (sample(),)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (dict, "damaged manifest"),
        (lambda: {"other": b""}, "first member is not manifest.json"),
        (lambda: {**_members(), "extra.hotpatch": b""}, "not those of the manifest"),
        (lambda: {"manifest.json": _members()["manifest.json"]}, "not those of the manifest"),
        (lambda: {"manifest.json": b"[[[["}, "damaged manifest"),
        (lambda: {"manifest.json": b"[" * 100_000}, "damaged manifest"),
        (lambda: _entry(sha256="00"), "not what the manifest says"),
        (lambda: _entry(path="usr/bin/other"), "another image's"),
        (lambda: _entry(old_build_id="00"), "another image's"),
        (lambda: _with_manifest(lambda m: msgspec.structs.replace(m, format=2)), "format 2"),
    ],
)
def test_what_does_not_fit_together_is_refused(members: Callable[[], Members], message: str) -> None:
    with pytest.raises(InputError, match=message):
        unpack(_bundle(members()))


def test_links_and_directories_do_not_belong_in_a_bundle() -> None:
    for kind in (tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.LNKTYPE):
        with pytest.raises(InputError, match="does not belong"):
            unpack(_bundle({"manifest.json": b""}, kind))


def test_a_small_file_that_unpacks_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_module, "BUNDLE_CONTENT_BYTES_MAX", 1 << 20)
    with pytest.raises(InputError, match="claim 4198400 bytes"):
        unpack(_bundle({"manifest.json": _members()["manifest.json"], "x": bytes(4 << 20)}))


def test_compressed_data_that_do_not_say_how_long_they_are_are_refused() -> None:
    compressor = zstandard.ZstdCompressor()
    stream = io.BytesIO()
    with compressor.stream_writer(stream, closefd=False) as writer:
        writer.write(bytes(2048))
    with pytest.raises(InputError, match="claim -1 bytes"):
        unpack(stream.getvalue())


def test_a_truncated_bundle_is_refused() -> None:
    whole = pack((sample(),))
    for size in (4, 10, len(whole) // 2, len(whole) - 1):
        with pytest.raises(InputError):
            unpack(whole[:size])


def test_the_same_hotpatches_give_the_same_bytes() -> None:
    two = (sample(), replace(sample(), path="b"))
    assert pack(two) == pack(two)


def test_load_takes_either_kind_and_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(encode(sample()))
    (tmp_path / "b").write_bytes(pack((sample(),)))
    (tmp_path / "c").write_bytes(b"something else")
    assert load(tmp_path / "a") == load(tmp_path / "b") == (sample(),)
    with pytest.raises(InputError, match=f"{tmp_path}/c: neither"):
        load(tmp_path / "c")
    with pytest.raises(InputError, match="Is a directory"):
        load(tmp_path)
