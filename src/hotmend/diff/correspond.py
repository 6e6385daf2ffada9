"""Where everything of the old image went: the correspondence of addresses, and what is certain about it.

The correspondence is filled in steps: `votes` proves most of it, `pointers` and `align` add what only data or changed
functions know. Each step adds what does not contradict what is there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hotmend.image.code import plt_stubs
from hotmend.image.image import Image, Integers, Slot
from hotmend.image.references import Survey, reference_ranges
from hotmend.model.verdict import Reason


class Mapped(NamedTuple):
    """The old address that a new address is, and why. A tuple, because there are a million of them."""

    old: int
    evidence: str
    votes: int


class Correspondence:
    """New address -> old address, with evidence; filled in steps, each step only adds what does not contradict."""

    def __init__(self, old: Survey, new: Survey, same: dict[int, int]) -> None:
        self.old, self.new = old, new
        self.same = same
        """Old code index -> new code index, equal normalised bytes and the same references."""
        self.pairs: dict[int, int] = {}
        """Old code index -> new code index of changed functions."""
        self.pair_evidence: dict[int, str] = {}
        self.cosmetic: dict[int, int] = {}
        """Old code index -> new code index of functions that differ in source line numbers alone; they stay."""
        self.to_old: dict[int, Mapped] = {}
        self.to_new: dict[int, int] = {}
        self.reasons: list[Reason] = []
        self.old_plt, self.new_plt = plt_stubs(old.image), plt_stubs(new.image)
        self.minority: set[int] = set()
        """Old indexes of codes with equal bytes that refer to something else in the new build."""
        self.split: dict[int, set[int]] = {}
        """Old function entries that pointers in data take for two different new functions, and these."""
        self._anchors: tuple[Integers, Integers] | None = None

    def add(self, old_address: int, new_address: int, evidence: str, votes: int = 0) -> bool:
        """Record that two addresses are the same thing; False where that contradicts what is known."""
        known = self.to_old.get(new_address)
        if known is not None:
            return known.old == old_address
        if old_address in self.to_new:
            return False
        self.to_old[new_address] = Mapped(old_address, evidence, votes)
        self.to_new[old_address] = new_address
        self._anchors = None
        return True

    def partner(self, old_index: int) -> int:
        """Return the new code that an old code became, or -1."""
        for known in (self.same, self.pairs, self.cosmetic):
            if old_index in known:
                return known[old_index]
        return -1

    def staying(self) -> dict[int, int]:
        """Return old code index -> new code index of all codes that need not change."""
        return self.same | self.cosmetic

    def origins(self) -> dict[int, int]:
        """Return new code index -> old code index of all codes that have both."""
        return {j: i for i, j in (*self.staying().items(), *self.pairs.items())}

    def anchors(self) -> tuple[Integers, Integers]:
        """Return the mapped addresses as arrays (new ascending, old parallel)."""
        if self._anchors is None:
            y = np.array(sorted(self.to_old), np.int64)
            self._anchors = y, np.array([self.to_old[a].old for a in y.tolist()], np.int64)
        return self._anchors

    def neighbours(self, new_address: int) -> Mapped | None:
        """Map by the nearest mapped addresses on both sides if both have moved by the same distance.

        Section starts and ends count as mapped addresses of last resort.
        """
        section = self.new.image.section_at(new_address)
        if section is None:
            return self._section_end(new_address)
        y, x = self.anchors()
        i = int(np.searchsorted(y, new_address, "right"))
        twin = self.old.image.section_named(section.name)
        if twin is None:
            return None
        low = high = None
        low = int(y[i - 1] - x[i - 1]) if i > 0 and y[i - 1] >= section.address else section.address - twin.address
        if i < len(y) and y[i] < section.address + section.size:
            high = int(y[i] - x[i])
        else:
            high = section.address + section.size - twin.address - twin.size
        if low != high:
            return None
        old_address = new_address - low
        if self.old.image.section_at(old_address) is not twin or old_address in self.to_new:
            return None
        return Mapped(old_address, "neighbours", 0)

    def _section_end(self, new_address: int) -> Mapped | None:
        """Map an address right behind a section, where the next one does not begin yet."""
        for section in self.new.image.allocated:
            if section.address + section.size == new_address:
                for twin in self.old.image.allocated:
                    if twin.name == section.name:
                        return Mapped(twin.address + twin.size, "neighbours", 0)
        return None


def slot_identity(image: Image, plt: dict[int, int], address: int) -> tuple[str, Slot] | None:
    """Return (`plt` or `slot`, slot) where an address is a PLT stub or a slot filled by symbol, else None."""
    stub = plt.get(address)
    if stub is not None:
        slot = image.slots.get(stub)
        return ("plt", slot) if slot is not None else None
    slot = image.slots.get(address)
    return ("slot", slot) if slot is not None else None


def section_name(image: Image, address: int) -> str:
    """Return the name of the section that holds an address, or an empty string."""
    section = image.section_at(address)
    return section.name if section else ""


def section_ends(image: Image, address: int) -> set[str]:
    """Return the names of the sections that end at an address, alignment to a word included.

    The start-up code's `__TMC_END__` is such an address: the end of `.data`, aligned.
    """
    return {s.name for s in image.allocated if 0 <= address - s.address - s.size < 8}


def leads_to_same(c: Correspondence, x: int, y: int) -> bool | None:
    """Return whether old address `x` is new address `y`; None where nothing says so and nothing speaks against it."""
    mapped = c.to_old.get(y)
    if mapped is not None or x in c.to_new:
        return mapped is not None and mapped.old == x
    i, j = c.old.holder(x), c.new.holder(y)
    if i >= 0 or j >= 0:
        return i >= 0 and c.partner(i) == j and x - c.old.codes[i].start == y - c.new.codes[j].start
    near = c.neighbours(y)
    if near is not None or section_name(c.old.image, x) != section_name(c.new.image, y):
        return near is not None and near.old == x
    return None


def same_end(c: Correspondence, x: int, y: int) -> bool:
    """Return whether two addresses end the same section; what begins there may be something else in each build."""
    return bool(section_ends(c.old.image, x) & section_ends(c.new.image, y))


def unique_pairs(x: Integers, y: Integers) -> tuple[Integers, Integers, Integers]:
    """Return the different rows of `(x, y)`, sorted, the row that each pair became, and how often each occurs."""
    if not len(x):
        return np.zeros((0, 2), np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64)
    low_x, low_y = int(x.min()), int(y.min())
    if int(x.max()) - low_x >= 1 << 31 or int(y.max()) - low_y >= 1 << 31:
        pairs, inverse, counts = np.unique(np.stack([x, y], 1), axis=0, return_inverse=True, return_counts=True)
        return pairs, inverse.reshape(-1), counts
    # One number for each pair sorts ten times as fast as rows do.
    packed, inverse, counts = np.unique(((x - low_x) << 31) | (y - low_y), return_inverse=True, return_counts=True)
    return np.stack([(packed >> 31) + low_x, (packed & ((1 << 31) - 1)) + low_y], 1), inverse, counts


def paired_references(c: Correspondence, *, gaps: bool) -> tuple[Integers, Integers, Integers]:
    """Return (old code index, old reference index, new reference index) for every pair with equal bytes."""
    a, b = c.old.references, c.new.references
    same = np.array([*c.same.keys(), *c.same.values()], np.int64)
    pairs = same.reshape(2, -1).T
    if not gaps:
        pairs = pairs[~c.old.gaps[pairs[:, 0]]]
    old_at, counts = reference_ranges(a.first, pairs[:, 0])
    new_at, _ = reference_ranges(b.first, pairs[:, 1])
    return np.repeat(pairs[:, 0], counts), old_at, new_at
