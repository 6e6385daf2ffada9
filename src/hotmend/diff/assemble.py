"""Put the shadow together: code, objects, slots and the relocations that tie them to the process."""

from __future__ import annotations

from dataclasses import dataclass

from hotmend.diff.align import Aligned
from hotmend.diff.closure import Selection
from hotmend.diff.compare import Contents
from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding, blame
from hotmend.diff.resolve import Place, Resolved, Resolver
from hotmend.image.flow import compares_address
from hotmend.image.image import R_64, R_COPY, R_GLOB_DAT, R_JUMP_SLOT, Slot
from hotmend.image.references import ABSOLUTE, JUMP, LEA
from hotmend.image.ways import code_behind
from hotmend.model.addresses import JUMP_BYTES, Extent, LinkAddress, page_ceil
from hotmend.model.hotpatch import ImportTarget, OldTarget, Relocation, RelocationKind, Segment, ShadowTarget, Target
from hotmend.model.verdict import refusal

_JOIN_BYTES = 64
_PLT_BYTES = 16
_PORT_BYTES = 16
_POINTER = -1


@dataclass(slots=True)
class _Piece:
    start: int
    content: bytes
    size: int
    section: str
    permissions: str


class Assembly:
    """The shadow in the making."""

    def __init__(self, c: Correspondence, contents: Contents, selection: Selection, aligned: Aligned) -> None:
        self._c, self._contents, self._selection = c, contents, selection
        self.resolver = Resolver(c, contents, selection, aligned)
        self.relocations: dict[int, Relocation] = {}
        self.evidence: dict[str, int] = {}
        self._findings: list[Finding] = []
        self._pieces: dict[tuple[int, str], _Piece] = {}
        self._done: set[tuple[Place, int]] = set()
        self._current = -1
        """The code that is being added."""
        self.variables: dict[int, int] = {}
        """Places of variables that the new build added: link address -> bytes from there on."""
        self.compared: set[int] = set()
        """Constant objects of the shadow whose address new code compares."""
        self._aligned = aligned
        self._bridges: set[int] = set()
        self.ports: dict[int, LinkAddress] = {}
        """Start of a function whose address is handed out -> the jump that stands for it, behind the new image."""

    def run(self) -> None:
        """Add every selected code and all that it needs."""
        for j in sorted(self._selection.shadow):
            self.begin(j)
            self._code(j)

    def begin(self, j: int) -> None:
        """Blame new code `j` for whatever cannot be answered from here on."""
        self._current = self.resolver.current = j

    def findings(self) -> list[Finding]:
        """Return what stands in the way, after `run` and `segments`."""
        return [*self._findings, *self.resolver.findings()]

    def segments(self) -> tuple[Segment, ...]:
        """Return the pieces, neighbours joined, sorted by address."""
        result: list[_Piece] = []
        for piece in sorted(self._pieces.values(), key=lambda p: (p.start, -p.size)):
            last = result[-1] if result else None
            if (
                last is not None
                and last.section == piece.section
                and piece.start <= last.start + last.size + _JOIN_BYTES
            ):
                _join(last, piece)
            else:
                result.append(_Piece(piece.start, piece.content, piece.size, piece.section, piece.permissions))
        pages: dict[int, str] = {}
        for p in result:
            for page in range(p.start // 4096, (p.start + p.size - 1) // 4096 + 1):
                if pages.setdefault(page, p.permissions) != p.permissions:
                    reason = refusal(
                        "mixed-page", "one page of the new build holds parts with two permissions", hex(page * 4096)
                    )
                    self._findings.append(Finding(reason))
        return tuple(Segment(Extent(LinkAddress(p.start), p.size), p.permissions, p.content, p.section) for p in result)

    def _code(self, j: int) -> None:
        new = self._c.new
        code = new.codes[j]
        r = new.references
        self.piece(code.start, new.bytes_of(j), code.size)
        low, high = int(r.first[j]), int(r.first[j + 1])
        for field, width, kind, target, tail, access in zip(
            *(a[low:high].tolist() for a in (r.field, r.width, r.kind, r.target, r.tail, r.access)), strict=True
        ):
            if kind == LEA and code.start < target < code.end:
                self._refuse("computed-goto", "a changed function takes the address of a label of its own", code.label)
                continue
            resolved = self.resolver.resolve(target, LEA if kind == ABSOLUTE and access == 0 else kind, j)
            if resolved is None:
                self._count("unresolved")
                continue
            self.need(resolved)
            self._count(resolved.evidence)
            self._relocate_field(field, width, kind, tail, target, resolved)
        self._run_on(j)

    def _run_on(self, j: int) -> None:
        """Let a code that goes on into the one behind it do so, where that is not in the shadow."""
        new = self._c.new
        behind = code_behind(new, j)
        if behind < 0:
            return
        end, start = int(new.codes[j].end), int(new.codes[behind].start)
        if start > end:
            self.piece(end, new.image.read(end, start - end), start - end)
        if behind not in self._selection.shadow and (resolved := self.resolver.resolve(start, JUMP, j)) is not None:
            self._bridge(start, resolved)

    def _relocate_field(
        self, field: int, width: int, kind: int, tail: int, target_address: int, resolved: Resolved
    ) -> None:
        if kind == ABSOLUTE:
            form = RelocationKind.ABS64 if width == 8 else RelocationKind.ABS32S
            self.relocation(field, form, self.target(resolved), 0, resolved)
        elif resolved.place is Place.OLD:
            if width == 4:
                self.relocation(field, RelocationKind.PC32, OldTarget(resolved.address), -tail, resolved)
            else:
                self._bridge(target_address, resolved)
        elif resolved.place in (Place.SHADOW_VARIABLE, Place.SHADOW_PORT) and width == 4:
            # A variable would fit as it is; a relocation can lead to another copy, that an earlier hotpatch has.
            self.relocation(field, RelocationKind.PC32, self.target(resolved), -tail, resolved)

    def _bridge(self, target: int, resolved: Resolved) -> None:
        """Serve a short branch: its target's own place in the shadow is free, so a long jump stands there."""
        new = self._c.new
        touched = {new.holder(target + n) for n in range(JUMP_BYTES)} & self._selection.shadow
        if touched or any(0 < abs(target - other) < JUMP_BYTES for other in self._bridges):
            self._refuse("short-branch-out", "a short branch leads where a long one has no room", hex(target))
            return
        self._bridges.add(target)
        self.piece(target, b"\xe9\0\0\0\0", JUMP_BYTES)
        self.relocation(target + 1, RelocationKind.PC32, OldTarget(resolved.address), -4, resolved)

    def need(self, resolved: Resolved) -> None:
        """Add what a reference leads to, where that is an object, a slot or a stub of the shadow."""
        key = (resolved.place, int(resolved.address))
        if resolved.place in (Place.OLD, Place.SHADOW_CODE, Place.SHADOW_PORT) or key in self._done:
            return
        self._done.add(key)
        address = int(resolved.address)
        if resolved.place is Place.SHADOW_SLOT:
            self.slot(address, self._c.new.image.slots[address])
        elif resolved.place is Place.SHADOW_PLT:
            self._plt(address)
        else:
            self._object(address, variable=resolved.place is Place.SHADOW_VARIABLE)

    def slot(self, address: int, slot: Slot) -> None:
        """Add a slot of the new build, to be filled as the dynamic linker would."""
        self.piece(address, bytes(8), 8)
        self._fill_slot(address, slot)

    def _fill_slot(self, address: int, slot: Slot) -> None:
        if slot.symbol_defined:
            symbol = self._c.new.image.own(slot)
            if symbol is None or not symbol.value:
                self._refuse(
                    "unmapped-reference", "a slot names a symbol of the image that it does not export", slot.name
                )
                return
            self._pointer(address, symbol.value + slot.addend)
            if not self._is_staying_export(address, slot):
                return
        target = ImportTarget(slot.name, slot.version, slot.weak and not slot.symbol_defined)
        self.relocations[address] = Relocation(
            LinkAddress(address), RelocationKind.ABS64, target, slot.addend, "import"
        )
        self._count("import")

    def _is_staying_export(self, address: int, slot: Slot) -> bool:
        """Tell whether a slot names what the old image exports by that name, too.

        What that is in a process is known there alone: the executable may have a copy of the variable, or a function of
        that name, and either counts for the image itself.
        """
        known = self._c.old.image.exports.get((slot.name, slot.version))
        relocation = self.relocations.get(address)
        return (
            known is not None
            and relocation is not None
            and isinstance(relocation.target, OldTarget)
            and relocation.target.address == known.value + slot.addend
        )

    def _plt(self, stub: int) -> None:
        image = self._c.new.image
        slot_address = self._c.new_plt[stub]
        text = image.read(stub, _PLT_BYTES)
        self.piece(stub, text, _PLT_BYTES)
        at = text.index(b"\xff\x25") + 2
        mapped = self._c.to_old.get(slot_address)
        if mapped is not None:
            resolved = Resolved(Place.OLD, LinkAddress(mapped.old), mapped.evidence)
            self.relocation(stub + at, RelocationKind.PC32, OldTarget(resolved.address), -4, resolved)
        else:
            self.need(Resolved(Place.SHADOW_SLOT, LinkAddress(slot_address), "import"))

    def _object(self, address: int, *, variable: bool) -> None:
        objects, image = self._contents.new, self._c.new.image
        size = self._object_size(address)
        section = image.section_at(address)
        if not size or section is None:
            self._refuse("unmapped-reference", "new code refers to a place without contents", hex(address))
            return
        if objects.distance_table(address):
            sentence = "new code looks data up by distances from a table, which fit the places of the new build alone"
            self._refuse("unmapped-reference", sentence, hex(address))
            return
        content = b"" if section.kind == "SHT_NOBITS" else image.read(address, size)
        self.piece(address, content, size)
        if variable:
            self.variables[address] = size
        elif not objects.jump_table(address) and any(
            compares_address(self._aligned.new(j), address) for j in objects.users(address, 1) & self._selection.shadow
        ):
            self.compared.add(address)
        for text in objects.text_table(address):
            self.need(Resolved(Place.SHADOW_OBJECT, LinkAddress(text), "new"))
        for word in objects.words_in(address, size):
            if word + 8 > address + size:
                continue
            slot = image.slots.get(word)
            if slot is None:
                self._pointer(word, image.pointers[word])
            elif slot.kind in (R_64, R_GLOB_DAT, R_JUMP_SLOT):
                self._fill_slot(word, slot)
            elif slot.kind == R_COPY:
                self._refuse("new-copied-import", "new code uses data of another image, copied at start", slot.name)
            else:
                self._refuse("new-thread-local", "a new object needs a thread-local variable", hex(word))

    def _object_size(self, address: int) -> int:
        objects = self._contents.new
        table = objects.jump_table(address) or objects.text_table(address)
        if table:
            return 4 * len(table)
        text = objects.string(address) if not objects.words_in(address, 8) else None
        return max(objects.extent(address), len(text) if text else 0)

    def _pointer(self, word: int, target: int) -> None:
        if target in self._c.new.image.resolvers:
            sentence = "new code uses an indirect function that only the dynamic linker of a new process chooses"
            self._refuse("unmapped-reference", sentence, self._c.new.image.names.get(target, hex(target)))
            return
        resolved = self.resolver.resolve(target, LEA, _POINTER)
        if resolved is None:
            self._count("unresolved")
            return
        holder = self._c.new.holder(target)
        inside = holder in self._selection.shadow and target != self._c.new.codes[holder].start
        if inside and not self._c.new.image.fixed:
            self._refuse("computed-goto", "a table holds labels of a changed function", hex(word))
        self.need(resolved)
        self._count(resolved.evidence)
        self.relocation(word, RelocationKind.ABS64, self.target(resolved), 0, resolved)

    def target(self, resolved: Resolved) -> Target:
        """Return what a relocation against an answer is against."""
        if resolved.place is Place.OLD:
            return OldTarget(resolved.address)
        if resolved.place is not Place.SHADOW_PORT:
            return ShadowTarget(resolved.address)
        first = page_ceil(self._c.new.image.extent.end)
        port = self.ports.setdefault(int(resolved.address), LinkAddress(first + _PORT_BYTES * len(self.ports)))
        return ShadowTarget(port)

    def relocation(self, at: int, kind: RelocationKind, target: Target, addend: int, resolved: Resolved) -> None:
        """Add the relocation of one field of the shadow."""
        self.relocations[at] = Relocation(LinkAddress(at), kind, target, addend, resolved.evidence, resolved.votes)

    def piece(self, address: int, content: bytes, size: int) -> None:
        """Add `size` bytes of the new build at their own address."""
        image = self._c.new.image
        section = image.section_at(address)
        name = section.name if section else ".data"
        known = self._pieces.get((address, name))
        if known is None or known.size < size:
            self._pieces[address, name] = _Piece(address, content, size, name, image.permissions_at(address))

    def _count(self, evidence: str) -> None:
        self.evidence[evidence] = self.evidence.get(evidence, 0) + 1

    def _refuse(self, code: str, sentence: str, subject: str) -> None:
        self._findings.append(blame(refusal(code, sentence, subject), {self._current}))


def _join(last: _Piece, piece: _Piece) -> None:
    """Append a piece that begins inside or shortly behind `last`; both hold the new build's own bytes."""
    gap = piece.start - last.start - last.size
    end = max(last.start + last.size, piece.start + piece.size)
    if len(last.content) < last.size and piece.content:
        last.content += bytes(last.size - len(last.content))
    if gap >= 0:
        if piece.content:
            last.content += bytes(gap) + piece.content
    else:
        keep = piece.start - last.start
        tail = piece.content[len(last.content) - keep :] if keep <= len(last.content) else piece.content
        if piece.start + len(piece.content) > last.start + len(last.content):
            last.content += tail
    last.size = end - last.start
