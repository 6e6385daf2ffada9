"""Which variables the new build added.

A variable that nobody mapped may be new, or one of the old build's that lost its name and place: then new code would
start it from zero. It counts as new where the room between its mapped neighbours grew, and where no variable of the
old build that changed code used has gone: none without a counterpart between the same neighbours, and none of the same
users where the room between other neighbours of the section shrank.
"""

from __future__ import annotations

import itertools
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from hotmend.diff.correspond import Correspondence
from hotmend.diff.objects import Objects
from hotmend.image.image import Section


@dataclass(frozen=True, slots=True)
class _Gap:
    """What lies between two mapped addresses of a section (or its ends): link addresses in both builds."""

    old_low: int
    old_high: int
    new_low: int
    new_high: int

    @property
    def growth(self) -> int:
        """By how many bytes the new build has more room there."""
        return (self.new_high - self.new_low) - (self.old_high - self.old_low)


class AddedVariables:
    """Answers for one pair of images."""

    def __init__(self, c: Correspondence, old: Objects, new: Objects, kept: AbstractSet[int]) -> None:
        """Take the correspondence, the objects of both builds and the old codes that stay as they are."""
        self._c, self._old, self._new, self._kept = c, old, new, kept
        self._gaps: dict[str, list[_Gap]] = {}

    def holds(self, target: int) -> bool:
        """Return whether new address `target`, which is not mapped, is a variable that the new build added."""
        c = self._c
        section = c.new.image.section_at(target)
        if section is None:
            return False
        twin = c.old.image.section_named(section.name)
        if twin is None:
            return True  # the old image has no such section at all
        if section.name not in self._gaps:
            self._gaps[section.name] = _gaps(c, section, twin)
        gaps = self._gaps[section.name]
        gap = next((g for g in gaps if g.new_low <= target < g.new_high), None)
        if gap is None or gap.growth <= 0 or gap.old_high < gap.old_low:
            return False
        if any(self._lost_users(gap)):
            return False
        users = self._new.users(target, 1)
        former = (lost for g in gaps if g.growth < 0 for lost in self._lost_users(g))
        return not any(-1 in partners or partners & users for partners in former)

    def _lost_users(self, gap: _Gap) -> list[set[int]]:
        """Return, for all in this gap that changed code used and has no counterpart, what its users became."""
        bounds = self._old.bounds_between(gap.old_low, gap.old_high)
        found = (self._old.users(b, 1) for b in bounds if b not in self._c.to_new)
        return [{self._c.partner(i) for i in users} for users in found if users - self._kept]


def _gaps(c: Correspondence, section: Section, twin: Section) -> list[_Gap]:
    y, x = c.anchors()
    low, high = y.searchsorted((section.address, section.address + section.size)).tolist()
    inside = zip(x[low:high].tolist(), y[low:high].tolist(), strict=True)
    ends = (twin.address, section.address), (twin.address + twin.size, section.address + section.size)
    places = [ends[0], *(p for p in inside if twin.address <= p[0] < twin.address + twin.size), ends[1]]
    return [_Gap(a[0], b[0], a[1], b[1]) for a, b in itertools.pairwise(places)]
