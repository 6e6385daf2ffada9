"""The shadow's own unwinding data: frame descriptions, exception tables and a sorted table over them.

All parts stand at the new build's own addresses, so that distances between code and its description stay right. What
leaves the shadow is relocated: the personality routine and the types that handlers catch. A type means the *old*
description, where the old build has one: catching compares descriptions by address, and by name only where the name
is not private to one file of source.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from hotmend.diff.closure import Selection
from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding, blame
from hotmend.diff.resolve import Place, Resolved
from hotmend.image.handling import Handling, Pointer, read_handling, read_personality
from hotmend.image.image import Frame
from hotmend.image.references import LEA
from hotmend.image.typeinfo import Types
from hotmend.model.addresses import Extent, LinkAddress
from hotmend.model.errors import InputError
from hotmend.model.hotpatch import OldTarget, RelocationKind, ShadowTarget, Target, UnwindTable
from hotmend.model.verdict import refusal

if TYPE_CHECKING:
    from hotmend.diff.assemble import Assembly

_HEADER = ".eh_frame_hdr"
_HEAD_BYTES, _ROW_BYTES, _END_BYTES = 12, 8, 4
_CIE_POINTER_BYTES = 4
_OWN_UNWINDER = "the image brings an unwinder of its own, which looks for frames where nothing can be added"

_OWN_PERSONALITY = "the image reads its exception tables by a routine of its own, as Rust's images do"


class Unwinding:
    """Unwinding data in the making."""

    def __init__(self, c: Correspondence, selection: Selection, assembly: Assembly) -> None:
        self._c, self._selection, self._assembly = c, selection, assembly
        self._old_types, self._new_types = Types(c.old.image), Types(c.new.image)
        self._rows: list[tuple[int, int]] = []
        self._findings: list[Finding] = []
        self._filled: set[int] = set()

    def run(self, callers: frozenset[int]) -> tuple[UnwindTable | None, list[Finding]]:
        """Add the data of every function of the shadow.

        Args:
            callers: new codes that an exception may have to pass; without data they are refused.

        Returns:
            The table, None where there is nothing to find by it; and what stands in the way.
        """
        if callers and not _imports_unwinder(self._c):
            return None, [self._blocked(_OWN_UNWINDER, callers)]
        if callers and _has_own_personality(self._c):
            return None, [self._blocked(_OWN_PERSONALITY, callers)]
        frames = {int(frame.extent.start): frame for frame in self._c.new.image.frames}
        for j in sorted(self._selection.shadow):
            frame = frames.get(int(self._c.new.codes[j].start))
            try:
                if frame is not None:
                    self._add(j, frame)
                elif j in callers:
                    self._findings.append(self._blocked("a function that calls others has no frame description", [j]))
            except InputError as error:
                if j in callers:
                    self._findings.append(self._blocked(str(error), [j]))
        section = self._c.new.image.section_named(_HEADER)
        if section is None or not self._rows:
            return None, self._findings
        return self._table(section.address, section.size, needed=bool(callers)), self._findings

    def _add(self, j: int, frame: Frame) -> None:
        image, assembly = self._c.new.image, self._assembly
        handling = read_handling(image, frame)
        for part in _parts(handling):
            assembly.piece(part.start, image.read(part.start, part.size), part.size)
        assembly.begin(j)
        for pointer in handling.pointers:
            self._point(j, pointer, handling)
        self._rows.append((int(frame.extent.start), int(frame.description)))

    def _point(self, j: int, pointer: Pointer, handling: Handling) -> None:
        if handling.lsda is not None and pointer.target == handling.lsda.start:
            if not pointer.relative:
                self._absolute(pointer, ShadowTarget(pointer.target), "new")
        elif pointer.indirect:
            self._slot(j, pointer)
        elif (resolved := self._meant(j, pointer.target, is_type=pointer.is_type)) is not None:
            self._assembly.need(resolved)
            target = _target(resolved)
            if not pointer.relative:
                self._absolute(pointer, target, resolved.evidence)
            elif resolved.place is Place.OLD:
                self._assembly.relocation(pointer.address, RelocationKind.PC32, target, 0, resolved)

    def _absolute(self, pointer: Pointer, target: Target, evidence: str) -> None:
        kind = RelocationKind.ABS32S if pointer.signed else RelocationKind.ABS32
        resolved = Resolved(Place.OLD, pointer.target, evidence)
        self._assembly.relocation(pointer.address, kind, target, 0, resolved)

    def _slot(self, j: int, pointer: Pointer) -> None:
        """Give the shadow its own copy of a slot (`DW.ref.*`): it holds what the process's own one holds."""
        word, image = int(pointer.target), self._c.new.image
        if word in self._filled:
            return
        slot = image.slots.get(word)
        target = image.pointers.get(word)
        if slot is not None and slot.symbol_defined:
            symbol = image.own(slot)
            target = symbol.value if symbol is not None else None
        elif slot is not None:
            self._filled.add(word)
            self._assembly.slot(word, slot)
            return
        if target is None:
            raise InputError(f"the slot at {word:#x} of an exception table holds nothing")
        resolved = self._meant(j, target, is_type=pointer.is_type)
        if resolved is None:
            return
        self._filled.add(word)
        self._assembly.piece(word, bytes(8), 8)
        self._assembly.need(resolved)
        self._assembly.relocation(word, RelocationKind.ABS64, _target(resolved), 0, resolved)

    def _meant(self, j: int, target: int, *, is_type: bool) -> Resolved | None:
        """Return what a routine or a type of the new build is in the process."""
        name = self._new_types.name(target) if is_type else ""
        if not name:
            return self._assembly.resolver.resolve(target, LEA, -1)
        signature = self._new_types.signature(target)
        known = self._old_types.named(name)
        if len(known) == 1 and signature is not None and self._old_types.signature(known[0]) == signature:
            return Resolved(Place.OLD, LinkAddress(known[0]), "name")
        resolved = self._assembly.resolver.resolve(target, LEA, -1)
        if resolved is None or resolved.place is Place.OLD or not known:
            return resolved
        self._findings.append(
            self._blocked(f"which type of the running build a handler for {name} catches is not known", [j])
        )
        return None

    def _blocked(self, sentence: str, codes: Iterable[int]) -> Finding:
        blamed = sorted(codes)
        text = f"an exception could not pass through these new functions: {sentence}"
        return blame(
            refusal("unwind-through-new-code", text, *[self._c.new.codes[j].label for j in blamed[:20]]), blamed
        )

    def _table(self, address: int, room: int, *, needed: bool) -> UnwindTable:
        """Write the sorted table at the place of the new build's own, which is longer."""
        rows = sorted(self._rows)
        size = _HEAD_BYTES + _ROW_BYTES * len(rows)
        content = bytearray(b"\x01\x1b\x03\x3b")
        # Whoever walks the descriptions one by one finds none: they are islands, and only the table leads to them.
        end = address + size if size + _END_BYTES <= room else address + 4
        content += (end - address - 4).to_bytes(4, "little", signed=True) + len(rows).to_bytes(4, "little")
        for start, description in rows:
            content += (start - address).to_bytes(4, "little", signed=True)
            content += (description - address).to_bytes(4, "little", signed=True)
        if end != address + 4:
            content += bytes(_END_BYTES)
        self._assembly.piece(address, bytes(content), len(content))
        return UnwindTable(Extent(LinkAddress(address), size), needed)


