"""Functions, code between them and linkage tables, and what single instructions refer to."""

from __future__ import annotations

import struct

import pytest
from iced_x86 import Mnemonic

from hotmend.image.body import Body, member_of, thread_offset, uses_frame_pointer
from hotmend.image.code import codes_of, padding_length, plt_stubs
from hotmend.image.elf import read_image
from hotmend.image.image import R_JUMP_SLOT
from hotmend.image.references import CALL, DATA, JUMP, LEA, Survey, survey
from tests.unit.elf_maker import ALLOC, EXEC, PROGBITS, RODATA, TEXT, Library, Part
from tests.unit.elf_maker import DATA as DATA_AT

_RETURN = b"\xc3"


def _codes(text: bytes, functions: list[tuple[int, int]]) -> list[tuple[int, int, bool]]:
    image = read_image(Library(text=text, functions=functions, exports={}).but())
    return [(c.start - TEXT, c.size, c.gap) for c in codes_of(image)]


@pytest.mark.parametrize(
    ("text", "functions", "expected"),
    [
        (b"\xc3" * 8, [(TEXT, 8)], [(0, 8, False)]),
        (b"\xc3" * 8, [(TEXT, 3), (TEXT + 3, 5)], [(0, 3, False), (3, 5, False)]),
        (b"\xc3\xcc\xcc\xcc\xc3", [(TEXT, 1), (TEXT + 4, 1)], [(0, 1, False), (4, 1, False)]),
        (b"\xc3\x90\x31\xc0\xc3\x90\xc3", [(TEXT, 1), (TEXT + 6, 1)], [(0, 1, False), (2, 3, True), (6, 1, False)]),
        (b"\x31\xc0\xc3\x90\xc3", [(TEXT + 4, 1)], [(0, 3, True), (4, 1, False)]),
        (b"\xc3\x66\x90\x31\xc0\xc3\x0f\x1f\x00", [(TEXT, 1)], [(0, 1, False), (3, 3, True)]),
        (b"\xc3\xf4\x06\xf4\0\0", [(TEXT, 1)], [(0, 1, False), (1, 3, True)]),  # 06 is no instruction: data
        (b"\xc3" + bytes(20), [(TEXT, 1)], [(0, 1, False)]),
    ],
)
def test_code_between_functions_is_found_without_its_padding(
    text: bytes, functions: list[tuple[int, int]], expected: list[tuple[int, int, bool]]
) -> None:
    assert _codes(text, functions) == expected


@pytest.mark.parametrize(
    ("padding", "length"),
    [
        ("", 0),
        ("90", 1),
        ("cccccc", 3),
        ("6690 c3", 2),
        ("0f1f00 55", 3),
        ("0f1f4000", 4),
        ("0f1f440000", 5),
        ("660f1f440000", 6),
        ("0f1f8000000000", 7),
        ("0f1f840000000000", 8),
        ("66662e0f1f840000000000 90", 12),
        ("55 90", 0),
        ("0f1f84", 0),
        ("66 31c0", 0),
    ],
)
def test_padding_is_what_compilers_put_between_functions(padding: str, length: int) -> None:
    assert padding_length(bytes.fromhex(padding)) == length


def _plt(stubs: bytes) -> dict[int, int]:
    at = TEXT + 0x40
    part = Part(".plt.sec", PROGBITS, ALLOC | EXEC, at, stubs)
    text = Part(".text", PROGBITS, ALLOC | EXEC, TEXT, _RETURN)
    made = Library(text=bytes(0x100), functions=[(TEXT, 1)], exports={}, parts={".plt.sec": part, ".text": text})
    return {stub - at: slot - at for stub, slot in plt_stubs(read_image(made.but())).items()}


