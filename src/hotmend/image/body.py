"""One function decoded in detail: what changed functions are aligned and judged by."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property

from iced_x86 import Decoder, FlowControl, Instruction, MemorySizeExt, Mnemonic, OpKind, Register, RegisterExt

from hotmend.image.references import Survey

_MEMORY, _NEAR, _REGISTER = int(OpKind.MEMORY), int(OpKind.NEAR_BRANCH64), int(OpKind.REGISTER)
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
        self._decoder = Decoder(64, text, ip=self.code.start)
        self.instructions: list[Instruction] = list(self._decoder)

    @cached_property
    def tokens(self) -> list[int]:
        """A number for each instruction without its numbers: operation, registers, base, index and scale."""
        return [_token_number(i) for i in self.instructions]

    @cached_property
    def compared(self) -> frozenset[int]:
        """The numbers that are compared, and the addresses that are loaded into a register and compared there."""
        return frozenset(_compared(self.instructions))

    def taking(self, start: int, end: int) -> list[int]:
        """Return the indices of instructions with an address or a number in `[start, end)`, in their order."""
        numbers = self._numbers
        first, last = bisect_left(numbers, (start, 0)), bisect_left(numbers, (end, 0))
        return sorted({n for _, n in numbers[first:last]})

    @cached_property
    def _numbers(self) -> list[tuple[int, int]]:
        """(number, index of the instruction) of all addresses and immediates, sorted: a body may be a megabyte long."""
        found: list[tuple[int, int]] = []
        for n, i in enumerate(self.instructions):
            if i.is_ip_rel_memory_operand:
                found.append((i.ip_rel_memory_address, n))
            elif i.memory_displ_size >= 4 and i.memory_base == _NONE:
                found.append((i.memory_displacement, n))
            if (number := immediate_of(i)) is not None:
                found.append((number, n))
        return sorted(found)

    @cached_property
    def members(self) -> dict[int, Member]:
        """The memory operands that may be members of something, by the index of their instruction."""
        frame = uses_frame_pointer(self.instructions)
        inherited = not frame and not writes_frame_pointer(self.instructions)
        found = ((n, member_of(i, frame_pointer=frame)) for n, i in enumerate(self.instructions))
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

    def branch_targets(self) -> set[int]:
        """Link addresses that near branches of this function go to."""
        return {i.near_branch_target for i in self.instructions if i.op_count and i.op0_kind == _NEAR}


def token(i: Instruction) -> tuple[int, ...]:
    """Return an instruction without displacement, immediate and branch target."""
    registers = tuple(
        int(i.op_register(n)) if i.op_kind(n) == _REGISTER else -int(i.op_kind(n)) for n in range(i.op_count)
    )
    wide = i.op_count and i.op0_kind == _NEAR
    return (
        int(i.mnemonic) if wide else _plain_code(i),
        *registers,
        int(i.memory_base),
        int(i.memory_index),
        i.memory_index_scale,
        int(i.memory_segment),
    )


_token_numbers: dict[tuple[int, ...], int] = {}
_token_of_form: dict[tuple[int, ...], int] = {}
"""Number of the token of each form of an instruction: all that `token` looks at, read as cheaply as possible."""


def _token_number(i: Instruction) -> int:
    form = (
        *(i.code, i.op0_register, i.op1_register, i.op2_register, i.op3_register, i.op0_kind, i.op1_kind),
        *(i.memory_base, i.memory_index, i.memory_index_scale, i.memory_segment, i.memory_size),
    )
    number = _token_of_form.get(form)
    if number is None:
        number = _token_numbers.setdefault(token(i), len(_token_numbers))
        _token_of_form[form] = number
    return number


def _compared(instructions: list[Instruction]) -> set[int]:
    result: set[int] = set()
    held: dict[int, int] = {}
    for i in instructions:
        mnemonic = i.mnemonic
        if mnemonic in (Mnemonic.CMP, Mnemonic.SUB):
            number = immediate_of(i)
            if number is not None:
                result.add(number)
            for n in range(i.op_count if held else 0):
                # What is no register has the register NONE, which never holds anything.
                register = int(RegisterExt.full_register(i.op_register(n))) if i.op_kind(n) == _REGISTER else _NONE
                if register in held:
                    result.add(held[register])
        elif (held or mnemonic in (Mnemonic.LEA, Mnemonic.MOV)) and i.op_count and i.op0_kind == _REGISTER:
            register = int(RegisterExt.full_register(i.op0_register))
            held.pop(register, None)
            number = _loaded(i)
            if number is not None:
                held[register] = number
    return result


def _loaded(i: Instruction) -> int | None:
    """Return the address or number that an instruction puts into its first operand, where it is known."""
    if i.mnemonic == Mnemonic.LEA:
        return i.ip_rel_memory_address if i.is_ip_rel_memory_operand else None
    return immediate_of(i) if i.mnemonic == Mnemonic.MOV else None


def _plain_code(i: Instruction) -> int:
    """The operation, with the short and long forms of an immediate taken as one."""
    return int(i.mnemonic) * 64 + int(i.memory_size) % 64


@dataclass(frozen=True, slots=True)
class Member:
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


def member_of(i: Instruction, *, frame_pointer: bool) -> Member | None:
    """Return the memory operand of an instruction if it goes through a pointer that is not the stack's."""
    base = i.memory_base
    if base in _NO_MEMBER or (frame_pointer and base == _RBP):
        return None
    if not any(i.op_kind(n) == _MEMORY for n in range(i.op_count)):
        return None
    displacement = i.memory_displacement
    if displacement >= 1 << 63:
        displacement -= 1 << 64
    if i.mnemonic == Mnemonic.LEA and MemorySizeExt.size(i.memory_size) == 0 and i.op0_register not in _WIDE:
        return None  # a shorter result is arithmetic, not an address
    access = 0 if i.mnemonic == Mnemonic.LEA else MemorySizeExt.size(i.memory_size)
    return Member(int(base), displacement, access, i.memory_index_scale if i.memory_index != _NONE else 0)


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


