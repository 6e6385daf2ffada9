"""The end of a function is no place to come back to: said only where the last instruction is certainly no call."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from iced_x86 import Decoder, FlowControl

from hotmend.live.tails import ends_elsewhere

BYTE = st.integers(0, 255)


@st.composite
def indirect_calls(draw: st.DrawFn) -> bytes:
    """`call r/m64`, near and far, in every form of its operand, with and without REX."""
    mod, rm, kind = draw(st.integers(0, 3)), draw(st.integers(0, 7)), draw(st.sampled_from([2, 3]))
    code = bytes([0xFF, mod << 6 | kind << 3 | rm])
    sib = draw(BYTE) if mod != 3 and rm == 4 else None
    code += b"" if sib is None else bytes([sib])
    displaced = mod == 0 and (rm == 5 or (sib is not None and sib & 7 == 5))
    size = 4 if displaced or mod == 2 else int(mod == 1)
    code += bytes(draw(st.lists(BYTE, min_size=size, max_size=size)))
    return draw(st.sampled_from([b"", b"\x41", b"\x49"])) + code


direct_calls = st.lists(BYTE, min_size=4, max_size=4).map(lambda rest: b"\xe8" + bytes(rest))
into_the_kernel = st.sampled_from([b"\x0f\x05", b"\x0f\x34", b"\xcd\x80", b"\xcc", b"\xf1"])


@given(st.binary(min_size=8, max_size=8), direct_calls | indirect_calls() | into_the_kernel, st.integers(0, 7))
def test_no_call_is_overlooked(before: bytes, last: bytes, known: int) -> None:
    """Whatever stands before it, and however few of the bytes are known."""
    assert not ends_elsewhere((before + last)[-7:][7 - known :])


@example(b"\0\0\0\0\0\xff$")  # a jump without its operand
@given(st.binary(min_size=7, max_size=7))
def test_what_leaves_is_a_jump_or_a_return(tail: bytes) -> None:
    """Some way to read the bytes ends with one, and no way with a call."""
    if not ends_elsewhere(tail):
        return
    lasts = []
    for start in range(len(tail)):
        instructions = list(Decoder(64, tail[start:]))
        if not any(i.is_invalid for i in instructions):
            lasts.append(instructions[-1].flow_control)
    assert {FlowControl.RETURN, FlowControl.UNCONDITIONAL_BRANCH, FlowControl.INDIRECT_BRANCH} & set(lasts)
    assert not {FlowControl.CALL, FlowControl.INDIRECT_CALL, FlowControl.INTERRUPT} & set(lasts)


def test_usual_ends() -> None:
    for code in ("b801000000c3", "90554889e55dc3", "4883c408e900000000", "905d5b31c0ebf0", "0f1f4000ffe0"):
        assert ends_elsewhere(bytes.fromhex(code)[-7:]), code
    for code in (
        "bf01000000e800000000",
        "4889dfff15c0c0c0c3",
        "0f1f440000",
        "c3",
        "b80f0000000f05",
        "488b0425c3000000",
        "554889e55dc3",
    ):
        assert not ends_elsewhere(bytes.fromhex(code)[-7:]), code
