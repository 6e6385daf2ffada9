"""Displaced entries and their stubs, executed: the old meaning while the gate is 0, the new function while it is 1."""

from __future__ import annotations

import struct

import pytest

from hotmend.image.entry import Immovable, displace
from hotmend.model.addresses import JUMP_BYTES, LinkAddress
from tests.unit.arena import CALLEE, ENTRY, GATE, NEW, WORDS, Arena

_CALL_OK = "488b0424 c3"  # mov (%rsp), %rax ; ret: answers with its return address


def _rel(place: int, target: int, tail: int = 4) -> str:
    """Return the four bytes at offset `place` of the entry that lead to `target`."""
    return struct.pack("<i", target - (ENTRY + place) - tail).hex()


# name: (bytes of the function, bytes that the stub takes over)
_MOVABLE: dict[str, tuple[str, int]] = {
    "plain": ("55 4889e5 89f8 5d c3", 6),
    "five bytes exactly": ("b82a000000 c3", 5),
    "endbr64": ("f30f1efa 8d4705 c3", 7),
    "lea from rip": (f"488d05 {_rel(3, WORDS)} c3", 7),
    "load from rip": (f"8b05 {_rel(2, WORDS)} c3", 6),
    "store to rip": (f"893d {_rel(2, WORDS + 64)} 8b05 {_rel(8, WORDS + 64)} c3", 6),
    "compare with rip and an immediate": (f"833d {_rel(2, WORDS, 5)} 07 0f94c0 0fb6c0 c3", 7),
    "two fields": (f"90 803d {_rel(3, WORDS, 5)} 07 0f85 {_rel(10, CALLEE)} 31c0 c3", 8),
    "short conditional branch": ("85ff 7403 89f8 c3 b82a000000 c3", 6),
    "short conditional branch, the other sense": ("85ff 7503 89f8 c3 b82a000000 c3", 6),
    "long conditional branch": (f"85ff 0f84 {_rel(4, CALLEE)} 89f8 c3", 8),
    "branch to its own entry": ("83ef01 75fb 89f8 c3", 5),
    "short jump": ("eb0e cccccc cccccccccccccccccccccc b82a000000 c3", 5),
    "short jump over nops": ("eb0e 0f1f00 cccccccccccccccccccccc b82a000000 c3", 5),
    "tail call": (f"e9 {_rel(1, CALLEE)}", 5),
    "call": (f"4883ec08 e8 {_rel(5, CALLEE)} 4883c408 c3", 9),
    "call first": (f"e8 {_rel(1, CALLEE)} 4883c001 c3", 5),
    "call of a register": ("4883ec08 ffd7 4883c408 c3", 6),
    "call of a high register": ("4883ec08 41ffd0 4883c408 c3", 7),
    "call through rip": (f"ff15 {_rel(2, WORDS + 8)} 4883c001 c3", 6),
    "call through memory": ("4883ec08 ff5308 4883c408 c3", 7),
    "notrack call": ("4883ec08 3effd7 4883c408 c3", 7),
    "jump of a register": ("ffe7 cccccc", 5),
    "notrack jump of a register": ("3effe7 6690", 5),
    "jump through rip": (f"ff25 {_rel(2, WORDS + 8)}", 6),
    "return and int3": ("c3 cccccccc", 5),
    "return and a long nop": ("f3c3 0f1f4000", 6),
    "keeps rax": ("4883c001 4801f8 c3", 7),
}
_CONDITIONS = {f"{0x70 + n:x}": f"39f7 {0x70 + n:x}03 89f8 c3 b82a000000 c3" for n in range(16)}


def _arena(text: bytes) -> Arena:
    arena = Arena()
    arena.write(ENTRY, text)
    arena.write(CALLEE, bytes.fromhex(_CALL_OK))
    arena.write(NEW, bytes.fromhex("b8e7030000 c3"))  # mov $999, %eax ; ret
    arena.write(WORDS, struct.pack("<QQ", 7, arena.base + CALLEE))
    return arena


def _registers(arena: Arena, edi: int | None) -> dict[str, int]:
    callee = arena.base + CALLEE
    return {
        "rdi": callee if edi is None else edi,
        "rsi": 5,
        "r8": callee,
        "rbx": arena.base + WORDS,
        "rax": 0x123456789,
    }


