"""What instructions begin with, and what follows from that: the knowledge of the vectorised sweep.

The *head* of an instruction is its prefixes, opcode, ModRM and SIB: all bytes before its displacement and immediate.
The head decides everything about an instruction but the numbers in it (Intel SDM, volume 2, chapter 2): its length,
where its displacement and immediate stand, whether it refers to something. So each head is decoded once, by iced-x86,
and remembered in a tree of bytes; the same heads come again a million times. Where only the number of an ordinary
register differs, one decoding answers for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

import numpy as np
from iced_x86 import (
    Code_,
    Decoder,
    EncodingKind,
    FlowControl,
    Instruction,
    MemorySizeExt,
    Mnemonic,
    OpCodeInfo,
    OpCodeOperandKind,
    OpCodeTableKind,
    OpKind,
)
from numpy.typing import NDArray

INSTRUCTION_BYTES_MAX = 15
ODD = 1
"""The class of invalid bytes and of all that its head does not decide: such code is decoded in the plain way."""

UNKNOWN = 0
_STATES_MAX = 60_000
_IP = 1 << 40
_MEMORY, _NEAR, _REGISTER = int(OpKind.MEMORY), int(OpKind.NEAR_BRANCH64), int(OpKind.REGISTER)
_HINTS = frozenset({0x0D, *range(0x18, 0x20)})
"""Second opcode bytes of prefetches and reserved operations, of which some values of ModRM mean something."""

_CARRIERS = frozenset({Mnemonic.MOV, Mnemonic.PUSH, Mnemonic.CMP, Mnemonic.ADD, Mnemonic.SUB})
_IMMEDIATES = frozenset({OpKind.IMMEDIATE32, OpKind.IMMEDIATE32TO64, OpKind.IMMEDIATE64})
_PREFIXES = frozenset(b"\x66\xf2\xf3\xf0\x2e\x36\x3e\x26\x64\x65\x67")


def _kinds(*names: str) -> frozenset[int]:
    return frozenset(int(getattr(OpCodeOperandKind, name)) for name in names)


_REG_FIELD = _kinds("R8_REG", "R16_REG", "R32_REG", "R64_REG", "MM_REG", "XMM_REG", "YMM_REG")
_RM_MEMORY = _kinds(
    "R8_OR_MEM", "R16_OR_MEM", "R32_OR_MEM", "R64_OR_MEM", "MM_OR_MEM", "XMM_OR_MEM", "YMM_OR_MEM", "MEM"
)
_RM_REGISTER = (_RM_MEMORY - _kinds("MEM")) | _kinds("R16_RM", "R32_RM", "R64_RM", "MM_RM", "XMM_RM", "YMM_RM")
_ORDINARY = (
    _REG_FIELD
    | _RM_REGISTER
    | _RM_MEMORY
    | _kinds("R8_OPCODE", "R16_OPCODE", "R32_OPCODE", "R64_OPCODE", "AL", "AX", "CL", "EAX", "RAX", "ES_RDI", "SEG_RSI")
    | _kinds("SEG_RDI", "IMM8", "IMM8SEX16", "IMM8SEX32", "IMM8SEX64", "IMM8_CONST_1", "IMM16", "IMM32", "IMM32SEX64")
    | _kinds("IMM64", "BR64_1", "BR64_4", "MEM_OFFS")
)
_WITHOUT_OPERANDS = frozenset({Mnemonic.CDQE, Mnemonic.CQO, Mnemonic.CDQ, Mnemonic.CWDE, Mnemonic.NOP})
_UNDECIDED = _kinds("IMM4_M2Z", "XBEGIN_2", "XBEGIN_4", "FARBR2_2", "FARBR4_2", "BRDISP_2", "BRDISP_4")


class HeadClass(NamedTuple):
    """What the sweep needs to know of instructions; many heads have the same.

    Attributes:
        length: of the instruction, in bytes.
        relative: it has a rip-relative operand.
        branch: it is a near branch; `call` says which.
        address: it is `lea`.
        offset, width: where its displacement or branch distance stands, in bytes.
        access: bytes accessed by the rip-relative operand, 0 where unknown.
        absolute: offsets and widths of fields that may hold an absolute address in a fixed image.
    """

    length: int
    relative: bool = False
    branch: bool = False
    call: bool = False
    address: bool = False
    offset: int = 0
    width: int = 0
    access: int = 0
    absolute: tuple[tuple[int, int], ...] = ()


def without_registers(first: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return first bytes of instructions with the register bits of a REX prefix taken out (R, X and B)."""
    return np.where(first & 0xF0 == 0x40, first & 0xF8, first)


