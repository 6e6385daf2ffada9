"""Decode the functions of an image and collect what they refer to. The only user of the decoder.

`survey` makes one pass over all code and keeps arrays, because a server has a million instructions.
`Body` decodes a single function in detail; only changed functions need that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from iced_x86 import (
    Decoder,
    FlowControl,
    Instruction,
    MemorySizeExt,
    Mnemonic,
    OpKind,
    Register,
    RegisterExt,
)
from numpy.typing import NDArray

from hotmend.image.image import Image, Integers
from hotmend.model.addresses import LinkAddress

DATA, LEA, CALL, JUMP, ABSOLUTE = range(5)
"""Kinds of references: memory operand, address taken, call, jump out of the function, absolute field."""

_MEMORY, _NEAR, _REGISTER = int(OpKind.MEMORY), int(OpKind.NEAR_BRANCH64), int(OpKind.REGISTER)
_NONE, _RIP, _RSP, _RBP, _ESP, _FS = (
    int(r) for r in (Register.NONE, Register.RIP, Register.RSP, Register.RBP, Register.ESP, Register.FS)
)
_WIDE = range(int(Register.RAX), int(Register.R15) + 1)
_FIRST_TWO = tuple(int(r) for r in (Register.EDI, Register.RDI, Register.ESI, Register.RSI))
_THIRD = (int(Register.EDX), int(Register.RDX))
_STORES = {
    getattr(Mnemonic, prefix + name)
    for prefix, names in (
        ("", ("MOV", "XCHG", "MOVD", "MOVQ", "MOVUPS", "MOVAPS", "MOVUPD", "MOVAPD", "MOVDQU", "MOVDQA")),
        ("V", ("MOVUPS", "MOVAPS", "MOVDQU", "MOVDQA")),
    )
    for name in names
}
_ADDRESS_CARRIERS = {Mnemonic.MOV, Mnemonic.PUSH, Mnemonic.CMP, Mnemonic.ADD, Mnemonic.SUB}
_IMMEDIATES = {OpKind.IMMEDIATE32, OpKind.IMMEDIATE32TO64, OpKind.IMMEDIATE64}
_NOTHING = FlowControl.NEXT


@dataclass(frozen=True, slots=True)
class Code:
    """A run of code: a function, or (`gap`) code that no frame description covers.

    Attributes:
        start, size: link address and bytes; trailing padding of gaps is cut off.
        name: where known, else "".
        gap: not covered by a frame description.
        lsda: has a language specific area (C++ cleanups and handlers).
    """

    start: LinkAddress
    size: int
    name: str
    gap: bool
    lsda: bool

    @property
    def end(self) -> LinkAddress:
        """First link address behind it."""
        return LinkAddress(self.start + self.size)

    @property
    def label(self) -> str:
        """Its name, or one made from the address."""
        return self.name or f"sub_{self.start:x}"


@dataclass(frozen=True, slots=True)
class References:
    """All references of all code of an image, as parallel arrays sorted by `field`.

    Attributes:
        owner: index of the code.
        field: link address of the displacement or immediate.
        width: its bytes (1, 4 or 8).
        kind: DATA, LEA, CALL, JUMP or ABSOLUTE.
        target: link address referred to.
        tail: bytes from the field's start to the end of the instruction.
        access: bytes accessed by a DATA reference, 0 where unknown.
        first: `owner`'s references are `first[owner]:first[owner + 1]`.
    """

    owner: NDArray[np.int32]
    field: Integers
    width: NDArray[np.int8]
    kind: NDArray[np.int8]
    target: Integers
    tail: NDArray[np.int8]
    access: NDArray[np.int16]
    first: Integers


@dataclass(frozen=True)
class Survey:
    """Everything one pass over the code of an image finds."""

    image: Image
    codes: tuple[Code, ...]
    references: References
    keys: tuple[bytes, ...]
    invalid: frozenset[int]

    @cached_property
    def starts(self) -> Integers:
        """Start of each code, ascending."""
        return np.array([c.start for c in self.codes], np.int64)

    @cached_property
    def ends(self) -> Integers:
        """End of each code, ascending."""
        return np.array([c.end for c in self.codes], np.int64)

    @cached_property
    def at(self) -> dict[int, int]:
        """Start of code -> its index."""
        return {c.start: i for i, c in enumerate(self.codes)}

    def holder(self, address: int) -> int:
        """Return the index of the code that holds a link address, or -1."""
        i = int(np.searchsorted(self.starts, address, "right")) - 1
        return i if i >= 0 and address < self.ends[i] else -1

    def holders(self, addresses: Integers) -> Integers:
        """`holder` for an array."""
        if not len(self.codes):
            return np.full(len(addresses), -1, np.int64)
        i = np.searchsorted(self.starts, addresses, "right") - 1
        inside = (i >= 0) & (addresses < self.ends[np.maximum(i, 0)])
        return np.where(inside, i, -1).astype(np.int64)

    def bytes_of(self, index: int) -> bytes:
        """Return the bytes of a code."""
        code = self.codes[index]
        return self.image.read(code.start, code.size)


def survey(image: Image, like: Survey | None = None) -> Survey:
    """Decode all code of `image`.

    Args:
        image: what to decode.
        like: another build of it. Code that differs from that build's in its reference fields alone has the same
            instructions, so that it need not be decoded again; that is most of an image.
    """
    codes = _codes(image)
    collector = _Collector(image)
    known: set[int] = set()
    if like is not None:
        known, collector.copied = _copied(image, codes, like)
    for index, code in enumerate(codes):
        if index not in known:
            collector.scan(index, code)
    references = collector.references(len(codes))
    return Survey(image, codes, references, _keys(image, codes, references), frozenset(collector.invalid))


_LOOKAHEAD = 12


def _copied(image: Image, codes: tuple[Code, ...], like: Survey) -> tuple[set[int], Integers]:
    """Find codes with a twin in `like` at about the same place; return their indexes and reference rows."""
    nothing = np.zeros((0, 7), np.int64)
    if image.fixed or like.image.fixed:
        return set(), nothing  # which numbers are addresses depends on where the sections are
    pairs = np.array(_twins(image, codes, like), np.int64).reshape(-1, 2)
    if not len(pairs):
        return set(), nothing
    r = like.references
    at, counts = reference_ranges(r.first, pairs[:, 0])
    starts = np.array([c.start for c in codes], np.int64)
    ends = np.array([c.end for c in codes], np.int64)
    owner = np.repeat(pairs[:, 1], counts)
    field = r.field[at] + np.repeat(starts[pairs[:, 1]] - like.starts[pairs[:, 0]], counts)
    target = field + r.tail[at] + _signed_fields(image, field, r.width[at])
    inside = (target >= starts[owner]) & (target < ends[owner])
    kind = r.kind[at]
    # A branch that leaves one build's function and stays in the other's is no reference there: decode that one.
    doubtful = np.unique(owner[inside & ((kind == JUMP) | ((kind == CALL) & (target != starts[owner])))])
    rows = np.stack([owner, field, r.width[at], kind, target, r.tail[at], r.access[at]], 1).astype(np.int64)
    return set(pairs[:, 1].tolist()) - set(doubtful.tolist()), rows[~np.isin(owner, doubtful)]


def reference_ranges(first: Integers, owners: Integers) -> tuple[Integers, Integers]:
    """Return the indexes of all references of `owners`, one owner behind the other, and how many each has."""
    counts = first[owners + 1] - first[owners]
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(first[owners], counts) + within, counts


def _twins(image: Image, codes: tuple[Code, ...], like: Survey) -> list[tuple[int, int]]:
    """Return (index in `like`, index) of codes with equal bytes outside of the reference fields, in link order."""
    mask = np.full(len(like.image.memory), 0xFF, np.uint8)
    for width in (1, 4, 8):
        fields = like.references.field[like.references.width == width] - like.image.extent.start
        for n in range(width):
            mask[fields + n] = 0
    blank, base = mask.tobytes(), like.image.extent.start
    result: list[tuple[int, int]] = []
    at = 0
    for index, code in enumerate(codes):
        if code.gap:
            continue
        new = int.from_bytes(image.read(code.start, code.size), "little")
        for i in range(at, min(at + _LOOKAHEAD, len(like.codes))):
            twin = like.codes[i]
            if twin.size != code.size or twin.gap or i in like.invalid:
                continue
            old = int.from_bytes(like.bytes_of(i), "little")
            if (old ^ new) & int.from_bytes(blank[twin.start - base : twin.end - base], "little") == 0:
                result.append((i, index))
                at = i + 1
                break
    return result


def _signed_fields(image: Image, field: Integers, width: NDArray[np.int8]) -> Integers:
    """Read little-endian signed fields of 1 or 4 bytes."""
    at = field - image.extent.start
    memory = image.bytes_array
    result = memory[at].astype(np.int8).astype(np.int64)
    wide = width == 4
    words = sum(memory[at[wide] + n].astype(np.int64) << (8 * n) for n in range(4))
    result[wide] = np.where(words >= 1 << 31, words - (1 << 32), words)
    return result


def plt_sections(image: Image) -> tuple[tuple[int, int], ...]:
    """Return the extents of the procedure linkage tables."""
    return tuple((s.address, s.address + s.size) for s in image.allocated if s.name.startswith((".plt", ".iplt")))


def plt_stubs(image: Image) -> dict[int, int]:
    """Return the address of each PLT stub -> the GOT slot it jumps through."""
    result: dict[int, int] = {}
    for low, high in plt_sections(image):
        step = 8 if image.read(low, 2) == b"\xff\x25" and image.read(low + 6, 2) == b"\x66\x90" else 16
        for stub in range(low, high, step):
            text = image.read(stub, step)
            for prefix in (b"\xff\x25", b"\xf2\xff\x25", b"\xf3\x0f\x1e\xfa\xff\x25", b"\xf3\x0f\x1e\xfa\xf2\xff\x25"):
                if text.startswith(prefix):
                    n = len(prefix)
                    result[stub] = stub + n + 4 + int.from_bytes(text[n : n + 4], "little", signed=True)
    return result


def _codes(image: Image) -> tuple[Code, ...]:
    plt = plt_sections(image)
    functions = [f for f in image.frames if not any(low < f.extent.end and f.extent.start < high for low, high in plt)]
    result = [
        Code(f.extent.start, f.extent.size, image.names.get(f.extent.start, ""), False, f.lsda) for f in functions
    ]
    covered = sorted([(f.extent.start, int(f.extent.end)) for f in functions] + list(plt))
    for s in image.allocated:
        if not s.flags & 4:
            continue
        at = int(s.address)
        for low, high in [c for c in covered if c[1] > s.address and c[0] < s.address + s.size] + [
            (s.address + s.size, s.address + s.size)
        ]:
            gap = _trim(image, at, low)
            if gap is not None:
                result.append(Code(LinkAddress(gap[0]), gap[1], image.names.get(gap[0], ""), True, False))
            at = max(at, high)
    return tuple(sorted(result, key=lambda c: c.start))


_PADDING = re.compile(
    rb"(?:\x90|\xcc|\x00|\x66{0,10}(?:\x90|\x2e?\x0f\x1f(?:\x00|\x40\x00|\x44\x00\x00|\x80\x00{4}|\x84\x00{5})"
    rb"|\x2e\x66\x0f\x1f\x84\x00{5}))*"
)
"""Instructions without effect that compilers and assemblers put between functions."""


def padding_length(text: bytes) -> int:
    """Return how many of the first bytes of `text` are padding that compilers put between functions."""
    match = _PADDING.match(text)
    return match.end() if match else 0


def _trim(image: Image, low: int, high: int) -> tuple[int, int] | None:
    """Cut padding off both ends of `[low, high)`; None where nothing is left."""
    if high <= low:
        return None
    text = image.read(low, high - low)
    lead = padding_length(text)
    end = _end_of_code(text[lead:])
    return (low + lead, end) if end else None


def _end_of_code(text: bytes) -> int:
    """Return where the padding at the end of `text` begins; data that cannot be decoded is not padding."""
    end = 0
    for i in Decoder(64, text, ip=0):
        if i.is_invalid:
            return max(end, len(text.rstrip(b"\x00\xcc\x90")))
        zeros = not any(text[i.ip : i.next_ip])
        if not zeros and i.mnemonic not in (Mnemonic.NOP, Mnemonic.INT3):
            end = i.next_ip
    return end


class _Collector:
    """Gathers references in lists; one instance for one image."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self._low, self._high = image.extent.start, image.extent.end
        self._fixed = image.fixed
        self._ends = {s.address + s.size + n for s in image.allocated for n in range(8)}
        self._rows: list[tuple[int, int, int, int, int, int, int]] = []
        self.invalid: set[int] = set()
        self.copied: Integers = np.zeros((0, 7), np.int64)
        """Rows of codes that were not decoded because another build has the same instructions."""

    def scan(self, index: int, code: Code) -> None:
        """Decode one code and keep the references that leave it, and those to data."""
        start, end = code.start, code.end
        decoder = Decoder(64, self._image.read(start, code.size), ip=start)
        append = self._rows.append
        nothing, fixed = _NOTHING, self._fixed
        for instruction in decoder:
            if instruction.is_ip_rel_memory_operand:
                append(self._relative(index, decoder, instruction))
            flow = instruction.flow_control
            if flow != nothing:
                if instruction.is_invalid:
                    self.invalid.add(index)
                elif instruction.op_count and instruction.op0_kind == _NEAR:
                    target = instruction.near_branch_target
                    if not start <= target < end or (target == start and flow == FlowControl.CALL):
                        append(self._branch(index, decoder, instruction, target, flow))
            elif instruction.mnemonic == Mnemonic.XBEGIN:
                self.invalid.add(index)
            if fixed:
                self._absolute(index, decoder, instruction)

    @staticmethod
    def _relative(index: int, decoder: Decoder, i: Instruction) -> tuple[int, int, int, int, int, int, int]:
        offset = decoder.get_constant_offsets(i).displacement_offset
        lea = i.mnemonic == Mnemonic.LEA
        return (
            index,
            i.ip + offset,
            4,
            LEA if lea else DATA,
            i.ip_rel_memory_address,
            i.len - offset,
            0 if lea else MemorySizeExt.size(i.memory_size),
        )

    @staticmethod
    def _branch(
        index: int, decoder: Decoder, i: Instruction, target: int, flow: int
    ) -> tuple[int, int, int, int, int, int, int]:
        offsets = decoder.get_constant_offsets(i)
        width = offsets.immediate_size
        kind = CALL if flow == FlowControl.CALL else JUMP
        return (index, i.ip + offsets.immediate_offset, width, kind, target, i.len - offsets.immediate_offset, 0)

    def _absolute(self, index: int, decoder: Decoder, i: Instruction) -> None:
        """Absolute addresses in a fixed image: displacements without base, immediates that fall into a section."""
        for operand in range(i.op_count):
            kind = i.op_kind(operand)
            if kind == _MEMORY and not i.is_ip_rel_memory_operand and i.memory_displ_size >= 4:
                value = i.memory_displacement
                if self._is_address(value):
                    o = decoder.get_constant_offsets(i)
                    size = 0 if i.memory_index != _NONE or i.memory_base != _NONE else 1
                    access = MemorySizeExt.size(i.memory_size) if size else 0
                    self._rows.append(
                        (index, i.ip + o.displacement_offset, o.displacement_size, ABSOLUTE, value,
                         i.len - o.displacement_offset, access)
                    )  # fmt: skip
            elif kind in _IMMEDIATES and i.mnemonic in _ADDRESS_CARRIERS:
                value = i.immediate(operand)
                if self._is_address(value):
                    o = decoder.get_constant_offsets(i)
                    self._rows.append(
                        (index, i.ip + o.immediate_offset, o.immediate_size, ABSOLUTE, value,
                         i.len - o.immediate_offset, 0)
                    )  # fmt: skip

    def _is_address(self, value: int) -> bool:
        """Return whether a number may be an address: it lies in a section or right behind one."""
        if not self._low <= value <= self._high:
            return False
        return value in self._ends or self._image.section_at(value) is not None

    def references(self, count: int) -> References:
        """Return what was gathered from `count` codes."""
        rows = np.array(self._rows, np.uint64).astype(np.int64).reshape(-1, 7)
        rows = np.concatenate([rows, self.copied])
        rows = rows[np.argsort(rows[:, 1], kind="stable")]
        owner = rows[:, 0].astype(np.int32)
        return References(
            owner=owner,
            field=rows[:, 1],
            width=rows[:, 2].astype(np.int8),
            kind=rows[:, 3].astype(np.int8),
            target=rows[:, 4],
            tail=rows[:, 5].astype(np.int8),
            access=rows[:, 6].astype(np.int16),
            first=np.searchsorted(owner, np.arange(count + 1)),
        )


