"""Deltas: what comes out is what went in, with the right images alone, and never more than was said."""

from __future__ import annotations

import hashlib
import struct

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from hotmend.model.errors import InputError
from hotmend.package import delta as delta_module
from hotmend.package.bundle import BUNDLE_CONTENT_BYTES_MAX, compress, decompress, pack, unpack, unpack_content
from hotmend.package.delta import Content, content_of, delta_content, delta_decode, delta_encode
from tests.hotpatches import sample

OLD = hashlib.shake_256(b"an old image").digest(20_000)
CONTENT = OLD[1000:9000] + b"and something new" + OLD[11_000:15_000]
IMAGES = (OLD[:12_000], OLD[12_000:])


def _delta(content: Content, frame: bytes) -> bytes:
    head = msgspec.json.encode(content)
    return struct.pack("<II", 0x184D2A5D, len(head)) + head + frame


@given(
    content=st.binary(max_size=3000),
    images=st.lists(st.binary(max_size=3000), max_size=3),
    shared=st.integers(0, 2999),
)
def test_a_delta_becomes_what_it_was_made_of(content: bytes, images: list[bytes], shared: int) -> None:
    content += images[0][shared:] if images else b""
    delta = delta_encode(content, images)
    assert delta_decode(delta, images) == content
    assert delta_content(delta) == content_of(content)
    assert delta_encode(content, images) == delta


@given(data=st.binary(max_size=300), cut=st.integers(0, 300))
def test_damaged_deltas_are_errors(data: bytes, cut: int) -> None:
    delta = delta_encode(CONTENT, IMAGES)
    for damaged in (data, delta[:cut], delta[:-1], delta + b"\0", data + delta, delta[: len(delta) - cut] + data):
        if damaged == delta:
            continue
        with pytest.raises(InputError):
            delta_decode(damaged, IMAGES)


@given(at=st.integers(0, 19_999), bit=st.integers(0, 7))
def test_other_images_are_noticed_or_do_not_matter(at: int, bit: int) -> None:
    other = bytearray(OLD)
    other[at] ^= 1 << bit
    delta = delta_encode(CONTENT, (OLD,))
    used = 1000 <= at < 9000 or 11_000 <= at < 15_000
    try:
        assert delta_decode(delta, (bytes(other),)) == CONTENT
    except InputError as error:
        assert used
        assert "other images" in str(error)
    else:
        assert not used


def test_it_is_small_only_with_the_images() -> None:
    assert len(delta_encode(CONTENT, IMAGES)) < 300
    assert len(delta_encode(CONTENT, ())) > len(CONTENT)


@pytest.mark.parametrize("images", [(), (OLD[:12_000],), (OLD[12_000:], OLD[:12_000]), (b"x" * 20_000,)])
def test_missing_and_exchanged_images_are_errors(images: tuple[bytes, ...]) -> None:
    with pytest.raises(InputError):
        delta_decode(delta_encode(CONTENT, IMAGES), images)


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    """The frame says its length, and says another one than the head; or none; or both say too much."""
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(64 << 20))
    with pytest.raises(InputError, match="claim 67108864 bytes, not 100"):
        delta_decode(_delta(content_of(bytes(100)), bomb), ())
    silent = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1 << 20))
    with pytest.raises(InputError, match=r"claim -1 bytes"):
        delta_decode(_delta(content_of(bytes(1 << 20)), silent), ())
    with pytest.raises(InputError, match="bytes"):
        delta_content(_delta(Content(1, BUNDLE_CONTENT_BYTES_MAX + 1, "0" * 64), b""))


def test_a_window_that_is_too_long_is_refused() -> None:
    """A frame whose window is not its content's length, made by hand: one block of one byte, repeated."""
    size, window_log = 300 << 20, 28
    head = b"\x28\xb5\x2f\xfd" + bytes([0b10 << 6, (window_log - 10) << 3]) + struct.pack("<I", size)
    frame = head + (1 | 1 << 1 | 1000 << 3).to_bytes(3, "little") + b"x"
    assert zstandard.get_frame_parameters(frame).window_size == 1 << window_log
    with pytest.raises(InputError, match="damaged"):
        delta_decode(_delta(Content(1, size, "0" * 64), frame), ())


def test_images_that_are_too_long_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    delta = delta_encode(CONTENT, IMAGES)
    monkeypatch.setattr(delta_module, "PREFIX_BYTES_MAX", 19_999)
    with pytest.raises(InputError, match="longer than 19999 bytes together"):
        delta_encode(CONTENT, IMAGES)
    with pytest.raises(InputError, match="longer than 19999 bytes together"):
        delta_decode(delta, IMAGES)


@pytest.mark.parametrize(
    "head", [b"", b"{}", b"[" * 500, b'{"format":2,"bytes":1,"sha256":"' + b"0" * 64 + b'"}', b"x" * 2000]
)
def test_a_head_that_is_none_is_refused(head: bytes) -> None:
    with pytest.raises(InputError):
        delta_content(struct.pack("<II", 0x184D2A5D, len(head)) + head)


def test_a_bundle_in_another_compression_has_the_same_content() -> None:
    bundle = pack((sample(),))
    again = compress(decompress(bundle), 1)
    assert again != bundle
    assert unpack(again) == unpack(bundle) == unpack_content(decompress(bundle))
