"""What all code of an image refers to, gathered in one pass and kept in arrays.

A server has a million instructions, so that `survey` looks at each of them once and keeps numbers, not objects.
"""

from __future__ import annotations

from bisect import bisect_right
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from iced_x86 import Decoder, FlowControl, Instruction, MemorySizeExt, Mnemonic, OpKind, Register
from numpy.typing import NDArray

from hotmend.image.code import Code, codes_of
from hotmend.image.heads import INSTRUCTION_BYTES_MAX, KNOWN_HEADS, ClassTable
from hotmend.image.image import Image, Integers
from hotmend.image.sweep import Swept, sweep
from hotmend.model.errors import InputError

DATA, LEA, CALL, JUMP, ABSOLUTE = range(5)
"""Kinds of references: memory operand, address taken, call, jump out of the function, absolute field."""

_MEMORY, _NEAR, _NONE = int(OpKind.MEMORY), int(OpKind.NEAR_BRANCH64), int(Register.NONE)
_ADDRESS_CARRIERS = {Mnemonic.MOV, Mnemonic.PUSH, Mnemonic.CMP, Mnemonic.ADD, Mnemonic.SUB}
_IMMEDIATES = {OpKind.IMMEDIATE32, OpKind.IMMEDIATE32TO64, OpKind.IMMEDIATE64}
_NOTHING = FlowControl.NEXT
_LOOKAHEAD = 12
_TEACHERS = tuple(f"/usr/lib/x86_64-linux-gnu/{name}" for name in ("libc.so.6", "libstdc++.so.6", "libcrypto.so.3"))
SWEEP_BYTES_MIN = 1 << 17
"""Less code than this is decoded sooner in the plain way."""


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
    def gaps(self) -> NDArray[np.bool_]:
        """Which codes no frame description covers."""
        return np.array([c.gap for c in self.codes], np.bool_)

    @cached_property
    def at(self) -> dict[int, int]:
        """Start of code -> its index."""
        return {c.start: i for i, c in enumerate(self.codes)}

    def holder(self, address: int) -> int:
        """Return the index of the code that holds a link address, or -1."""
        i = bisect_right(self._starts, address) - 1
        return i if i >= 0 and address < self.codes[i].end else -1

    @cached_property
    def _starts(self) -> list[int]:
        starts: list[int] = self.starts.tolist()
        return starts

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

    def without_places(self, index: int) -> bytes:
        """Return the bytes of a code with zeros for what refers to places; as they are in a fixed image."""
        return self.bytes_of(index) if self.image.fixed else self.keys[index][: self.codes[index].size]


def survey(image: Image, like: Survey | None = None) -> Survey:
    """Decode all code of `image`.

    Args:
        image: what to decode.
        like: another build of it. Code that differs from that build's in its reference fields alone has the same
            instructions, so that it need not be decoded again; that is most of an image.
    """
    codes = codes_of(image)
    collector = _Collector(image)
    known: set[int] = set()
    if like is not None:
        known, collector.copied = _copied(image, codes, like)
    collector.sweep(codes, [index for index in range(len(codes)) if index not in known])
    references = collector.references(len(codes))
    return Survey(image, codes, references, _keys(image, codes, references), frozenset(collector.invalid))


def learn_common_heads() -> None:
    """Decode libraries of this machine: processes forked from this one then know what instructions begin with."""
    from hotmend.image.elf import read_image

    for path in _TEACHERS:
        with suppress(InputError):
            survey(read_image(path))


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
        self._swept: list[Integers] = []

    def sweep(self, codes: tuple[Code, ...], indexes: list[int]) -> None:
        """Do what `scan` does for many codes, with arrays; `scan` does those that have something unusual."""
        if sum(codes[i].size for i in indexes) < SWEEP_BYTES_MIN:
            for i in indexes:
                self.scan(i, codes[i])
            return
        starts = np.array([codes[i].start for i in indexes], np.int64) - self._low
        ends = starts + np.array([codes[i].size for i in indexes], np.int64)
        numbers = np.array(indexes, np.int64)
        for swept in sweep(self._image.bytes_array, starts, ends, KNOWN_HEADS):
            classes = ClassTable.of(KNOWN_HEADS)
            self._rows_of(swept, classes, numbers, starts, ends)
            for n in sorted(swept.odd):
                self.scan(indexes[n], codes[indexes[n]])
            if self._fixed:
                self._absolutes_of(swept, classes, numbers)

    def _rows_of(self, swept: Swept, classes: ClassTable, numbers: Integers, starts: Integers, ends: Integers) -> None:
        """Keep the references of swept instructions."""
        picked = classes.refers[swept.kind]
        code, at, kind = swept.code[picked], swept.at[picked], swept.kind[picked]
        width, offset = classes.width[kind], classes.offset[kind]
        field = at + offset
        address = field + self._low
        tail = classes.length[kind] - offset
        target = address + tail + _signed_fields(self._image, address, width.astype(np.int8))
        branch, call = classes.branch[kind], classes.call[kind]
        low, high = starts[code] + self._low, ends[code] + self._low
        inside = branch & (target >= low) & (target < high) & ~(call & (target == low))
        what = np.select([call, branch, classes.address[kind]], [CALL, JUMP, LEA], DATA)
        rows = np.stack([numbers[code], address, width, what, target, tail, classes.access[kind]], 1)
        self._swept.append(rows[~inside])

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

    def _absolutes_of(self, swept: Swept, classes: ClassTable, numbers: Integers) -> None:
        """Look closely at the swept instructions of a fixed image that hold a number which may be an address."""
        near = np.zeros(len(swept.at), np.bool_)
        for kind in np.nonzero(classes.absolute)[0].tolist():
            at = np.nonzero(swept.kind == kind)[0]
            for offset, width in KNOWN_HEADS.classes[kind].absolute:
                field = swept.at[at] + offset
                memory = self._image.bytes_array
                value = sum(memory[field + n].astype(np.uint64) << np.uint64(8 * n) for n in range(width))
                near[at] |= (value >= self._low) & (value <= self._high)
        order = np.nonzero(near)[0]
        for n in order[np.argsort(swept.at[order])].tolist():
            start = int(swept.at[n]) + self._low
            decoder = Decoder(64, self._image.read(start, INSTRUCTION_BYTES_MAX), ip=start)
            self._absolute(int(numbers[swept.code[n]]), decoder, decoder.decode())

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
        rows = np.concatenate([rows, self.copied, *self._swept])
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