def _keys(image: Image, codes: tuple[Code, ...], references: References) -> tuple[bytes, ...]:
    """Return each code's normalised bytes: reference fields zeroed, followed by where they are.

    Two codes with equal keys have the same instructions and the same references in the same places.
    """
    normal = image.bytes_array.copy()
    for width in (1, 4, 8):
        fields = references.field[references.width == width] - image.extent.start
        for i in range(width):
            normal[fields + i] = 0
    memory = normal.tobytes()
    base = image.extent.start
    starts = np.array([c.start for c in codes], np.int64)
    relative = (references.field - (starts[references.owner] if len(codes) else 0)).astype("<u4")
    places = ((relative.astype(np.uint64) << np.uint64(8)) | references.width.astype(np.uint64)).tobytes()
    first = (references.first * 8).tolist()
    return tuple(memory[c.start - base : c.end - base] + places[first[i] : first[i + 1]] for i, c in enumerate(codes))


class Body:
    """One function decoded in detail."""

    def __init__(self, survey: Survey, index: int) -> None:
        self.code = survey.codes[index]
        text = survey.image.read(self.code.start, self.code.size)
        self._decoder = Decoder(64, text, ip=self.code.start)
        self.instructions: list[Instruction] = list(self._decoder)

    @cached_property
    def tokens(self) -> list[tuple[int, ...]]:
        """Each instruction without its numbers: operation, registers, base, index and scale."""
        return [token(i) for i in self.instructions]

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


