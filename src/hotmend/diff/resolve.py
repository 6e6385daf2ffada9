"""Find for each reference of new code what it means in the running process."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from hotmend.diff.added import AddedVariables
from hotmend.diff.align import Aligned
from hotmend.diff.closure import Selection
from hotmend.diff.compare import Contents
from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding, blame
from hotmend.diff.objects import writable_at_run_time
from hotmend.image.flow import compares_address
from hotmend.image.image import R_64, R_COPY, R_GLOB_DAT, R_JUMP_SLOT, Slot
from hotmend.image.references import CALL, JUMP
from hotmend.model.addresses import LinkAddress
from hotmend.model.verdict import Reason, refusal


class Place(Enum):
    """Where a reference leads: into the old image, or to something in the shadow."""

    OLD = "old"
    SHADOW_CODE = "code"
    SHADOW_PORT = "port"
    SHADOW_OBJECT = "object"
    SHADOW_SLOT = "slot"
    SHADOW_PLT = "plt"
    SHADOW_VARIABLE = "variable"


@dataclass(frozen=True, slots=True)
class Resolved:
    """The answer for one reference: `address` is an old link address for OLD, else a new one.

    SHADOW_PORT is a function of the shadow whose address is handed out, and that no old entry stands for.
    """

    place: Place
    address: LinkAddress
    evidence: str
    votes: int = 0


class Resolver:
    """Answers for one image; keeps the refusals of what it could not answer."""

    def __init__(self, c: Correspondence, contents: Contents, selection: Selection, aligned: Aligned) -> None:
        self._c, self._contents, self._selection, self._aligned = c, contents, selection, aligned
        self._reasons: dict[tuple[str, int], Reason] = {}
        self._blamed: dict[tuple[str, int], set[int]] = {}
        self.current = -1
        """The code of the shadow for which answers are sought; refusals blame it."""
        self._added = AddedVariables(c, contents.old, contents.new, set(selection.kept.values()))
        self.taken_entries: set[int] = set()
        """New codes whose address new code takes: their old entries have to lead to the new code."""

    def findings(self) -> list[Finding]:
        """Return what could not be answered."""
        return [blame(reason, self._blamed[key]) for key, reason in self._reasons.items()]

    def resolve(self, target: int, kind: int, user: int) -> Resolved | None:
        """Return what new address `target` means for new code `user` (or -1 for a pointer), None if unknown."""
        c = self._c
        holder = c.new.holder(target)
        if holder >= 0:
            return self._code(target, kind, holder)
        if target in c.new_plt:
            return self._mapped(target) or self._missing_plt(target)
        slot = c.new.image.slots.get(target)
        if slot is not None and not self._contents.new.is_taken(target):
            return self._mapped(target) or self._missing_slot(target, slot)
        return self._data(target, user)

    def _code(self, target: int, kind: int, holder: int) -> Resolved | None:
        c, code = self._c, self._c.new.codes[holder]
        if holder not in self._selection.shadow:
            i = self._selection.kept.get(holder, -1)
            if i < 0 and holder in self._selection.left:
                return self._refused("needs-left-function", target, "new code needs a function that has to stay old")
            if i < 0:  # code outside of frames never goes in
                return self._refused(
                    "code-outside-frames-changed",
                    target,
                    "new code refers to changed code without frame information",
                )
            mapped = c.to_old.get(code.start)
            evidence, votes = (mapped.evidence, mapped.votes) if mapped else ("function", 0)
            return Resolved(Place.OLD, LinkAddress(c.old.codes[i].start + target - code.start), evidence, votes)
        if kind in (CALL, JUMP) or target != code.start:
            return Resolved(Place.SHADOW_CODE, LinkAddress(target), "new")
        i = self._selection.origin.get(holder, -1)
        known = c.to_old.get(code.start)
        proven = known is not None and i >= 0 and known.old == c.old.codes[i].start
        if i < 0 or (c.pair_evidence.get(i) == "similarity" and not proven):
            return Resolved(Place.SHADOW_PORT, LinkAddress(target), "new")
        self.taken_entries.add(holder)  # a function's identity stays its old entry
        return Resolved(Place.OLD, c.old.codes[i].start, "function")

    def _mapped(self, target: int) -> Resolved | None:
        mapped = self._c.to_old.get(target)
        if mapped is None:
            return None
        return Resolved(Place.OLD, LinkAddress(mapped.old), mapped.evidence, mapped.votes)

    def _missing_plt(self, target: int) -> Resolved | None:
        slot_address = self._c.new_plt[target]
        slot = self._c.new.image.slots.get(slot_address)
        if slot is None:
            return self._refused("unmapped-reference", target, "a PLT stub without an import has no counterpart")
        return Resolved(Place.SHADOW_PLT, LinkAddress(target), "import")

    def _missing_slot(self, target: int, slot: Slot) -> Resolved | None:
        if slot.kind == R_COPY:
            return self._refused(
                "new-copied-import", target, "new code uses data of another image that only a new process can copy"
            )
        if slot.kind not in (R_64, R_GLOB_DAT, R_JUMP_SLOT):
            return self._refused("new-thread-local", target, "new code needs a thread-local variable of its own")
        return Resolved(Place.SHADOW_SLOT, LinkAddress(target), "import")

    def _data(self, target: int, user: int) -> Resolved | None:
        c, image = self._c, self._c.new.image
        section = image.section_at(target)
        mapped = c.to_old.get(target) or c.neighbours(target)
        if section is None or section.kind == "SHT_NOBITS" or writable_at_run_time(image, target):
            if mapped is not None:
                return Resolved(Place.OLD, LinkAddress(mapped.old), mapped.evidence, mapped.votes)
            return self._variable(target, section is None)
        if user >= 0 and self._ends_a_shadow_object(target, user):
            return Resolved(Place.SHADOW_CODE, LinkAddress(target), "new")
        if self._leads_into_shadow(target):
            return Resolved(Place.SHADOW_OBJECT, LinkAddress(target), "new")
        kept = mapped is not None and target not in self._contents.changed
        if mapped is not None and kept and self._contents.equal(mapped.old, target):
            return Resolved(Place.OLD, LinkAddress(mapped.old), mapped.evidence, mapped.votes)
        if mapped is None and user >= 0 and self._ends_an_object(target, user):
            return self._refused(
                "ambiguous-end", target, "an address may be the end of one table or the start of the next object"
            )
        return Resolved(Place.SHADOW_OBJECT, LinkAddress(target), "new")

    def _ends_a_shadow_object(self, target: int, user: int) -> bool:
        """Return whether `user` compares the end of a table that comes from the shadow: then the end does too."""
        before = self._object_before(target, user)
        if before is None or not compares_address(self._aligned.new(user), target):
            return False
        resolved = self._data(before, user)
        return resolved is not None and resolved.place is Place.SHADOW_OBJECT

    def _object_before(self, target: int, user: int) -> int | None:
        """Return the object that ends exactly at `target`, if `user` takes it too and it is no text."""
        objects = self._contents.new
        before = objects.taken_before(target)
        if before is None or before + objects.extent(before) != target or user not in objects.users(before, 1):
            return None
        return None if objects.string(before) is not None or objects.jump_table(before) else before

    def _leads_into_shadow(self, target: int) -> bool:
        """Return whether a jump table stands there that belongs to new code: its distances fit the shadow alone."""
        objects, new = self._contents.new, self._c.new
        targets = objects.jump_table(target)
        words = objects.words_in(target, objects.extent(target))
        targets += [t for w in words if (t := new.image.pointers.get(w, -1)) not in new.at]
        return not self._selection.shadow.isdisjoint(new.holder(t) for t in targets)

    def _ends_an_object(self, target: int, user: int) -> bool:
        """Return whether `user` also takes the object that ends exactly where `target` begins, and it stays old."""
        objects = self._contents.new
        if not objects.is_taken(target) or objects.string(target) is not None or objects.jump_table(target):
            return False
        before = self._object_before(target, user)
        if before is None:
            return False
        mapped = self._c.to_old.get(before) or self._c.neighbours(before)
        return mapped is not None and self._contents.equal(mapped.old, before)

    def _variable(self, target: int, outside: bool) -> Resolved | None:
        if not outside and self._added.holds(target):
            return Resolved(Place.SHADOW_VARIABLE, LinkAddress(target), "new")
        return self._refused(
            "unmapped-reference", target, "new code refers to data whose place in the running process is not proven"
        )

    def _refused(self, code: str, target: int, sentence: str) -> Resolved | None:
        section = self._c.new.image.section_at(target)
        name = self._c.new.image.names.get(target, "")
        where = f"{name or hex(target)} in {section.name if section else 'no section'}"
        self._reasons[code, target] = refusal(code, sentence, where)
        self._blamed.setdefault((code, target), set()).add(self.current)
        return None