def thread_offset(i: Instruction) -> int | None:
    """Return the displacement of an operand in the thread's own storage (`fs:`), or None."""
    if i.memory_segment == _FS and any(i.op_kind(n) == _MEMORY for n in range(i.op_count)):
        return int(i.memory_displacement)
    return None


def immediate_of(i: Instruction) -> int | None:
    """Return the first immediate operand, or None."""
    code = i.code
    operand = _immediates.get(code)
    if operand is None:  # which operand is an immediate depends on the operation alone
        kinds = [i.op_kind(n) for n in range(i.op_count)]
        found = [n for n, kind in enumerate(kinds) if OpKind.IMMEDIATE8 <= kind <= OpKind.IMMEDIATE32TO64]
        operand = _immediates[code] = found[0] if found else -1
    return int(i.immediate(operand)) if operand >= 0 else None


_immediates: dict[int, int] = {}


def calls_by_instruction(body: Body) -> dict[int, int]:
    """Return for each call of a function, by instruction index, the function, PLT stub or slot it goes to."""
    result: dict[int, int] = {}
    for n, i in enumerate(body.instructions):
        if i.flow_control == FlowControl.CALL:
            result[n] = i.near_branch_target
        elif i.flow_control == FlowControl.INDIRECT_CALL:
            result[n] = i.ip_rel_memory_address if i.is_ip_rel_memory_operand else 0
    return result


def tail_calls(body: Body) -> dict[int, int]:
    """Return for each jump out of a function where it goes: the result of what is called there is handed on."""
    inside = range(body.code.start, body.code.end)
    jumps = ((n, i) for n, i in enumerate(body.instructions) if i.flow_control == FlowControl.UNCONDITIONAL_BRANCH)
    return {n: i.near_branch_target for n, i in jumps if i.near_branch_target not in inside}
