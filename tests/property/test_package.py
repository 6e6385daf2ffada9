"""Any valid hotpatch survives the file; any damaged file gives an InputError or a valid hotpatch."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hotmend.model.errors import InputError
from hotmend.model.hotpatch import Hotpatch
from hotmend.package.bundle import pack, unpack
from hotmend.package.decode import decode
from hotmend.package.encode import encode
from tests.hotpatches import hotpatches, sample

_SAMPLE = encode(sample())
_BUNDLE = pack((sample(),))


@given(hotpatches())
@example(sample())
def test_a_file_gives_back_what_was_written(hotpatch: Hotpatch) -> None:
    data = encode(hotpatch)
    assert decode(data) == hotpatch
    assert encode(decode(data)) == data


@given(st.lists(hotpatches(), max_size=3).map(tuple))
@settings(max_examples=15, deadline=None)
def test_a_bundle_gives_back_what_was_packed(bundle: tuple[Hotpatch, ...]) -> None:
    assert unpack(pack(bundle)) == bundle


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_changed_bytes_never_do_worse_than_an_input_error(data: st.DataObject) -> None:
    blob = bytearray(_SAMPLE)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(blob) - 1))
        new = data.draw(st.binary(min_size=1, max_size=8))
        blob[at : at + len(new)] = new
    _decodes_or_refuses(bytes(blob))


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_changed_headers_never_do_worse_than_an_input_error(data: st.DataObject) -> None:
    """Random positions seldom hit a header field; these always do, with numbers that hurt."""
    blob = bytearray(_SAMPLE)
    tables = int.from_bytes(blob[40:48], "little")
    field = data.draw(st.integers(0, 60) | st.integers(64, 600) | st.integers(tables, len(blob) - 8))
    number = data.draw(st.sampled_from([0, 1, 0xFFFF, 1 << 31, (1 << 63) - 1, (1 << 64) - 1, len(blob)]))
    width = data.draw(st.sampled_from([2, 4, 8]))
    blob[field : field + width] = (number & (1 << 8 * width) - 1).to_bytes(width, "little")
    _decodes_or_refuses(bytes(blob))


@pytest.mark.parametrize("step", [1, 7])
def test_every_truncation_is_refused(step: int) -> None:
    for size in range(0, len(_SAMPLE), step):
        with pytest.raises(InputError):
            decode(_SAMPLE[:size])


@given(st.binary(max_size=300))
def test_noise_is_refused(noise: bytes) -> None:
    for head in (b"", b"\x7fELF", _SAMPLE[:64], b"\x28\xb5\x2f\xfd", _BUNDLE[:12]):
        with pytest.raises(InputError):
            unpack(head + noise)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_damaged_bundle_never_does_worse_than_an_input_error(data: st.DataObject) -> None:
    blob = bytearray(_BUNDLE)
    at = data.draw(st.integers(0, len(blob) - 1))
    blob[at] ^= data.draw(st.integers(1, 255))
    try:
        assert unpack(bytes(blob)) == (sample(),)
    except InputError as error:
        assert str(error)


def _decodes_or_refuses(blob: bytes) -> None:
    try:
        hotpatch = decode(blob)
    except InputError as error:
        assert str(error)
        return
    assert decode(encode(hotpatch)) == hotpatch
