"""One function decoded in detail: what changed functions are aligned and judged by."""

from __future__ import annotations

from bisect import bisect_left
from functools import cached_property
from typing import NamedTuple

import numpy as np
from iced_x86 import Decoder, FlowControl, Instruction, Mnemonic, OpKind, Register
from numpy.typing import NDArray

from hotmend.image.forms import Form, forms_of
from hotmend.image.references import Survey
from hotmend.image.values import FULL

_NEAR, _REGISTER = int(OpKind.NEAR_BRANCH64), int(OpKind.REGISTER)
_NONE, _RIP, _RSP, _RBP, _ESP, _FS = (
    int(r) for r in (Register.NONE, Register.RIP, Register.RSP, Register.RBP, Register.ESP, Register.FS)
)
_WIDE = range(int(Register.RAX), int(Register.R15) + 1)
_RBP_READERS = frozenset({Mnemonic.PUSH, Mnemonic.POP, Mnemonic.CMP, Mnemonic.TEST})
_NO_MEMBER = frozenset({_RSP, _ESP, _RIP, _NONE})
"""Bases that lead to the stack or to no structure."""


class Body:
    """One function decoded in detail."""

    def __init__(self, survey: Survey, index: int) -> None:
        self.code = survey.codes[index]
        text = survey.image.read(self.code.start, self.code.size)
        self.instructions: list[Instruction] = list(Decoder(64, text, ip=self.code.start))
        self.forms: list[Form] = forms_of(self.instructions, survey.without_places(index))

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """The link address behind each instruction."""
        return np.array([i.next_ip for i in self.instructions], np.int64)

    @cached_property
    def tokens(self) -> list[int]:
        """A number for each instruction without its numbers: operation, registers, base, index and scale."""
        return [i.token for i in self.forms]

    @cached_property
    def compared(self) -> frozenset[int]:
        """The numbers that are compared, and the addresses that are loaded into a register and compared there."""
        return frozenset(_compared(self.instructions, self.forms))

    def taking(self, start: int, end: int) -> list[int]:
        """Return the indices of instructions with an address or a number in `[start, end)`, in their order."""
        numbers = self._numbers
        first, last = bisect_left(numbers, (start, 0)), bisect_left(numbers, (end, 0))
        return sorted({n for _, n in numbers[first:last]})

    @cached_property
    def _numbers(self) -> list[tuple[int, int]]:
        """(number, index of the instruction) of all addresses and immediates, sorted: a body may be a megabyte long."""
        found: list[tuple[int, int]] = []
        for n, (form, i) in enumerate(zip(self.forms, self.instructions, strict=True)):
            if form.is_ip_rel_memory_operand:
                found.append((i.ip_rel_memory_address, n))
            elif form.memory_base == _NONE and i.memory_displ_size >= 4:
                found.append((form.memory_displacement, n))
            if form.number is not None:
                found.append((form.number, n))
        return sorted(found)

    @cached_property
    def members(self) -> dict[int, Member]:
        """The memory operands that may be members of something, by the index of their instruction."""
        frame = uses_frame_pointer(self.instructions)
        inherited = not frame and not writes_frame_pointer(self.instructions)
        found = ((n, member_of(i, frame_pointer=frame)) for n, i in enumerate(self.forms))
        # Cold parts of functions go on with the frame pointer of the function they belong to.
        return {n: m for n, m in found if m is not None and not (inherited and m.base == _RBP and m.displacement < 0)}

    def indexed_numbers(self) -> set[int]:
        """Return the large displacements of operands with a base or an index: they may be biased addresses."""
        return {
            i.memory_displacement
            for i in self.instructions
            if i.memory_displ_size >= 4
            and not i.is_ip_rel_memory_operand
            and (i.memory_base != _NONE or i.memory_index != _NONE)
            and i.memory_segment != _FS
        }

    @cached_property
    def branch_targets(self) -> frozenset[int]:
        """Link addresses that near branches of this function go to."""
        pairs = zip(self.instructions, self.forms, strict=True)
        return frozenset(i.near_branch_target for i, form in pairs if form.op0_kind == _NEAR and form.op_count)


