"""Align the instructions of the old and the new version of a function, and learn from where they refer.

What only changed functions use has no votes; but the same instruction in the same place of both versions of a
function refers to the same thing, unless the change lies there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np
from cydifflib import SequenceMatcher

from hotmend.diff.correspond import Correspondence
from hotmend.image.body import Body

_WORK_MAX = 40_000_000
"""Product of the lengths above which only common beginnings and ends are aligned."""


class Aligned:
    """Decoded and aligned pairs of changed functions, each made once."""

    def __init__(self, c: Correspondence) -> None:
        self._c = c
        self._old: dict[int, Body] = {}
        self._new: dict[int, Body] = {}
        self._pairs: dict[tuple[int, int], list[tuple[int, int]]] = {}

    def old(self, i: int) -> Body:
        """Return old code `i`, decoded."""
        if i not in self._old:
            self._old[i] = Body(self._c.old, i)
        return self._old[i]

    def new(self, j: int) -> Body:
        """Return new code `j`, decoded."""
        if j not in self._new:
            self._new[j] = Body(self._c.new, j)
        return self._new[j]

    def pairs(self, i: int, j: int) -> list[tuple[int, int]]:
        """Return (old instruction index, new instruction index) of instructions that stayed."""
        if (i, j) not in self._pairs:
            self._pairs[i, j] = align(self.old(i).tokens, self.new(j).tokens)
        return self._pairs[i, j]


def align(a: Sequence[Hashable], b: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Return index pairs of equal tokens in order."""
    low = 0
    while low < min(len(a), len(b)) and a[low] == b[low]:
        low += 1
    high = 0
    while high < min(len(a), len(b)) - low and a[-1 - high] == b[-1 - high]:
        high += 1
    result = [(k, k) for k in range(low)]
    middle_a, middle_b = a[low : len(a) - high], b[low : len(b) - high]
    if middle_a and middle_b and len(middle_a) * len(middle_b) <= _WORK_MAX:
        for block in SequenceMatcher(None, middle_a, middle_b, autojunk=False).get_matching_blocks():
            result += [(low + block.a + k, low + block.b + k) for k in range(block.size)]
    result += [(len(a) - k, len(b) - k) for k in range(high, 0, -1)]
    return result


def map_aligned(c: Correspondence, aligned: Aligned) -> None:
    """Map what aligned instructions of changed functions refer to, where nothing contradicts it."""
    proposals: dict[tuple[int, int], int] = defaultdict(int)
    for i, j in c.pairs.items():
        if c.old.codes[i].gap:
            continue
        for x, y in aligned_references(c, aligned, i, j):
            if y not in c.to_old and x not in c.to_new:
                proposals[x, y] += 1
    best_old: dict[int, int] = {}
    best_new: dict[int, int] = {}
    for (x, y), n in proposals.items():
        best_old[x] = max(best_old.get(x, 0), n)
        best_new[y] = max(best_new.get(y, 0), n)
    rivals: dict[int, int] = defaultdict(int)
    for (x, y), n in proposals.items():
        rivals[x] += n == best_old[x]
        rivals[-y] += n == best_new[y]
    twins = {*c.same.values(), *c.pairs.values(), *c.cosmetic.values()}
    for (x, y), n in sorted(proposals.items(), key=lambda item: -item[1]):
        if n == best_old[x] and n == best_new[y] and rivals[x] == 1 and rivals[-y] == 1 and _alike(c, twins, x, y):
            c.add(x, y, "aligned", n)


def _alike(c: Correspondence, twins: set[int], x: int, y: int) -> bool:
    """Return whether two addresses may be the same thing: same section, starts of codes only with each other."""
    a, b = c.old.image.section_at(x), c.new.image.section_at(y)
    i, j = c.old.holder(x), c.new.holder(y)
    if a is None or b is None or a.name != b.name or (i < 0) != (j < 0):
        return False
    if i < 0:
        return not (x in c.old.image.slots or y in c.new.image.slots or x in c.old_plt or y in c.new_plt)
    at_start = x == c.old.codes[i].start
    if at_start != (y == c.new.codes[j].start):
        return False
    if not at_start:
        return c.same.get(i) == j
    return c.partner(i) == j or (c.partner(i) < 0 and j not in twins)


def aligned_references(c: Correspondence, aligned: Aligned, i: int, j: int) -> list[tuple[int, int]]:
    """Return (old target, new target) of the references in aligned instructions."""
    old_refs, new_refs = _by_instruction(c, aligned, i, old=True), _by_instruction(c, aligned, j, old=False)
    result = []
    for m, n in aligned.pairs(i, j):
        a, b = old_refs.get(m), new_refs.get(n)
        if a is not None and b is not None and len(a) == len(b):
            result += [(p[1], q[1]) for p, q in zip(a, b, strict=True) if p[0] == q[0]]
    return result


def _by_instruction(c: Correspondence, aligned: Aligned, index: int, *, old: bool) -> dict[int, list[tuple[int, int]]]:
    """Return instruction index -> (kind, target) of its references."""
    side = c.old if old else c.new
    body = aligned.old(index) if old else aligned.new(index)
    r = side.references
    low, high = int(r.first[index]), int(r.first[index + 1])
    result: dict[int, list[tuple[int, int]]] = {}
    places = np.searchsorted(body.ends, r.field[low:high], "right").tolist()
    for at, kind, target in zip(places, r.kind[low:high].tolist(), r.target[low:high].tolist(), strict=True):
        result.setdefault(at, []).append((kind, target))
    return result