@cache
def _operands(code: Code_) -> tuple[frozenset[int], bool, bool, bool]:
    """Return the kinds of an operation's operands; whether a field of ModRM selects it; whether heads decide it."""
    info = OpCodeInfo(code)
    kinds = frozenset(int(info.op_kind(n)) for n in range(info.op_count))
    decided = info.encoding in (EncodingKind.LEGACY, EncodingKind.VEX, EncodingKind.EVEX) and not kinds & _UNDECIDED
    # Some EVEX operations must not use one register twice.
    ordinary = info.encoding in (EncodingKind.LEGACY, EncodingKind.VEX)
    return kinds if ordinary else frozenset(), info.is_group, info.is_rm_group, decided


class Heads:
    """A tree of the heads seen so far, and their classes.

    Attributes:
        root: value for each first two bytes of an instruction, as a little-endian number, `without_registers`.
        tree: row of a state -> value for each next byte. A value is UNKNOWN, the number of a class, or below 0 minus
            the row of the next state.
        classes: by number.
    """

    def __init__(self) -> None:
        self.root: NDArray[np.int32] = np.zeros(1 << 16, np.int32)
        self.tree: NDArray[np.int32] = np.zeros((256, 256), np.int32)
        self.classes: list[HeadClass] = [HeadClass(0), HeadClass(0)]
        self._states = 1
        self._numbers: dict[HeadClass, int] = {}

    def value(self, text: bytes) -> int:
        """Return the class of the instruction that `text` begins with; UNKNOWN where its head is a new one."""
        if len(text) < 2:
            return UNKNOWN
        value = int(self.root[_plain(text[0]) | text[1] << 8])
        depth = 2
        while value < 0:
            if depth >= len(text):
                return UNKNOWN
            value = int(self.tree[-value, text[depth]])
            depth += 1
        return value

    def learn(self, text: bytes) -> int:
        """Decode the instruction at the beginning of `text`, remember its head, return its class."""
        text = text[:INSTRUCTION_BYTES_MAX]
        known = self.value(text)
        if known != UNKNOWN:
            return known
        decoder = Decoder(64, text, ip=_IP)
        i = decoder.decode()
        if i.is_invalid or self._states > _STATES_MAX:
            return ODD
        o = decoder.get_constant_offsets(i)
        head = text[: min([n for n in (o.displacement_offset, o.immediate_offset) if n] or [i.len])]
        head = bytes([_plain(head[0])]) + head[1:]
        number = self._number(
            _class_of(i, text, o.displacement_offset, o.displacement_size, o.immediate_offset, o.immediate_size)
        )
        self._remember(head, i.code, number)
        return number

    def _number(self, what: HeadClass | None) -> int:
        if what is None:
            return ODD
        number = self._numbers.get(what)
        if number is None:
            number = self._numbers[what] = len(self.classes)
            self.classes.append(what)
        return number

    def _remember(self, head: bytes, code: Code_, number: int) -> None:
        """Enter a head, and those that differ from it in the number of an ordinary register alone."""
        at, forms = _modrm_forms(head, code)
        if len(head) == 1:
            self.root[head[0] :: 256] = number
        elif len(head) == 2:
            self.root[head[0] | forms.astype(np.int64) << 8 if at == 1 else head[0] | head[1] << 8] = number
        elif at < 0:
            state = self._follow(head[:-1])
            self.tree[state, head[-1]] = number
        elif len(head) == at + 1:
            state = self._follow(head[:-1])
            self.tree[state, forms] = number
        else:
            self._remember_sib(head, at, forms, number)

    def _remember_sib(self, head: bytes, at: int, forms: NDArray[np.int32], number: int) -> None:
        """Enter a head that ends with a SIB byte; the forms of its ModRM share what follows."""
        state = self._follow(head[: at + 1])
        if at == 1:
            self.root[head[0] | forms.astype(np.int64) << 8] = -state
        else:
            parent = self._follow(head[:at])
            self.tree[parent, forms] = -state
        sibs = np.arange(256)
        if head[at] >> 6 == 0:  # without a base there are four bytes of displacement
            sibs = sibs[(sibs & 7 == 5) == (head[at + 1] & 7 == 5)]
        self.tree[state, sibs] = number

    def _follow(self, path: bytes) -> int:
        """Return the state behind two or more bytes, made where it is missing."""
        first = path[0] | path[1] << 8
        state = -int(self.root[first])
        if state <= 0:
            state = self._state()
            self.root[first] = -state
        for byte in path[2:]:
            following = -int(self.tree[state, byte])
            if following <= 0:
                following = self._state()
                self.tree[state, byte] = -following
            state = following
        return state

    def _state(self) -> int:
        if self._states == len(self.tree):
            self.tree = np.concatenate([self.tree, np.zeros_like(self.tree)])
        self._states += 1
        return self._states - 1


