"""The sweep finds what plain decoding finds, whatever the bytes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from iced_x86 import Decoder

from hotmend.image.heads import ODD, Heads
from hotmend.image.sweep import sweep

_SHARED = Heads()
_PREFIX = st.sampled_from([bytes([n]) for n in b"\x66\xf2\xf3\xf0\x2e\x36\x3e\x26\x64\x65\x67"])
_REX = st.integers(0x40, 0x4F).map(lambda n: bytes([n]))
_MAP = st.sampled_from([b"", b"", b"\x0f", b"\x0f\x38", b"\x0f\x3a", b"\xc5", b"\xc4\xe2", b"\xc4\xe1", b"\x62\xf1"])


@st.composite
def _instruction(draw: st.DrawFn) -> bytes:
    """Draw bytes that often begin with an instruction of any kind."""
    prefixes = draw(st.lists(_PREFIX, max_size=2))
    rex = draw(st.lists(_REX, max_size=1))
    return (b"".join([*prefixes, *rex]) + draw(_MAP) + draw(st.binary(min_size=15, max_size=15)))[:15]


@given(st.lists(_instruction(), min_size=1, max_size=20))
@settings(max_examples=120, deadline=None)
def test_what_one_head_taught_is_true_of_all_that_are_taken_for_it(texts: list[bytes]) -> None:
    for text in texts:
        number = _SHARED.learn(text)
        alone = Heads()
        fresh = alone.learn(text)
        if number != ODD:
            assert fresh != ODD
            assert _SHARED.classes[number] == alone.classes[fresh]


_COMMON = st.sampled_from(
    [
        *(b"\x55", b"\x48\x89\xe5", b"\x48\x83\xec\x10", b"\xc3", b"\x90", b"\x31\xc0", b"\x0f\x1f\x00"),
        *(b"\x66\x0f\x1f\x44\0\0", b"\x48\x8b\x44\x24\x08", b"\x8b\x05\0\0\0\0", b"\xe8\0\0\0\0", b"\x75\x10"),
        *(b"\xc7\x44\x24\x08\xff\xff\xff\xff", b"\x48\xb8\x88\x77\x66\x55\x44\x33\x22\x11", b"\xf3\x0f\x6f\0"),
        *(b"\xc5\xf8\x77", b"\xe9\xfb\xff\xff\xff", b"\x0f\x84\0\x01\0\0", b"\x66\xc7\0\x01\0", b"\xeb\x02"),
    ]
)


@given(st.lists(st.lists(_COMMON, min_size=1, max_size=400), min_size=1, max_size=8), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_the_sweep_finds_every_instruction_and_no_other(functions: list[list[bytes]], cut: int) -> None:
    texts = [b"".join(f)[: len(b"".join(f)) - cut] or b"\xc3" for f in functions]
    ends = np.cumsum([len(t) + 3 for t in texts]) - 3
    starts = ends - [len(t) for t in texts]
    memory = np.frombuffer(b"\xcc\xcc\xcc".join(texts), np.uint8)
    found: dict[int, list[int]] = {}
    odd: set[int] = set()
    for swept in sweep(memory, starts, ends, _SHARED):
        odd |= swept.odd
        for code, at in zip(swept.code.tolist(), swept.at.tolist(), strict=True):
            found.setdefault(code, []).append(at - int(starts[code]))
    for n, text in enumerate(texts):
        plain = list(Decoder(64, text, ip=0))
        if any(i.is_invalid for i in plain):
            assert n in odd
        elif n not in odd:
            assert sorted(found[n]) == [i.ip for i in plain]
    assert len(odd) <= sum(any(i.is_invalid for i in Decoder(64, t)) for t in texts)