_STACK = (_RSP, _ESP)


def member_of(i: Instruction, *, frame_pointer: bool) -> Member | None:
    """Return the memory operand of an instruction if it goes through a pointer that is not the stack's."""
    if not any(i.op_kind(n) == _MEMORY for n in range(i.op_count)):
        return None
    base = i.memory_base
    if base in _STACK or base in (_RIP, _NONE) or (frame_pointer and base == _RBP):
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


def thread_offset(i: Instruction) -> int | None:
    """Return the displacement of an operand in the thread's own storage (`fs:`), or None."""
    if i.memory_segment == _FS and any(i.op_kind(n) == _MEMORY for n in range(i.op_count)):
        return int(i.memory_displacement)
    return None


def immediate_of(i: Instruction) -> int | None:
    """Return the first immediate operand, or None."""
    for n in range(i.op_count):
        if OpKind.IMMEDIATE8 <= i.op_kind(n) <= OpKind.IMMEDIATE32TO64:
            return int(i.immediate(n))
    return None


def table_words(survey: Survey) -> set[int]:
    """Return the words of absolute jump tables in a fixed image.

    A table counts only if nothing but indirect jumps refers to it: `jmp *table(,%index,8)`. Tables that are read
    in any other way may hold labels which the program keeps.
    """
    image, r = survey.image, survey.references
    users: dict[int, bool] = {}
    for field, target, kind in zip(r.field.tolist(), r.target.tolist(), r.kind.tolist(), strict=True):
        if target not in image.pointers:
            continue
        jumps = (kind == ABSOLUTE and image.read(field - 3, 3)[:2] in (b"\xff\x24", b"\x3e\xff")) or (
            kind == ABSOLUTE and image.read(field - 2, 1) == b"\xff" and image.read(field - 1, 1)[0] & 0x38 == 0x20
        )
        users[target] = users.get(target, True) and bool(jumps)
    result: set[int] = set()
    for start in (t for t, only_jumps in users.items() if only_jumps):
        first = survey.holder(image.pointers[start])
        word = start
        while survey.holder(image.pointers.get(word, -1)) == first >= 0 and (word == start or word not in users):
            result.add(word)
            word += 8
    return result