def test_stubs_of_every_form_jump_through_their_slot() -> None:
    distance = struct.pack("<i", 0x1000)
    assert _plt(b"\xff\x25" + distance + b"\x68" + bytes(9)) == {0: 0x1006}
    assert _plt(b"\xff\x25" + distance + b"\x66\x90" + b"\xff\x25" + distance + b"\x66\x90") == {0: 0x1006, 8: 0x100E}
    assert _plt(b"\xf2\xff\x25" + distance + bytes(9)) == {0: 0x1007}
    assert _plt(b"\xf3\x0f\x1e\xfa\xff\x25" + distance + bytes(6)) == {0: 0x100A}
    assert _plt(b"\xf3\x0f\x1e\xfa\xf2\xff\x25" + distance + bytes(5)) == {0: 0x100B}
    assert _plt(b"\xff\x35" + distance + bytes(10)) == {}


def _survey(text: str, size: int = 0, **changes: object) -> Survey:
    code = bytes.fromhex(text)
    functions = [(TEXT, size or len(code))] + ([(TEXT + size, len(code) - size)] if size else [])
    return survey(read_image(Library(text=code, functions=functions, exports={}).but(**changes)))


def _rel(place: int, target: int, tail: int = 4) -> str:
    return struct.pack("<i", target - TEXT - place - tail).hex()


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        (f"488d05 {_rel(3, RODATA)} c3", 0, (3, 4, LEA, RODATA, 4, 0)),
        (f"8b05 {_rel(2, DATA_AT)} c3", 0, (2, 4, DATA, DATA_AT, 4, 4)),
        (f"488b05 {_rel(3, DATA_AT)} c3", 0, (3, 4, DATA, DATA_AT, 4, 8)),
        (f"803d {_rel(2, DATA_AT, 5)} 07 c3", 0, (2, 4, DATA, DATA_AT, 5, 1)),
        (f"c705 {_rel(2, DATA_AT, 8)} 07000000 c3", 0, (2, 4, DATA, DATA_AT, 8, 4)),
        (f"e8 {_rel(1, TEXT + 6)} c3 c3", 6, (1, 4, CALL, TEXT + 6, 4, 0)),
        (f"e8 {_rel(1, TEXT)} c3", 0, (1, 4, CALL, TEXT, 4, 0)),
        (f"e9 {_rel(1, TEXT + 5)} c3", 5, (1, 4, JUMP, TEXT + 5, 4, 0)),
        ("7401 c3 c3", 3, (1, 1, JUMP, TEXT + 3, 1, 0)),
        (f"0f84 {_rel(2, TEXT + 7)} c3 c3", 7, (2, 4, JUMP, TEXT + 7, 4, 0)),
        (f"ff25 {_rel(2, DATA_AT)}", 0, (2, 4, DATA, DATA_AT, 4, 8)),
    ],
)
def test_each_instruction_has_the_reference_it_makes(text: str, size: int, expected: tuple[int, ...]) -> None:
    r = _survey(text, size).references
    (found,) = [
        (int(r.field[n]) - TEXT, *(int(a[n]) for a in (r.width, r.kind, r.target, r.tail, r.access)))
        for n in range(int(r.first[1]))
    ]
    assert found == expected


@pytest.mark.parametrize(
    "text", ["31c0 c3", "7400 c3", "ebfe", "b800100000 c3", "488b4708 c3", "64488b042500000000 c3"]
)
def test_what_stays_inside_is_no_reference(text: str) -> None:
    assert len(_survey(text).references.field) == 0


def test_keys_are_equal_where_only_references_differ() -> None:
    one, two = f"488d05 {_rel(3, RODATA)} c3", f"488d05 {_rel(3, DATA_AT)} c3"
    assert _survey(one).keys == _survey(two).keys
    assert _survey(one).keys != _survey(one.replace("488d05", "488b05")).keys
    assert _survey("7401 c3 c3", 3).keys[0] != _survey("7401 c3 c3").keys[0], "a branch inside, and one out"


@pytest.mark.parametrize(
    ("like", "text"),
    [
        ("7401 c3 c3", "7400 c3 c3"),  # left the function there, stays inside here
        (f"e8 {_rel(1, TEXT + 6)} c3 c3", f"e8 {_rel(1, TEXT + 5)} c3 c3"),
        (f"e8 {_rel(1, TEXT + 6)} c3 c3", f"e8 {_rel(1, TEXT)} c3 c3"),
        (f"488d05 {_rel(3, RODATA)} c3 c3", f"488d05 {_rel(3, DATA_AT)} c3 c3"),
    ],
)
def test_what_is_taken_over_from_another_build_is_what_decoding_gives(like: str, text: str) -> None:
    size = len(bytes.fromhex(text)) - 1
    old, decoded = _survey(like, size), _survey(text, size)
    copied = survey(decoded.image, old)
    assert copied.keys == decoded.keys
    assert copied.references.target.tolist() == decoded.references.target.tolist()
    assert copied.references.kind.tolist() == decoded.references.kind.tolist()