def _plain(first: int) -> int:
    return first & 0xF8 if first & 0xF0 == 0x40 else first


def _class_of(
    i: Instruction, text: bytes, displacement: int, displacement_size: int, immediate: int, immediate_size: int
) -> HeadClass | None:
    """Return the class of an instruction, or None where its head does not decide what it refers to."""
    kinds, _, _, decided = _operands(i.code)
    if not decided:
        return None
    if text[0] & 0xF0 == 0x40 and not (kinds <= _ORDINARY if kinds else i.mnemonic in _WITHOUT_OPERANDS):
        return None  # the bits of REX may mean something else than a register
    absolute = _absolute_fields(i, displacement, displacement_size, immediate, immediate_size)
    if i.is_ip_rel_memory_operand:
        target = _IP + i.len + int.from_bytes(text[displacement : displacement + 4], "little", signed=True)
        if displacement_size != 4 or target != i.ip_rel_memory_address:
            return None
        address = i.mnemonic == Mnemonic.LEA
        access = 0 if address else MemorySizeExt.size(i.memory_size)
        return HeadClass(i.len, True, False, False, address, displacement, 4, access, absolute)
    if i.flow_control != FlowControl.NEXT and i.op_count and i.op0_kind == _NEAR:
        distance = int.from_bytes(text[immediate : immediate + immediate_size], "little", signed=True)
        if immediate_size not in (1, 4) or _IP + i.len + distance != i.near_branch_target:
            return None
        return HeadClass(i.len, False, True, i.flow_control == FlowControl.CALL, False, immediate, immediate_size)
    return HeadClass(i.len, absolute=absolute)


def _absolute_fields(
    i: Instruction, displacement: int, displacement_size: int, immediate: int, immediate_size: int
) -> tuple[tuple[int, int], ...]:
    """Return offset and width of the fields that may hold an absolute address in a fixed image."""
    fields = set()
    for n in range(i.op_count):
        kind = i.op_kind(n)
        if kind == _MEMORY and i.memory_displ_size >= 4 and not i.is_ip_rel_memory_operand:
            fields.add((displacement, displacement_size))
        elif kind in _IMMEDIATES and i.mnemonic in _CARRIERS:
            fields.add((immediate, immediate_size))
    return tuple(sorted(fields))


_ONLY: Final[tuple[int, NDArray[np.int32]]] = -1, np.zeros(0, np.int32)