def _imports_unwinder(c: Correspondence) -> bool:
    """Return whether the image unwinds by another one's code: a runtime library, or at least the C library's finder."""
    names = {slot.name for slot in c.old.image.slots.values()}
    return any(name.startswith("_Unwind_") for name in names) or not names.isdisjoint(
        ("__gxx_personality_v0", "__gcc_personality_v0", "__cxa_begin_catch", "_dl_find_object")
    )


def _has_own_personality(c: Correspondence) -> bool:
    """Return whether any exception table is read by a routine of the image instead of the C++ or C runtime's."""
    image, seen = c.new.image, set[int]()
    for frame in image.frames:
        if not frame.lsda:
            continue
        field = frame.description + _CIE_POINTER_BYTES
        common = field - int.from_bytes(image.read(field, _CIE_POINTER_BYTES), "little")
        if common in seen:
            continue
        seen.add(common)
        personality = read_personality(image, common)
        if personality is None or not {personality.target} & (image.slots.keys() | c.new_plt.keys()):
            return True
    return False


def _parts(handling: Handling) -> list[Extent]:
    parts = [handling.common, handling.description]
    return parts if handling.lsda is None else [*parts, handling.lsda]


def _target(resolved: Resolved) -> Target:
    return OldTarget(resolved.address) if resolved.place is Place.OLD else ShadowTarget(resolved.address)
