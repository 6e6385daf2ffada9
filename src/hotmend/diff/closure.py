"""Which functions of the new build go into the hotpatch.

Changed and added functions, those whose data changed, and those that are bound to them: a function that refers
into the interior of a changed one (cold parts, shared tails) cannot stay behind.
"""

from __future__ import annotations

from collections import defaultdict, deque

import numpy as np

from hotmend.diff.compare import Contents
from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding, blame
from hotmend.image.references import CALL, JUMP, LEA
from hotmend.image.ways import code_behind
from hotmend.model.verdict import refusal


class Selection:
    """The new codes that go into the shadow.

    Attributes:
        shadow: their indexes in the new build.
        origin: new code index -> old code index, of all that have one and do not stay behind.
        kept: new code index -> old code index of unchanged codes that stay behind.
        left: new codes that changed and yet stay old, because the hotpatch is a partial one.
        findings: refusals found on the way.
    """

    def __init__(self, c: Correspondence, left: frozenset[int]) -> None:
        self._c = c
        self.left = left
        self.shadow: set[int] = set()
        self.origin: dict[int, int] = {j: i for i, j in c.pairs.items()}
        self.kept: dict[int, int] = {j: i for i, j in c.staying().items()}
        self.findings: list[Finding] = []
        self._queue: deque[int] = deque()

    def add(self, j: int, because: frozenset[int]) -> None:
        """Take new code `j` in; `because` are the codes that would have to stay old for it to stay as well."""
        if j in self.shadow:
            return
        code = self._c.new.codes[j]
        if code.gap:
            reason = refusal(
                "code-outside-frames-changed",
                "code without frame information changed or is bound to code that changed",
                f"{code.label}, {code.size} bytes",
            )
            self.findings.append(Finding(reason, because or None))
            return
        if j in self.left:
            if because:
                reason = refusal("needs-left-function", "new code needs a function that has to stay old", code.label)
                self.findings.append(blame(reason, because))
            return
        self.shadow.add(j)
        self._queue.append(j)
        i = self.kept.pop(j, None)
        if i is not None:
            self.origin[j] = i

    def pop(self) -> int | None:
        """Return a code whose bonds have not been followed yet, or None."""
        return self._queue.popleft() if self._queue else None


def select(c: Correspondence, contents: Contents, left: frozenset[int] = frozenset()) -> Selection:
    """Choose the codes that go in, all changed ones but those of `left`."""
    selection = Selection(c, left)
    unchanged = set(c.staying().values())
    for j, code in enumerate(c.new.codes):
        if j in unchanged:
            continue
        if code.gap:
            _judge_gap(c, contents, selection, j)
        else:
            selection.add(j, frozenset())
    for i, code in enumerate(c.old.codes):
        if code.gap and c.partner(i) < 0:
            reason = refusal("code-outside-frames-changed", "code without frame information changed", code.label)
            selection.findings.append(Finding(reason))
    for y in contents.changed:
        users = contents.new.users(y, 1)
        for j in users:
            selection.add(j, frozenset(users - {j} - left))
    tables = _tables_by_code(contents)
    while (taken := selection.pop()) is not None:
        for bound in _bound_to(c, contents, taken) | tables.get(taken, set()) | _leading_into(c, taken):
            selection.add(bound, frozenset({taken}))
    return selection


def _judge_gap(c: Correspondence, contents: Contents, selection: Selection, j: int) -> None:
    """Refuse changed code without frame information, unless all that refers to it stays old."""
    code = c.new.codes[j]
    changed = {k for k in contents.new.users(code.start, code.size) if k in selection.origin or k not in selection.kept}
    if changed and changed <= selection.left:
        return
    selection.add(j, frozenset(changed))


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


def _leading_into(c: Correspondence, j: int) -> set[int]:
    """Return the code before `j` if it goes on into it: no reference shows that."""
    before = c.new.codes[j - 1] if j else None
    if before is None or before.gap:
        return set()
    return {j - 1} if code_behind(c.new, j - 1) == j else set()


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
