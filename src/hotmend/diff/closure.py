"""Which functions of the new build go into the hotpatch.

Changed and added functions, those whose data changed, and those that are bound to them: a function that refers
into the interior of a changed one (cold parts, shared tails) cannot stay behind.
"""

from __future__ import annotations

from collections import defaultdict, deque

import numpy as np

from hotmend.diff.compare import Contents
from hotmend.diff.correspond import Correspondence
from hotmend.image.references import CALL, JUMP, LEA
from hotmend.model.verdict import Reason, refusal


class Selection:
    """The new codes that go into the shadow.

    Attributes:
        shadow: their indexes in the new build.
        origin: new code index -> old code index, of the changed ones among them.
        reasons: refusals found on the way.
    """

    def __init__(self, c: Correspondence) -> None:
        self._c = c
        self.shadow: set[int] = set()
        self.origin: dict[int, int] = {j: i for i, j in c.pairs.items()}
        self.twin: dict[int, int] = {j: i for i, j in c.same.items()}
        """New code index -> old code index of unchanged codes that stay behind."""
        self.reasons: list[Reason] = []
        self._queue: deque[int] = deque()

    def add(self, j: int) -> None:
        """Take new code `j` in."""
        if j in self.shadow:
            return
        code = self._c.new.codes[j]
        if code.gap:
            self.reasons.append(
                refusal(
                    "code-outside-frames-changed",
                    "code without frame information changed or is bound to code that changed",
                    f"{code.label}, {code.size} bytes",
                )
            )
            return
        self.shadow.add(j)
        self._queue.append(j)
        i = self.twin.pop(j, None)
        if i is not None:
            self.origin[j] = i
            self._c.pairs[i] = self._c.same.pop(i)
            self._c.pair_evidence[i] = "same bytes"

    def pop(self) -> int | None:
        """Return a code whose bonds have not been followed yet, or None."""
        return self._queue.popleft() if self._queue else None


def select(c: Correspondence, contents: Contents) -> Selection:
    """Choose the codes that go in."""
    selection = Selection(c)
    unchanged = set(c.same.values())
    for j in range(len(c.new.codes)):
        if j not in unchanged:
            selection.add(j)
    for i, code in enumerate(c.old.codes):
        if code.gap and c.partner(i) < 0:
            selection.reasons.append(
                refusal("code-outside-frames-changed", "code without frame information changed", code.label)
            )
    for y in contents.changed:
        for j in contents.new.users(y, 1):
            selection.add(j)
    tables = _tables_by_code(contents)
    while (taken := selection.pop()) is not None:
        for bound in _bound_to(c, contents, taken) | tables.get(taken, set()):
            selection.add(bound)
    return selection


def _bound_to(c: Correspondence, contents: Contents, j: int) -> set[int]:
    """Return codes that refer into the interior of `j`, or reach its start by jumps alone."""
    code = c.new.codes[j]
    inside = contents.new.users(code.start + 1, code.size - 1) - {j}
    kinds = contents.new.references_to(code.start)
    jumpers = {owner for owner, kind in kinds if kind == JUMP and owner != j}
    others = any(kind in (CALL, LEA) for owner, kind in kinds)
    exported = code.start in c.new.image.exported_addresses
    if jumpers and not others and not exported and not contents.new.words_to(code.start, 1):
        inside |= jumpers
    return inside


def _tables_by_code(contents: Contents) -> dict[int, set[int]]:
    """Return for each code the others that a jump table ties it to: table users and where its entries lead."""
    result: dict[int, set[int]] = defaultdict(set)
    new = contents.new
    r = new.survey.references
    for address in new.maybe_jump_tables(np.unique(r.target[r.kind == LEA])):
        targets = new.jump_table(address)
        if not targets:
            continue
        tied = new.users(address, 1) | {int(h) for h in new.survey.holders(np.array(targets, np.int64))}
        if len(tied) > 1:
            for j in tied:
                result[j] |= tied - {j}
    return result
