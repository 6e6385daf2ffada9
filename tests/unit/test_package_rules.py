"""Each rule of package.check refuses what breaks it, in the writer and in the reader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from hotmend.model.addresses import BuildId
from hotmend.model.errors import InputError
from hotmend.model.hotpatch import Hotpatch, ImportTarget, RelocationKind, Segment
from hotmend.package.encode import encode
from tests.hotpatches import extent, relocation, sample


def _with_segment(number: int, **changes: object) -> Hotpatch:
    segments = list(sample().segments)
    segments[number] = replace(segments[number], **changes)  # type: ignore[arg-type]
    return replace(sample(), segments=tuple(segments))


def _with_relocation(number: int, **changes: object) -> Hotpatch:
    relocations = list(sample().relocations)
    relocations[number] = replace(relocations[number], **changes)  # type: ignore[arg-type]
    return replace(sample(), relocations=tuple(relocations))


_BROKEN: dict[str, tuple[Callable[[], Hotpatch], str]] = {
    "no name": (lambda: replace(sample(), name=""), "name is empty"),
    "escape sequence": (lambda: replace(sample(), name="a\x1b[31m"), "control characters"),
    "lone surrogate": (lambda: replace(sample(), path="\udcff"), "not text"),
    "build-id": (lambda: replace(sample(), old_build_id=BuildId("xyz1")), "not hexadecimal"),
    "empty build-id": (lambda: replace(sample(), new_build_id=BuildId("")), "0 digits"),
    "huge image": (lambda: replace(sample(), old_extent=extent(1 << 46, 1 << 47)), "address space"),
    "empty segment": (lambda: _with_segment(3, extent=extent(0x3000, 0)), "is empty"),
    "overfull segment": (lambda: _with_segment(0, extent=extent(0x1010, 3)), "holds too much"),
    "unsorted": (lambda: replace(sample(), segments=sample().segments[::-1]), "not sorted"),
    "permissions": (lambda: _with_segment(0, permissions="rwx"), "permissions"),
    "mixed page": (lambda: _with_segment(1, permissions="rw-"), "two permissions"),
    "far apart": (
        lambda: replace(
            sample(), segments=(*sample().segments, Segment(extent(1 << 40, 8), "r--", b"", ".rodata"))
        ),
        "spans",
    ),
    "relocation in bss": (
        lambda: _with_relocation(4, address=0x3110, kind=RelocationKind.ABS64),
        "outside the segments' content",
    ),
    "overlapping relocations": (lambda: _with_relocation(1, address=0x1016), "overlap"),
    "import with @": (lambda: _with_relocation(2, target=ImportTarget("a@b", "", weak=False)), "has an @"),
    "addend": (lambda: _with_relocation(2, addend=1 << 63), "addend"),
    "negative votes": (lambda: _with_relocation(2, votes=-1), "votes"),
    "function outside": (
        lambda: replace(
            sample(), functions=(replace(sample().functions[0], new=extent(0x2004, 4)),)
        ),
        "not in the hotpatch's code",
    ),
    "short entry": (
        lambda: replace(sample(), redirections=(replace(sample().redirections[0], entry=b"\x90"),)),
        "do not hold a jump",
    ),
    "digest": (
        lambda: replace(sample(), replaced=(replace(sample().replaced[0], sha256="no"),)),
        "not hexadecimal",
    ),
    "negative count": (lambda: replace(sample(), update_bytes=-1), "count"),
}  # fmt: skip


@pytest.mark.parametrize("case", _BROKEN)
def test_a_broken_rule_is_named(case: str) -> None:
    make, message = _BROKEN[case]
    with pytest.raises(InputError, match=message):
        encode(make())


def test_the_same_hotpatch_gives_the_same_bytes() -> None:
    assert encode(sample()) == encode(sample())


def test_overlapping_relocations_are_refused_across_kinds() -> None:
    wide = relocation(0x1014, RelocationKind.ABS64, sample().relocations[0].target, 0)
    with pytest.raises(InputError, match="overlap"):
        encode(replace(sample(), relocations=(wide, *sample().relocations[1:])))