def _modrm_forms(head: bytes, code: Code_) -> tuple[int, NDArray[np.int32]]:
    """Return where ModRM stands in a head and which values of it mean the same; -1 where only this head is known."""
    at = _modrm_at(head)
    if at >= len(head):
        return _ONLY
    if len(head) > at + 1 and (head[at] >= 0xC0 or head[at] & 7 != 4 or len(head) > at + 2):
        return _ONLY  # a byte behind ModRM that is no SIB: a register in an immediate
    forms = _alike(code, head[at])
    return (at, forms) if len(forms) else _ONLY


@cache
def _alike(code: Code_, modrm: int) -> NDArray[np.int32]:
    """Return the values of ModRM that differ from one in the number of an ordinary register alone; none if unknown."""
    kinds, group, rm_group, _ = _operands(code)
    info = OpCodeInfo(code)
    hint = info.table == OpCodeTableKind.T0F and info.op_code & 0xFF in _HINTS
    mod, reg, rm = modrm >> 6, modrm >> 3 & 7, modrm & 7
    if not kinds & (_RM_REGISTER if mod == 3 else _RM_MEMORY):
        return _ONLY[1]
    forms = np.arange(256, dtype=np.int32)
    alike = forms >> 6 == mod
    if group or hint or not kinds & _REG_FIELD:
        alike &= forms >> 3 & 7 == reg
    free = not rm_group if mod == 3 else rm != 4 and (mod != 0 or rm != 5)
    if free:
        alike &= (mod == 3) | ((forms & 7 != 4) & ((mod != 0) | (forms & 7 != 5)))
    else:
        alike &= forms & 7 == rm
    result: NDArray[np.int32] = forms[alike]
    return result


def _modrm_at(head: bytes) -> int:
    """Return where the ModRM byte stands if the instruction has one: behind the opcode."""
    at = 0
    while at < len(head) - 1 and head[at] in _PREFIXES:
        at += 1
    if head[at] & 0xF0 == 0x40:
        at += 1
        if at < len(head) and (head[at] in _PREFIXES or head[at] & 0xF0 == 0x40):
            return len(head)  # a REX before other prefixes means nothing: nobody writes that
    opcode = head[at] if at < len(head) else 0
    if opcode == 0x0F:
        at += 2 if head[at + 1 : at + 2] in (b"\x38", b"\x3a") else 1
    elif opcode in (0xC5, 0xC4, 0x62):
        at += {0xC5: 2, 0xC4: 3, 0x62: 4}[opcode]
    return at + 1


@dataclass(frozen=True, slots=True)
class ClassTable:
    """The attributes of `HeadClass` as arrays by the number of the class.

    `refers` is `relative` or `branch`, `absolute` whether there are such fields.
    """

    length: NDArray[np.int64]
    refers: NDArray[np.bool_]
    branch: NDArray[np.bool_]
    call: NDArray[np.bool_]
    address: NDArray[np.bool_]
    offset: NDArray[np.int64]
    width: NDArray[np.int64]
    access: NDArray[np.int64]
    absolute: NDArray[np.bool_]

    @classmethod
    def of(cls, heads: Heads) -> ClassTable:
        """Return the table of all classes known so far."""
        c = heads.classes
        return cls(
            length=np.array([x.length for x in c], np.int64),
            refers=np.array([x.relative or x.branch for x in c], np.bool_),
            branch=np.array([x.branch for x in c], np.bool_),
            call=np.array([x.call for x in c], np.bool_),
            address=np.array([x.address for x in c], np.bool_),
            offset=np.array([x.offset for x in c], np.int64),
            width=np.array([x.width for x in c], np.int64),
            access=np.array([x.access for x in c], np.int64),
            absolute=np.array([bool(x.absolute) for x in c], np.bool_),
        )


KNOWN_HEADS: Final = Heads()
"""What this process has seen so far: the next image has the same heads."""
