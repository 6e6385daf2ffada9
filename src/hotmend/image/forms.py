"""Instructions without where they stand: what their bytes alone say, asked of the decoder once and remembered.

The decoder (iced-x86) answers fast, but every question costs a way from Python and back, and rules ask a dozen about
each instruction of every changed function. Most instructions stand in both builds, and many a thousand times.
Whatever depends on the address (branch targets, rip-relative operands) is no part of a form.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from iced_x86 import ConstantOffsets, Decoder, EncodingKind, Instruction, MemorySizeExt, OpKind, Register, RegisterExt

_MEMORY, _NEAR, _REGISTER = int(OpKind.MEMORY), int(OpKind.NEAR_BRANCH64), int(OpKind.REGISTER)
NO_REGISTER = _NONE = int(Register.NONE)
_IMMEDIATE8, _IMMEDIATE32TO64 = int(OpKind.IMMEDIATE8), int(OpKind.IMMEDIATE32TO64)
_KEPT_MAX = 1 << 17
"""Forms that are remembered, about half a KiB each; where there are more, it begins anew."""


class Form(NamedTuple):
    """What the bytes of an instruction say; names and numbers are those of `iced_x86.Instruction`.

    Attributes:
        kinds: of its operands.
        registers: of its operands, NONE for what is no register.
        memory_displacement: 0 for rip-relative operands and without memory operand.
        displacement: the same with its sign.
        width: bytes accessed in memory, 0 where the operation says nothing.
        memory: it has a memory operand.
        number: the first immediate operand, None without.
        size: bytes that its first operand has, or its memory operand where it has one.
        constant: `number`, as far as the first operand has room for it.
        written: the whole register that its first operand is, NONE where it is none.
        token: a number for the instruction without displacement, immediate and branch target.
        room: bytes that a constant can have in the first operand.
    """

    mnemonic: int
    op_count: int
    kinds: tuple[int, ...]
    registers: tuple[int, ...]
    op0_kind: int
    op1_kind: int
    op0_register: int
    op1_register: int
    memory_base: int
    memory_index: int
    memory_index_scale: int
    memory_displacement: int
    memory_segment: int
    segment_prefix: int
    is_ip_rel_memory_operand: bool
    flow_control: int
    stack_pointer_increment: int
    displacement: int
    width: int
    memory: bool
    number: int | None
    size: int
    constant: int | None
    written: int
    token: int
    room: int

    def op_register(self, operand: int) -> int:
        """Return the register of an operand, NONE where it is no register."""
        return self.registers[operand]


def forms_of(instructions: Iterable[Instruction], text: bytes) -> list[Form]:
    """Return the form of each instruction.

    Args:
        instructions: decoded one behind the other.
        text: their bytes; what refers to places may be zeroed, which makes this faster.
    """
    if len(_known) > _KEPT_MAX:
        _known.clear()
        _shapes.clear()
    known = _known.get
    decoder = Decoder(64, text)
    result = []
    at = 0
    for i in instructions:
        end = at + i.len
        result.append(known(text[at:end]) or _form_elsewhere(decoder, at, text[at:end]))
        at = end
    return result


def _form_elsewhere(decoder: Decoder, at: int, text: bytes) -> Form:
    """Return the form of an instruction that is not known by its bytes: it may be known from another place."""
    branch = _opcode_of_branch(text)
    return (_known.get(branch) if branch else None) or _form_decoded(decoder, at, text)


def _opcode_of_branch(text: bytes) -> bytes:
    """Return the key of a call, a jump or a conditional jump with a distance of 4 bytes; nothing for all else."""
    if text[0] == _TWO_BYTES:
        return text[:2] + _ANY_TARGET if len(text) == _CONDITIONAL_BYTES and text[1] & 0xF0 == _CONDITIONAL else b""
    return text[:1] + _ANY_TARGET if text[0] in _CALL_OR_JUMP and len(text) == _CALL_BYTES else b""


def _form_decoded(decoder: Decoder, at: int, text: bytes) -> Form:
    decoder.position = at
    i = decoder.decode()
    offsets = decoder.get_constant_offsets(i)
    key, short = text, False
    if i.is_ip_rel_memory_operand:
        key = _blank(text, offsets.displacement_offset, offsets.displacement_size)
    elif i.op_count and i.op0_kind == _NEAR:
        key = text[: offsets.immediate_offset] + _ANY_TARGET
        short = len(text) == _SHORT_BYTES
    form = _known.get(key)
    if form is None:
        form = _known[key] = _form_by_shape(i, text, offsets)
    if short:
        _known[text] = form  # there are few of them
    return form


def _form_by_shape(i: Instruction, text: bytes, offsets: ConstantOffsets) -> Form:
    """Return the form of an instruction; from one that differs in numbers alone only the numbers are asked anew."""
    if i.encoding != EncodingKind.LEGACY:
        return form_of(i)  # the last byte may name a register
    shape = _blank(text, offsets.displacement_offset, offsets.displacement_size)
    shape = _blank(shape, offsets.immediate_offset, offsets.immediate_size)
    shape = _blank(shape, offsets.immediate_offset2, offsets.immediate_size2)
    like = _shapes.get(shape)
    if like is None:
        form = _shapes[shape] = form_of(i)
        return form
    number, displacement = _number_of(i, like.kinds), _displacement_of(i, like.kinds)
    return like._replace(
        memory_displacement=displacement,
        displacement=_signed(displacement),
        stack_pointer_increment=i.stack_pointer_increment,
        number=number,
        constant=None if number is None else number & ((1 << 8 * like.room) - 1),
    )


def _blank(text: bytes, offset: int, size: int) -> bytes:
    return text[:offset] + bytes(size) + text[offset + size :] if size else text


_TWO_BYTES, _CONDITIONAL, _CALL_OR_JUMP = 0x0F, 0x80, (0xE8, 0xE9)
_CONDITIONAL_BYTES, _CALL_BYTES, _SHORT_BYTES = 6, 5, 2
"""Opcodes of near branches, and lengths of whole branches (Intel SDM, volume 2, appendix A)."""

_ANY_TARGET = bytes(16)
"""Longer than an instruction: what a function's end cuts off has the first bytes of a branch and is none."""