def _compared(instructions: list[Instruction], forms: list[Form]) -> set[int]:
    result: set[int] = set()
    held: dict[int, int] = {}
    for i, form in zip(instructions, forms, strict=True):
        mnemonic = form.mnemonic
        if mnemonic in (Mnemonic.CMP, Mnemonic.SUB):
            if form.number is not None:
                result.add(form.number)
            for register in form.registers if held else ():
                # What is no register has the register NONE, which never holds anything.
                if FULL[register] in held:
                    result.add(held[FULL[register]])
        elif (held or mnemonic in (Mnemonic.LEA, Mnemonic.MOV)) and form.written:
            held.pop(form.written, None)
            number = _loaded(i, form)
            if number is not None:
                held[form.written] = number
    return result


def _loaded(i: Instruction, form: Form) -> int | None:
    """Return the address or number that an instruction puts into its first operand, where it is known."""
    if form.mnemonic == Mnemonic.LEA:
        return i.ip_rel_memory_address if form.is_ip_rel_memory_operand else None
    return form.number if form.mnemonic == Mnemonic.MOV else None


class Member(NamedTuple):
    """A memory operand off a register: what a struct member or an array element looks like in code.

    Attributes:
        base: number of the base register.
        displacement: signed, bytes.
        access: bytes accessed; 0 for an address computation.
        scale: of the index, 0 without one.
    """

    base: int
    displacement: int
    access: int
    scale: int


def member_of(i: Form, *, frame_pointer: bool) -> Member | None:
    """Return the memory operand of an instruction if it goes through a pointer that is not the stack's."""
    base = i.memory_base
    if base in _NO_MEMBER or not i.memory or (frame_pointer and base == _RBP):
        return None
    address = i.mnemonic == Mnemonic.LEA
    if address and i.width == 0 and i.op0_register not in _WIDE:
        return None  # a shorter result is arithmetic, not an address
    return Member(
        base, i.displacement, 0 if address else i.width, i.memory_index_scale if i.memory_index != _NONE else 0
    )


def uses_frame_pointer(instructions: list[Instruction]) -> bool:
    """Return whether the function sets rbp up as its frame pointer."""
    return any(
        i.mnemonic == Mnemonic.MOV and i.op0_register == _RBP and i.op1_register == _RSP for i in instructions[:24]
    )


def writes_frame_pointer(instructions: list[Instruction]) -> bool:
    """Return whether the function puts a value of its own into rbp; getting the caller's back does not count."""
    return any(
        i.op_count and i.op0_kind == _REGISTER and i.op0_register == _RBP and i.mnemonic not in _RBP_READERS
        for i in instructions
    )


def thread_offset(i: Form) -> int | None:
    """Return the displacement of an operand in the thread's own storage (`fs:`), or None."""
    return i.memory_displacement if i.memory_segment == _FS and i.memory else None


def calls_by_instruction(body: Body) -> dict[int, int]:
    """Return for each call of a function, by instruction index, the function, PLT stub or slot it goes to."""
    result: dict[int, int] = {}
    for n, form in enumerate(body.forms):
        if form.flow_control == FlowControl.CALL:
            result[n] = body.instructions[n].near_branch_target
        elif form.flow_control == FlowControl.INDIRECT_CALL:
            result[n] = body.instructions[n].ip_rel_memory_address if form.is_ip_rel_memory_operand else 0
    return result


def tail_calls(body: Body) -> dict[int, int]:
    """Return for each jump out of a function where it goes: the result of what is called there is handed on."""
    inside = range(body.code.start, body.code.end)
    jumps = ((n, i) for n, i in enumerate(body.instructions) if i.flow_control == FlowControl.UNCONDITIONAL_BRANCH)
    return {n: i.near_branch_target for n, i in jumps if i.near_branch_target not in inside}
