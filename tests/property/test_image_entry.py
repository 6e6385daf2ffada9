"""Whatever a function begins with: through its stub it does what it did before."""

from __future__ import annotations

import struct

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hotmend.image.entry import Immovable, displace
from hotmend.model.addresses import JUMP_BYTES, LinkAddress
from tests.unit.arena import CALLEE, ENTRY, GATE, NEW, WORDS, Arena

_NUMBER = st.integers(-(1 << 31), (1 << 31) - 1).map(lambda n: struct.pack("<i", n))
_BYTE = st.integers(0, 255).map(lambda n: bytes([n]))
_REGISTER = st.sampled_from([0, 1, 2, 6, 7])  # rax, rcx, rdx, rsi, rdi


@st.composite
def _instructions(draw: st.DrawFn) -> list[tuple[bytes, int | None]]:
    """Draw instructions; a number is where its last four bytes have to lead (an offset of the arena)."""
    result: list[tuple[bytes, int | None]] = []
    for _ in range(draw(st.integers(1, 5))):
        a, b = draw(_REGISTER), draw(_REGISTER)
        modrm = bytes([0xC0 | a << 3 | b])
        field = bytes([a << 3 | 5])
        kind = draw(st.integers(0, 9))
        plain = {
            0: b"\x48" + draw(st.sampled_from([b"\x01", b"\x29", b"\x31", b"\x21", b"\x89", b"\x39", b"\x85"])) + modrm,
            1: b"\x83" + modrm + draw(_BYTE),
            2: b"\x81" + modrm + draw(_NUMBER),
            3: bytes([0xB8 + a]) + draw(_NUMBER),
            4: b"\x0f" + bytes([0x40 + draw(st.integers(0, 15))]) + modrm,  # cmov
            5: b"\x90",
            6: b"\x0f\xaf" + modrm,
            7: b"\xf3\x0f\x1e\xfa",
        }
        if kind in plain:
            result.append((plain[kind], None))
        else:
            opcode = b"\x48\x8d" if kind == 8 else b"\x48\x8b"
            result.append((opcode + field + bytes(4), WORDS + 8 * draw(st.integers(0, 7))))
    end = draw(st.sampled_from(["return", "jump", "branch", "call"]))
    if end == "jump":
        result.append((b"\xe9" + bytes(4), CALLEE))
    elif end == "branch":
        result.append((b"\x0f" + bytes([0x80 + draw(st.integers(0, 15))]) + bytes(4), CALLEE))
    elif end == "call":
        result.append((b"\xe8" + bytes(4), CALLEE))
    return [*result, (b"\xc3", None), (b"\xcc" * 5, None)]


def _assemble(instructions: list[tuple[bytes, int | None]]) -> bytes:
    text = b""
    for code, target in instructions:
        if target is None:
            text += code
        else:
            text += code[:-4] + struct.pack("<i", target - ENTRY - len(text) - len(code))
    return text


@given(_instructions(), st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1), st.booleans())
@settings(max_examples=200, deadline=None)
def test_a_stub_does_what_the_entry_did(
    instructions: list[tuple[bytes, int | None]], rdi: int, rax: int, far: bool
) -> None:
    text = _assemble(instructions)
    arena = Arena()
    arena.write(ENTRY, text)
    arena.write(CALLEE, bytes.fromhex("480304244801d0c3"))  # add (%rsp), %rax ; add %rdx, %rax ; ret
    arena.write(NEW, bytes.fromhex("b8e7030000c3"))
    arena.write(WORDS, struct.pack("<8Q", *(rdi * n % (1 << 64) for n in range(8))))
    registers = {"rdi": rdi, "rax": rax}
    before = arena.call(ENTRY, registers)
    try:
        arena.redirect(text, far=far)
    except Immovable:
        assume(False)
    words = arena.read(WORDS, 64)
    assert arena.call(ENTRY, registers) == before
    assert arena.read(WORDS, 64) == words
    arena.write(GATE, b"\1")
    assert arena.call(ENTRY, registers)["rax"] == 999


@given(st.binary(max_size=64), st.sets(st.integers(-2, 8), max_size=2))
@settings(max_examples=400, deadline=None)
def test_any_bytes_are_moved_or_not(text: bytes, targets: set[int]) -> None:
    start = LinkAddress(0x401000)
    try:
        displaced = displace(text, start, {start + t for t in targets})
    except Immovable as why:
        assert str(why)
        return
    assert JUMP_BYTES <= displaced.size <= len(text)
    assert not any(0 < t < JUMP_BYTES for t in targets)
    ends = [f.offset + 4 for f in displaced.fields]
    assert all(a <= f.offset for a, f in zip(ends, displaced.fields[1:], strict=False)), "fields overlap"
    assert all(end <= len(displaced.code) for end in ends)
    assert all(4 <= f.tail <= 15 for f in displaced.fields)
    assert (displaced.returns_to is None) == all(f.target is not None for f in displaced.fields)
    if displaced.returns_to is not None:
        assert displaced.returns_to == start + displaced.size
        assert not displaced.continues
