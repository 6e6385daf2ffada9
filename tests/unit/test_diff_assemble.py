"""Pieces of the new image joined to segments hold the image's own bytes."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotmend.diff.assemble import Assembly, _Piece
from hotmend.diff.finding import Finding
from hotmend.model.hotpatch import Segment
from hotmend.model.verdict import Reason

_START = 0x4000


def _segments(pieces: list[_Piece]) -> tuple[tuple[Segment, ...], list[Reason]]:
    found: list[Finding] = []
    made = SimpleNamespace(_pieces={(p.start, p.section): p for p in pieces}, _findings=found)
    return Assembly.segments(cast(Assembly, made)), [f.reason for f in found]


def _piece(start: int, content: bytes, size: int | None = None, section: str = ".rodata", mode: str = "r--") -> _Piece:
    return _Piece(start, content, len(content) if size is None else size, section, mode)


@st.composite
def _cuts(draw: st.DrawFn) -> tuple[bytes, list[tuple[int, int]]]:
    image = random.Random(draw(st.integers(0, 9))).randbytes(600)  # drawn bytes would mostly be few and zero
    start = st.integers(0, len(image) - 1)
    cuts = draw(st.lists(st.tuples(start, st.integers(1, 200)), min_size=1, max_size=12))
    return image, [(at, min(size, len(image) - at)) for at, size in cuts]


@given(_cuts())
def test_joined_pieces_hold_the_bytes_of_the_image(made: tuple[bytes, list[tuple[int, int]]]) -> None:
    image, cuts = made
    longest = dict(sorted(cuts, key=lambda cut: cut[1]))  # of two at one place the longer one counts
    segments, reasons = _segments([_piece(_START + at, image[at : at + size]) for at, size in longest.items()])
    wanted = {_START + at + n for at, size in longest.items() for n in range(size)}
    held: dict[int, int] = {}
    for segment in segments:
        assert len(segment.content) == segment.extent.size
        for n, byte in enumerate(segment.content):
            assert segment.extent.start + n not in held, "segments overlap"
            held[segment.extent.start + n] = byte
    assert {a: held[a] for a in wanted} == {a: image[a - _START] for a in wanted}
    assert all(held[a] == 0 for a in held.keys() - wanted), "nothing but zeros between the pieces"
    assert list(segments) == sorted(segments, key=lambda s: s.extent.start)
    assert reasons == []


@given(_cuts())
def test_pieces_of_bss_stay_without_content(made: tuple[bytes, list[tuple[int, int]]]) -> None:
    longest = dict(sorted(made[1], key=lambda cut: cut[1]))
    pieces = [_piece(_START + at, b"", size, ".bss", "rw-") for at, size in longest.items()]
    segments, _ = _segments(pieces)
    assert all(s.content == b"" for s in segments)
    for at, size in longest.items():
        assert any(s.extent.start <= _START + at and _START + at + size <= s.extent.end for s in segments)


def test_overlapping_pieces_are_joined_without_a_seam() -> None:
    image = bytes(range(200))
    cuts = ((0, 100), (90, 200), (95, 120), (190, 200), (200, 200))
    segments, _ = _segments([_piece(_START + a, image[a:b]) for a, b in cuts if a < b])
    assert [s.content for s in segments] == [image]


@pytest.mark.parametrize(("gap", "count"), [(0, 1), (1, 1), (64, 1), (65, 2), (1000, 2)])
def test_near_pieces_become_one_segment(gap: int, count: int) -> None:
    segments, _ = _segments([_piece(_START, b"ab"), _piece(_START + 2 + gap, b"cd")])
    assert len(segments) == count
    assert b"".join(s.content for s in segments) == b"ab" + bytes(gap if count == 1 else 0) + b"cd"


def test_sections_are_not_joined() -> None:
    segments, reasons = _segments([_piece(_START, b"ab"), _piece(_START + 2, b"cd", section=".other")])
    assert [(s.section, s.content) for s in segments] == [(".rodata", b"ab"), (".other", b"cd")]
    assert reasons == []


@pytest.mark.parametrize(("place", "refused"), [(_START + 8, True), (_START + 0xFFF, True), (_START + 0x1000, False)])
def test_a_page_has_one_permission(place: int, refused: bool) -> None:
    _, reasons = _segments([_piece(_START, b"ab"), _piece(place, b"cd", section=".data", mode="rw-")])
    assert [r.code for r in reasons] == ["mixed-page"] * refused
