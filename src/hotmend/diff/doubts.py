"""Which changed functions may belong to a change of lasting values that is seen in others.

Where a structure, an element or the meaning of a value changed, a rule sees it in some functions and blames those.
Others may be compiled from the same declarations without showing it: a loop that steps by another size, a test of
another bit, eight bytes that are taken for a floating-point number. For a part of an update it is not enough that no
rule blames a function. It has to be seen that it goes by the old declarations: whatever sizes, offsets, masks, steps
and constants it uses, its old version used them for the same kind of thing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from hotmend.diff.align import Aligned, aligned_references
from hotmend.diff.compare import Contents
from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding, blame
from hotmend.diff.groups import Groups
from hotmend.diff.objects import SHORT_TEXT, writable_at_run_time
from hotmend.image.body import Body, calls_by_instruction, tail_calls
from hotmend.image.lines import NumberedCalls
from hotmend.image.words import Word, is_step, means_bits, moves_stack, number_of, operand_of, word_of, words_of
from hotmend.model.verdict import refusal

OF_STATE = frozenset({
    "contents-may-be-copied", "element-changed", "enumeration-changed", "exported-data-changed",
    "initial-value-changed", "locking-changed", "member-added", "new-thread-local", "object-grew", "offsets-changed",
    "ownership-changed", "state-encoding-changed", "structure-layout-changed", "tls-layout-changed",
    "variable-never-set", "variable-replaced", "variable-type-changed", "virtual-table-changed",
})  # fmt: skip
"""Refusals after which declarations of lasting values may differ from those that the process was filled by."""

OF_SIZE = frozenset({"allocation-size-changed", "table-handed-out"})
"""Refusals for what grew at its end: there numbers count, and who uses the end is blamed by the rule itself."""

AT_START = frozenset({"registered-at-start", "start-only-code"})
"""Refusals for code that has run and does not run again."""


def judge_doubts(
    contents: Contents, aligned: Aligned, groups: Groups, shadow: set[int], causes: list[Finding]
) -> list[Finding]:
    """Return refusals that blame the functions of a part that are not seen to go by the old declarations.

    Args:
        contents: compared objects, with the correspondence.
        aligned: bodies of changed functions.
        groups: which of them are patched together; a group may move a piece of code from one function to another.
        shadow: new codes that are to be patched.
        causes: refusals that make others stay old.
    """
    c = contents.c
    codes = {f.reason.code for f in causes if not f.alone}
    doubted: set[int] = set()
    if codes & (OF_STATE | OF_SIZE):
        doubted = _Doubts(contents, aligned, groups, shadow, sizes_only=not codes & OF_STATE).codes()
    if codes & AT_START and _begins_calls(c, aligned, causes):
        doubted = set(shadow)
    if not doubted:
        return []
    names = [c.new.codes[j].label for j in sorted(doubted)]
    sentence = "nothing shows that these functions are not part of the change that the others make"
    return [blame(refusal("part-not-proven", sentence, *names), doubted)]


class _Doubts:
    """Looks for codes that say something their old versions, and what was moved into them, did not say."""

    def __init__(
        self, contents: Contents, aligned: Aligned, groups: Groups, shadow: set[int], *, sizes_only: bool
    ) -> None:
        self._c, self._contents, self._aligned = contents.c, contents, aligned
        self._groups, self._shadow, self._sizes_only = groups, shadow, sizes_only
        self._old_of = self._c.origins()
        self._origin = {j: i for j, i in self._old_of.items() if j in shadow and not self._c.old.codes[i].gap}
        self._lent: dict[int, set[Word]] = defaultdict(set)
        """What removed functions said, by the group that they belong to."""
        self._said: dict[int, set[Word]] = defaultdict(set)
        """What the old versions of functions of a group said."""
        for i, code in enumerate(self._c.old.codes):
            if not code.gap and self._c.partner(i) < 0:
                self._lent[groups.root(-1 - i)] |= words_of(aligned.old(i))
        mixed = {groups.root(j) for j in shadow if j not in self._origin}
        for j, i in self._origin.items():
            if groups.root(j) in mixed:
                self._said[groups.root(j)] |= words_of(aligned.old(i))

    def codes(self) -> set[int]:
        """Return the new codes that are doubted."""
        return {j for j in self._shadow if self._doubted(j)}

    def _doubted(self, j: int) -> bool:
        i = self._origin.get(j)
        after = self._aligned.new(j)
        root = self._groups.root(j)
        known = self._lent[root]
        if i is None:
            strange = self._strange(after, known | self._said[root])
        else:
            if not self._sizes_only and (self._leads_elsewhere(i, j) or self._sorts_otherwise(i, j)):
                return True
            before = self._aligned.old(i)
            strange = self._strange(after, known | words_of(before))
            if self._sizes_only:
                strange = {n for n in strange if is_step(after.forms[n])}
            strange |= self._changed(before, after, self._aligned.pairs(i, j))
        return bool(strange - _lines(self._c, j, strange))

    def _strange(self, after: Body, known: set[Word]) -> set[int]:
        """Return the instructions of a new function that say something that is not known."""
        words = ((n, word_of(after, n, form)) for n, form in enumerate(after.forms))
        return {n for n, word in words if word and word not in known}

    def _changed(self, before: Body, after: Body, pairs: list[tuple[int, int]]) -> set[int]:
        """Return the new instructions that say something else than the old ones they stand for.

        Where code was rewritten, a number that the old function did not have stands for what was in between the same
        neighbours. A mask or a distance of bits counts wherever nothing old stands for it: two bits may have changed
        places.
        """
        numbers = {(), *map(number_of, before.forms)}
        stayed = {n for _, n in pairs}
        moved = {form.constant for n, form in enumerate(after.forms) if n not in stayed}
        result = set()
        last = (-1, -1)
        for m, n in (*pairs, (len(before.forms), len(after.forms))):
            replaced = any(word_of(before, k, before.forms[k]) for k in range(last[0] + 1, m))
            for k in range(last[1] + 1, n):
                form = after.forms[k]
                bits = not self._sizes_only and means_bits(form)
                if bits or (replaced and number_of(form) not in numbers):
                    result.add(k)
            if n < len(after.forms) and _differs(before, after, m, n, moved):
                result.add(n)
            last = m, n
        return result

    def _leads_elsewhere(self, i: int, j: int) -> bool:
        """Return whether an instruction that stayed refers to another thing of the old build than before.

        Functions that read the members of a structure look like each other's old versions once the members moved; and
        what is stored in several members at once stands in the order of the members, as a constant of its own.
        """
        for x, y in aligned_references(self._c, self._aligned, i, j):
            known = _old_address(self._c, self._old_of, y)
            if known not in (None, x):
                return True
            if self._c.new.holder(y) < 0 and self._is_other_constant(x, y):
                return True
        return False

    def _is_other_constant(self, x: int, y: int) -> bool:
        old, new = self._contents.old, self._contents.new
        if writable_at_run_time(new.image, y) or y in new.image.slots or y in self._c.new_plt or new.jump_table(y):
            return False
        texts = old.string(x), new.string(y)
        surely = all(text is not None and len(text) > SHORT_TEXT for text in texts)
        return not surely and not self._contents.equal(x, y)

    def _sorts_otherwise(self, i: int, j: int) -> bool:
        """Return whether a jump table of both versions leads numbers to other places than before."""
        old_at = {place.ip: m for m, place in enumerate(self._aligned.old(i).instructions)}
        new_at = {place.ip: n for n, place in enumerate(self._aligned.new(j).instructions)}
        stayed = set(self._aligned.pairs(i, j))
        for x, y in aligned_references(self._c, self._aligned, i, j):
            before, after = self._contents.old.jump_table(x), self._contents.new.jump_table(y)
            if len(before) != len(after):
                return True
            if any((old_at.get(a), new_at.get(b)) not in stayed for a, b in zip(before, after, strict=True)):
                return True
        return False


def _differs(before: Body, after: Body, m: int, n: int, moved: set[int | None]) -> bool:
    """Return whether an instruction that stayed says something else; its number may have `moved` to a new one."""
    old, new = before.forms[m], after.forms[n]
    if operand_of(before, m, old) != operand_of(after, n, new):
        return True
    if old.constant == new.constant or moves_stack(new):
        return False
    return bool(number_of(new)) or old.constant not in moved


def _lines(c: Correspondence, j: int, suspected: Iterable[int]) -> set[int]:
    """Return which of the instructions only set the number of a source line."""
    if not suspected:
        return set()
    calls = NumberedCalls(c.new, j)
    return {n for n in suspected if calls.line_at(n) is not None}


def _begins_calls(c: Correspondence, aligned: Aligned, causes: list[Finding]) -> bool:
    """Return whether code that has run begins to call something: what that would have set up is not known."""
    old_of = c.origins()
    for j in set().union(*(f.blamed or () for f in causes if f.reason.code in AT_START)):
        i = old_of.get(j)
        before = set(_callees(c, aligned.old(i))) if i is not None else set()
        if set(_callees(c, aligned.new(j), old_of)) - before:
            return True
    return False


def _callees(c: Correspondence, body: Body, old_of: dict[int, int] | None = None) -> Iterator[object]:
    """Yield what a function calls: the name of an import, an address of the old build, or a new one without it.

    Args:
        c: the correspondence.
        body: of an old function, or of a new one where `old_of` is given.
        old_of: new code index -> old code index.
    """
    image, plt = (c.old.image, c.old_plt) if old_of is None else (c.new.image, c.new_plt)
    for target in (calls_by_instruction(body) | tail_calls(body)).values():
        slot = image.slots.get(plt.get(target, target))
        known = None if old_of is None else _old_address(c, old_of, target)
        yield slot.name if slot is not None else known if known is not None else target


def _old_address(c: Correspondence, old_of: dict[int, int], address: int) -> int | None:
    """Return what a new address is in the old build, by its evidence or as the start of a paired function."""
    mapped = c.to_old.get(address)
    if mapped is not None:
        return mapped.old
    i = old_of.get(c.new.at.get(address, -1))
    return None if i is None else c.old.codes[i].start