_known: dict[bytes, Form] = {}
_shapes: dict[bytes, Form] = {}


def form_of(i: Instruction) -> Form:
    """Return the form of an instruction, asked of the decoder."""
    count = i.op_count
    kinds = tuple(int(i.op_kind(n)) for n in range(count))
    registers = tuple(int(i.op_register(n)) if kind == _REGISTER else _NONE for n, kind in enumerate(kinds))
    number = _number_of(i, kinds)
    displacement = _displacement_of(i, kinds)
    width = MemorySizeExt.size(i.memory_size)
    first = RegisterExt.size(i.op0_register) if kinds[:1] == (_REGISTER,) else 0
    room = first or (width if _MEMORY in kinds else 0) or 8
    return Form(
        mnemonic=int(i.mnemonic),
        op_count=count,
        kinds=kinds,
        registers=registers,
        op0_kind=int(i.op0_kind),
        op1_kind=int(i.op1_kind),
        op0_register=int(i.op0_register),
        op1_register=int(i.op1_register),
        memory_base=int(i.memory_base),
        memory_index=int(i.memory_index),
        memory_index_scale=i.memory_index_scale,
        memory_displacement=displacement,
        memory_segment=int(i.memory_segment),
        segment_prefix=int(i.segment_prefix),
        is_ip_rel_memory_operand=i.is_ip_rel_memory_operand,
        flow_control=int(i.flow_control),
        stack_pointer_increment=i.stack_pointer_increment,
        displacement=_signed(displacement),
        width=width,
        memory=_MEMORY in kinds,
        number=number,
        size=width if _MEMORY in kinds else first,
        constant=None if number is None else number & ((1 << 8 * room) - 1),
        written=int(RegisterExt.full_register(i.op0_register)) if kinds[:1] == (_REGISTER,) else _NONE,
        token=_token_numbers.setdefault(token(i), len(_token_numbers)),
        room=room,
    )


def _number_of(i: Instruction, kinds: tuple[int, ...]) -> int | None:
    """Return the first immediate operand."""
    for n, kind in enumerate(kinds):
        if _IMMEDIATE8 <= kind <= _IMMEDIATE32TO64:
            return int(i.immediate(n))
    return None


def _displacement_of(i: Instruction, kinds: tuple[int, ...]) -> int:
    """Return the displacement of a memory operand; the decoder keeps targets of branches in the same place."""
    return i.memory_displacement if _MEMORY in kinds and not i.is_ip_rel_memory_operand else 0


def _signed(displacement: int) -> int:
    return displacement - (1 << 64) if displacement >> 63 else displacement


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


def _plain_code(i: Instruction) -> int:
    """The operation, with the short and long forms of an immediate taken as one."""
    return int(i.mnemonic) * 64 + int(i.memory_size) % 64
