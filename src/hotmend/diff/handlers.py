"""Functions whose code is the same and whose exception tables say something else.

What a function catches, which of its calls are guarded and what it lets nobody pass (`noexcept`) stands in its table
alone. A fix may be another type in there, and nothing else.
"""

from __future__ import annotations

from hotmend.diff.correspond import Correspondence, leads_to_same
from hotmend.image.handling import Pointer, read_handling
from hotmend.image.image import R_COPY, Frame, Image
from hotmend.image.typeinfo import Types
from hotmend.model.errors import InputError

_TYPEINFO = "_ZTI"


def unsettle_handlers(c: Correspondence) -> None:
    """Make changed functions of those with equal code that catch, guard or let pass something else."""
    tables = _Tables(c)
    for i, j in c.staying().items():
        if (c.old.codes[i].lsda or c.new.codes[j].lsda) and not tables.equal(i, j):
            c.same.pop(i, None)
            c.cosmetic.pop(i, None)
            c.pairs[i] = j
            c.pair_evidence[i] = "votes"


class _Tables:
    """Exception tables of both builds."""

    def __init__(self, c: Correspondence) -> None:
        self._c = c
        self._old_frames, self._new_frames = _by_start(c.old.image), _by_start(c.new.image)
        self._old_types, self._new_types = Types(c.old.image), Types(c.new.image)

    def equal(self, i: int, j: int) -> bool:
        """Return whether two functions handle exceptions alike; not, where that cannot be read."""
        c = self._c
        try:
            old = read_handling(c.old.image, self._old_frames[c.old.codes[i].start])
            new = read_handling(c.new.image, self._new_frames[c.new.codes[j].start])
        except (InputError, KeyError):
            return False
        if (old.lsda is None) != (new.lsda is None) or old.sites != new.sites or old.lists != new.lists:
            return False
        return old.types.keys() == new.types.keys() and all(
            self._same_type(old.types[number], new.types[number]) for number in old.types
        )

    def _same_type(self, old: Pointer | None, new: Pointer | None) -> bool:
        if old is None or new is None:
            return old is new  # catches everything
        a, x = _type(self._c.old.image, self._old_types, old)
        b, y = _type(self._c.new.image, self._new_types, new)
        if a != b or (not a and x is None):
            return False
        if a and not a.startswith("*"):
            return True
        # A name that one file of source owns, or none at all: what counts is where the type is described.
        if x is None or y is None:
            return x is y
        same = leads_to_same(self._c, x, y)
        if same is None and a:
            return len(self._old_types.named(a)) == len(self._new_types.named(a)) == 1
        return same is True


def _by_start(image: Image) -> dict[int, Frame]:
    return {int(frame.extent.start): frame for frame in image.frames}


def _type(image: Image, types: Types, pointer: Pointer) -> tuple[str, int | None]:
    """Return the mangled name of the type that a pointer names, and where it is described; None where elsewhere."""
    target: int | None = int(pointer.target)
    slot = image.slots.get(pointer.target)
    if pointer.indirect:
        target = image.pointers.get(pointer.target)
    elif slot is not None and slot.kind != R_COPY:
        slot = None  # its first word, which names the kind of type
    if slot is not None:
        symbol = image.own(slot)
        return slot.name.removeprefix(_TYPEINFO), int(symbol.value) if symbol is not None else None
    return (types.name(target), target) if target is not None else ("", None)