@pytest.mark.parametrize("far", [False, True], ids=["near", "far"])
@pytest.mark.parametrize("name", [*_MOVABLE, *_CONDITIONS])
def test_a_stub_means_the_old_code_or_the_new_one(name: str, far: bool) -> None:
    code, size = _MOVABLE.get(name, (_CONDITIONS.get(name, ""), 6))
    text = bytes.fromhex(code)
    arena = _arena(text)
    # Functions that jump where rdi says need an address there, the others the values that make a difference.
    pointers = name in ("call of a register", "notrack call", "jump of a register", "notrack jump of a register")
    values = [None] if pointers else [1, 5, 7, 1 << 31, (1 << 32) - 2] + [0] * (name != "branch to its own entry")
    if name == "branch to its own entry":
        values = [1, 3]
    before = [arena.call(ENTRY, _registers(arena, value)) for value in values]
    redirection = arena.redirect(text, far=far)
    assert redirection.entry == text[:size]
    assert arena.read(ENTRY, 1) == b"\xe9"
    for value, expected in zip(values, before, strict=True):
        assert arena.call(ENTRY, _registers(arena, value)) == expected
    arena.write(GATE, b"\x01")
    for value in values:
        registers = _registers(arena, value)
        after = arena.call(ENTRY, registers)
        assert after.pop("rax") == 999
        assert {r: after[r] for r in registers if r != "rax"} == {r: registers[r] for r in registers if r != "rax"}


def test_a_displaced_call_returns_to_the_old_code() -> None:
    """No frame may return into a stub, or the stub could never be taken away."""
    code, size = _MOVABLE["call"]
    arena = _arena(bytes.fromhex(code))
    arena.redirect(bytes.fromhex(code), far=False)
    assert arena.call(ENTRY, {})["rax"] == arena.base + ENTRY + size


_START = LinkAddress(0x401000)
_IMMOVABLE: dict[str, tuple[str, tuple[int, ...], str]] = {
    "return and code": ("c3 5548 89e5 5dc3", (), "shorter than five bytes"),
    "jump and code": ("eb10 4889e5 5dc3", (), "shorter than five bytes"),
    "register jump and code": ("ffe7 4889e5 5dc3", (), "shorter than five bytes"),
    "branch to the second byte": ("55 4889e5 5dc3", (1,), "first five bytes"),
    "branch to the fifth byte": ("55 4889e5 5dc3", (4,), "first five bytes"),
    "call that returns into the entry": ("ffd7 4889e5 5dc3", (), "returns into the first five"),
    "call through the stack": ("4883ec08 ff542408 c3", (), "through the stack pointer"),
    "call of the stack pointer": ("4883ec08 ffd4 c3", (), "through the stack pointer"),
    "far call": ("4883ec08 ff1f c3", (), "far call"),
    "loop": ("83c001 e2fb c3", (), "loop instruction"),
    "jrcxz": ("83c001 e3fb c3", (), "loop instruction"),
    "system call": ("4831c0 0f05 c3", (), "cannot stand elsewhere"),
    "transaction": ("c7f800000000 c3", (), "cannot stand elsewhere"),
    "not an instruction": ("06 9090909090", (), "cannot be decoded"),
    "end of the text": ("55 4889", (), "cannot be decoded"),
    "nothing": ("", (), "cannot be decoded"),
    "loop to the entry with live flags": ("7403 4889f8 c3", (0,), "live flags"),
    "loop to the entry with a live carry": ("4883d000 4889f8 c3", (0,), "live flags"),
}


@pytest.mark.parametrize("name", list(_IMMOVABLE))
def test_what_cannot_stand_elsewhere_is_not_moved(name: str) -> None:
    code, targets, message = _IMMOVABLE[name]
    with pytest.raises(Immovable, match=message):
        displace(bytes.fromhex(code), _START, {_START + t for t in targets})


@pytest.mark.parametrize("target", [-1, 0, JUMP_BYTES, 6])
def test_branches_to_the_entry_or_behind_the_jump_do_no_harm(target: int) -> None:
    displaced = displace(bytes.fromhex("55 4889e5 5d c3"), _START, {_START + target})
    assert (displaced.size, displaced.continues, displaced.fields) == (5, True, ())


def test_flags_made_in_the_entry_are_not_live_before_it() -> None:
    assert displace(bytes.fromhex("85ff 7403 89f8 c3"), _START, {int(_START)}).size == 6