def calls_by_instruction(body: Body) -> dict[int, int]:
    """Return for each call of a function, by instruction index, the function, PLT stub or slot it goes to."""
    result: dict[int, int] = {}
    for n, i in enumerate(body.instructions):
        if i.flow_control == FlowControl.CALL:
            result[n] = i.near_branch_target
        elif i.flow_control == FlowControl.INDIRECT_CALL:
            result[n] = i.ip_rel_memory_address if i.is_ip_rel_memory_operand else 0
    return result


def carries_size(i: Instruction, *, third: bool) -> bool:
    """Return whether an instruction sets the first or second argument of a call, or (`third`) the third."""
    return i.op_count > 0 and i.op0_kind == _REGISTER and i.op0_register in (_THIRD if third else _FIRST_TWO)


_FOLLOWED_MAX = 12


def reads_then_stores(body: Body, address: int, size: int, copiers: set[int]) -> bool:
    """Return whether a function stores what it takes from `[address, address + size)`, or the address itself.

    Followed are the next instructions only, up to a call or until the register is overwritten; stores to the
    function's own stack do not count, calls of `copiers` (PLT stubs or slots of memcpy and its like) do.
    """
    for n, i in enumerate(body.instructions):
        inside = i.is_ip_rel_memory_operand and address <= i.ip_rel_memory_address < address + size
        if not inside or i.op_count < 2 or i.op0_kind != _REGISTER:
            continue
        if _stored(body.instructions[n + 1 : n + 1 + _FOLLOWED_MAX], i, copiers):
            return True
    return False