def test_code_that_cannot_be_decoded_is_marked() -> None:
    assert _survey("06 c3").invalid == {0}
    assert _survey("c3").invalid == set()


def test_addresses_are_found_in_the_code_that_holds_them() -> None:
    found = _survey("31c0c3 31c0c3 9090 31c0c3", 3)
    assert [found.holder(TEXT + n) for n in (-1, 0, 2, 3, 10, 11)] == [-1, 0, 0, 1, 1, -1]
    assert found.holders(found.ends).tolist() == [1, -1]
    assert found.bytes_of(0) == bytes.fromhex("31c0c3")


def _body(text: str) -> Body:
    return Body(_survey(text), 0)


@pytest.mark.parametrize(
    ("text", "displacement", "access"),
    [("488b4708", 8, 8), ("8b47f8", -8, 4), ("c6873412000001", 0x1234, 1), ("488d4710", 16, 0), ("488b0c07", 0, 8)],
)
def test_members_are_operands_off_a_pointer(text: str, displacement: int, access: int) -> None:
    member = member_of(_body(text + "c3").forms[0], frame_pointer=True)
    assert member is not None
    assert (member.displacement, member.access) == (displacement, access)


@pytest.mark.parametrize("text", ["488b442408", "488b45f8", "488b05 00000000", "31c0", "8d4705"])
def test_the_stack_and_plain_arithmetic_are_no_members(text: str) -> None:
    assert member_of(_body(text + "c3").forms[0], frame_pointer=True) is None


def test_rbp_is_a_pointer_like_any_other_without_a_frame() -> None:
    (first, _) = _body("488b45f8 c3").forms
    assert member_of(first, frame_pointer=False) is not None
    assert uses_frame_pointer(_body("55 4889e5 5d c3").instructions)
    assert not uses_frame_pointer(_body("55 4889fd 5d c3").instructions)


def test_thread_offsets_and_immediates() -> None:
    first, second, last = _body("64488b042528000000 83c007 c3").forms
    assert (thread_offset(first), thread_offset(second)) == (0x28, None)
    assert (second.number, last.number) == (7, None)


def test_tokens_leave_numbers_out_and_registers_in() -> None:
    tokens = [_body(text + "c3").tokens[0] for text in ("488b4708", "488b4710", "488b4608", "8b4708")]
    assert tokens[0] == tokens[1]
    assert len({tokens[0], tokens[2], tokens[3]}) == 3
    assert _body("83c007 c3").tokens[0] == _body("83c009 c3").tokens[0]


def test_import_slots_are_named() -> None:
    found = _survey(f"ff25 {_rel(2, DATA_AT)}", imports=("puts",), relocations=((DATA_AT, R_JUMP_SLOT, 1, 0),))
    assert found.image.slots[int(found.references.target[0])].name == "puts"


def test_what_refers_to_two_places_by_the_same_instruction_has_one_form() -> None:
    first, second, *_ = _body("488d0d10000000 488d0d20000000 c3").forms
    assert first is second
    assert first.memory_displacement == 0


def test_branches_to_two_places_have_one_form_and_one_that_the_end_cuts_off_has_another() -> None:
    first, second, cut = _body("7400 7401 74").forms
    assert first is second
    assert (first.mnemonic, cut.mnemonic) == (Mnemonic.JE, Mnemonic.INVALID)


def test_an_operand_that_names_a_register_behind_the_displacement_counts() -> None:
    """The last byte of `vblendvps` is a register, and stands where others have their displacement."""
    one, other, _ = _body("c4e3794a0510000000 10 c4e3794a0510000000 20 c3").forms
    assert one.registers != other.registers