def _stored(instructions: list[Instruction], taker: Instruction, copiers: set[int]) -> bool:
    whole = RegisterExt.full_register(taker.op0_register)
    for i in instructions:
        if i.flow_control in (FlowControl.CALL, FlowControl.INDIRECT_CALL):
            target = i.ip_rel_memory_address if i.is_ip_rel_memory_operand else i.near_branch_target
            return target in copiers
        if i.op_count >= 2 and i.op0_kind == _MEMORY and i.op1_kind == _REGISTER:
            stores = i.mnemonic in _STORES and RegisterExt.full_register(i.op1_register) == whole
            if stores and i.memory_base not in (_RSP, _RBP):
                return True
        if i.op_count and i.op0_kind == _REGISTER and RegisterExt.full_register(i.op0_register) == whole:
            return False
    return False


def compares_address(body: Body, address: int) -> bool:
    """Return whether a function compares a register that it loaded with `address`, or an equal immediate."""
    holders: set[int] = set()
    for i in body.instructions:
        operands = [n for n in range(i.op_count) if i.op_kind(n) == _REGISTER]
        registers = [int(RegisterExt.full_register(i.op_register(n))) for n in operands]
        if i.mnemonic in (Mnemonic.CMP, Mnemonic.SUB):
            if not holders.isdisjoint(registers) or immediate_of(i) == address:
                return True
        elif registers and i.op0_kind == _REGISTER:
            holders.discard(registers[0])
            if _loads_address(i, address):
                holders.add(registers[0])
    return False


def _loads_address(i: Instruction, address: int) -> bool:
    if i.mnemonic == Mnemonic.LEA:
        return i.is_ip_rel_memory_operand and i.ip_rel_memory_address == address
    return i.mnemonic == Mnemonic.MOV and immediate_of(i) == address


def hands_over(body: Body, address: int, imports: set[int]) -> bool:
    """Return whether a function takes `address` by `lea` and then calls one of `imports` (PLT stubs or slots)."""
    for n, i in enumerate(body.instructions):
        if i.mnemonic != Mnemonic.LEA or not i.is_ip_rel_memory_operand or i.ip_rel_memory_address != address:
            continue
        for later in body.instructions[n + 1 : n + 1 + _FOLLOWED_MAX]:
            if later.flow_control == FlowControl.CALL:
                if later.near_branch_target in imports:
                    return True
                break
            if later.flow_control == FlowControl.INDIRECT_CALL:
                if later.is_ip_rel_memory_operand and later.ip_rel_memory_address in imports:
                    return True
                break
            if later.flow_control == FlowControl.UNCONDITIONAL_BRANCH and later.near_branch_target in imports:
                return True
    return False
