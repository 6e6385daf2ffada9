"""Whether invocations of the old function may go on in old code while the new one is called.

Proven is the simplest class alone (ADR 18). The hotpatch redirects one entry, so that old code that goes on meets no
other new function. The old code cannot come back to that entry, so that no old invocation ever calls a new one. And new
code does to everything that outlives a call what the old code could have done: each store and each call has its
counterpart, they follow each other only as they could in the old code, and no stored value and no argument depends on
anything that changed. What is left to differ is which way a condition goes, and what is returned. Whatever is merely
not seen counts as an obstacle.
"""

from __future__ import annotations

from collections.abc import Iterator

from hotmend.diff.align import Aligned
from hotmend.diff.attempt import Attempt
from hotmend.diff.comeback import comes_back
from hotmend.diff.compare import Contents
from hotmend.diff.correspond import Correspondence, leads_to_same
from hotmend.image.body import Body, calls_by_instruction
from hotmend.image.image import Slot
from hotmend.image.influence import DONE, END, Conduct, Piece
from hotmend.image.ways import goals, pointer_jumps
from hotmend.model.hotpatch import Hotpatch, Lazy
from hotmend.model.verdict import Reason, refusal

_HARMLESS_NOTES = frozenset({"line-numbers-kept", "version-text-kept"})
_INSTRUCTIONS_MAX = 10_000
_SHOWN = 20

_LEAVE_NOTHING = frozenset({
    "__stack_chk_fail", "abort", "memchr", "memcmp", "strcasecmp", "strchr", "strcmp", "strlen", "strncasecmp",
    "strncmp", "strrchr", "strstr",
})  # fmt: skip
"""Functions of the C library that change nothing that others see: there may be more or fewer calls of them."""

_DO_NOT_RETURN = frozenset({
    "__assert_fail", "__chk_fail", "__fortify_fail", "__longjmp_chk", "__stack_chk_fail", "_exit", "abort", "exit",
    "longjmp", "pthread_exit", "siglongjmp",
})  # fmt: skip


def prove_lazy(c: Correspondence, contents: Contents, aligned: Aligned, made: Attempt, hotpatch: Hotpatch) -> Lazy:
    """Return whether old invocations may go on, with what shows it or what is in the way.

    Args:
        c: the correspondence.
        contents: compared objects.
        aligned: decoded bodies.
        made: what goes in.
        hotpatch: as it is written, with all its notes.
    """
    obstacles = [*_of_lasting_values(hotpatch), *_of_entries(hotpatch)]
    if obstacles:
        return Lazy(obstacles=tuple(obstacles))
    door = int(hotpatch.redirections[0].old)
    before = {c.old.at[int(r.old.start)] for r in hotpatch.replaced}
    name = hotpatch.redirections[0].name
    if how := comes_back(c, contents, aligned, before, door):
        sentence = (
            f"an invocation of {name} that goes on in old code may come to its entry again, and so into new code: {how}"
        )
        return Lazy(obstacles=(refusal("lazy-comes-back", sentence, name),))
    if (obstacle := _Effects(c, contents, aligned, made, before).obstacle(door)) is not None:
        return Lazy(obstacles=(obstacle,))
    evidence = (
        f"{name} is the only entry that leads to new code; {len(before)} old functions or parts of them are behind it",
        "no path of calls leads from the old code back to that entry",
        "new code stores and calls in an order in which the old code could have done it, or does nothing at all",
        "no stored value and no argument depends on anything that changed",
        "nothing was added that lasts, and no note speaks of lasting values",
    )
    return Lazy(evidence=evidence)


def _of_lasting_values(hotpatch: Hotpatch) -> Iterator[Reason]:
    """What was added that outlives a call, and notes: each of them says something of what old code left."""
    added = [v.name for v in hotpatch.variables or ()] + [p.name for p in hotpatch.ports] + list(hotpatch.compared)
    if added or hotpatch.variables is None:
        sentence = "new code has variables, functions or objects of its own that outlive a call, unknown to old code"
        yield refusal("lazy-lasting-values", sentence, *added[:_SHOWN])
    notes = sorted({r.code for r in hotpatch.reasons} - _HARMLESS_NOTES)
    if notes:
        sentence = "notes speak of things that old and new code may see differently"
        yield refusal("lazy-lasting-values", sentence, *notes)


def _of_entries(hotpatch: Hotpatch) -> Iterator[Reason]:
    names = [r.name for r in hotpatch.redirections]
    if len(names) != 1:
        sentence = (
            "several functions change that can be entered one without the other; what one of them leaves to the "
            "other cannot be told, and an old one would meet a new one"
        )
        yield refusal("lazy-changed-together", sentence, *names[:_SHOWN])


class _Effects:
    """What old and new code do to what outlives a call."""

    def __init__(
        self, c: Correspondence, contents: Contents, aligned: Aligned, made: Attempt, before: set[int]
    ) -> None:
        self._c, self._contents, self._aligned = c, contents, aligned
        self._selection = made.selection
        self._old_bodies = {i: aligned.old(i) for i in sorted(before)}
        self._new_bodies = {j: aligned.new(j) for j in sorted(made.selection.shadow)}
        self._names = [c.new.codes[j].label for j in sorted(made.selection.shadow)][:_SHOWN]

    def obstacle(self, door: int) -> Reason | None:
        """Return what is in the way, if anything is.

        Args:
            door: the old entry that leads to new code.
        """
        if unclear := self._unclear():
            return refusal("lazy-effects-differ", unclear, *self._names)
        old, new = (Conduct(self._pieces(old=side)) for side in (True, False))
        if places := [*old.leaving(), *new.leaving()]:
            sentence = "what changed is a store or a call, or decides what is stored or handed to other functions"
            return refusal("lazy-effects-differ", sentence, *[hex(place) for place in places[:_SHOWN]])
        counterparts = self._counterparts()
        deeds = {counterparts.get(deed) for deed in new.deeds()}
        if deeds != old.deeds() or not self._same_calls(counterparts):
            return refusal("lazy-effects-differ", "old and new code call different functions", *self._names)
        before, after = old.following(), new.following()
        before[-door] |= {END}  # who does nothing at all does no harm
        counterparts[END] = END
        for deed, following in after.items():
            at = counterparts.get(deed, deed)
            if not {counterparts.get(other) for other in following} <= before.get(at, frozenset()):
                sentence = "new code may leave out, or repeat, stores and calls that the old code did not"
                return refusal("lazy-effects-differ", sentence, *self._names)
        if not _decide_alike(old, new, counterparts, door):
            sentence = (
                "what changed decides which stores and calls are made, not only whether the function leaves early"
            )
            return refusal("lazy-effects-differ", sentence, *self._names)
        return None

    def _unclear(self) -> str:
        """Return why the code cannot be looked at closely; nothing where it can."""
        bodies = (*self._old_bodies.values(), *self._new_bodies.values())
        if sum(len(body.instructions) for body in bodies) > _INSTRUCTIONS_MAX:
            return "the changed code is too large to be looked at closely"
        if any(body.code.lsda for body in bodies):
            return "exceptions are caught or cleaned up after in the changed code, which is not looked at closely"
        for old in (True, False):
            for index, body in self._bodies(old=old).items():
                jumps = len(pointer_jumps(body))
                if jumps and (jumps, len(self._tables(index, old=old))) != (1, 1):
                    return "the changed code jumps through a pointer"
        return ""

    def _bodies(self, *, old: bool) -> dict[int, Body]:
        return self._old_bodies if old else self._new_bodies

    def _tables(self, index: int, *, old: bool) -> list[list[int]]:
        """Return the tables by which a code jumps within itself."""
        survey, objects = (self._c.old, self._contents.old) if old else (self._c.new, self._contents.new)
        r, body = survey.references, self._bodies(old=old)[index]
        inside = {i.ip for i in body.instructions}
        tables = (objects.jump_table(t) for t in set(r.target[int(r.first[index]) : int(r.first[index + 1])].tolist()))
        return [table for table in tables if table and inside.issuperset(table)]

    def _pieces(self, *, old: bool) -> list[Piece]:
        result = []
        for index, body in self._bodies(old=old).items():
            imports = {n: slot for n, target in goals(body).items() if (slot := self._slot(target, old=old))}
            known = {n: slot.name for n, slot in imports.items() if slot.version.startswith("GLIBC_")}
            result.append(
                Piece(
                    body,
                    self._changed(index, body, old=old),
                    foreign=frozenset(imports),
                    silent=frozenset(n for n, name in known.items() if name in _LEAVE_NOTHING),
                    final=frozenset(n for n, name in known.items() if name in _DO_NOT_RETURN),
                    cases=tuple(case for table in self._tables(index, old=old) for case in table),
                )
            )
        return result

    def _slot(self, target: int, *, old: bool) -> Slot | None:
        image, plt = (self._c.old.image, self._c.old_plt) if old else (self._c.new.image, self._c.new_plt)
        return image.slots.get(plt.get(target, target))

    def _counterparts(self) -> dict[int, int]:
        """Return address of a new instruction -> address of the old one that it stands for, entries as negatives."""
        result: dict[int, int] = {}
        for j, after in self._new_bodies.items():
            i = self._selection.origin.get(j, -1)
            if i in self._old_bodies:
                before = self._old_bodies[i]
                result[-after.code.start] = -before.code.start
                for m, n in self._aligned.pairs(i, j):
                    result[after.instructions[n].ip] = before.instructions[m].ip
        return result

    def _same_calls(self, counterparts: dict[int, int]) -> bool:
        """Return whether each call, and each jump to another function, leads where its counterpart does."""
        old, new = self._goals(old=True), self._goals(old=False)
        silent = {("import", name) for name in _LEAVE_NOTHING}
        return all(goal[:2] in silent or old.get(counterparts.get(ip, -1)) == goal for ip, goal in new.items())

    def _goals(self, *, old: bool) -> dict[int, tuple[object, ...]]:
        """Return where calls and jumps lead, by the address of the instruction; jumps to own parts are left out."""
        survey, bodies = (self._c.old if old else self._c.new), self._bodies(old=old)
        result = {}
        for body in bodies.values():
            calls = calls_by_instruction(body)
            for n, target in goals(body).items():
                if n in calls or survey.holder(target) not in bodies:
                    result[body.instructions[n].ip] = self._goal(target, old=old)
        return result

    def _goal(self, target: int, *, old: bool) -> tuple[object, ...]:
        """Return where a call leads, in terms that both builds share; through a pointer, nothing more is known."""
        survey = self._c.old if old else self._c.new
        if not target:
            return ("pointer",)
        slot = self._slot(target, old=old)
        if slot is not None:
            return ("import", slot.name, slot.version)
        holder = survey.holder(target)
        if holder < 0:
            mapped = None if old else self._c.to_old.get(target)
            return ("word", target if old else mapped.old if mapped is not None else (target,))
        inside = target - survey.codes[holder].start
        if not old:
            holder = self._selection.kept.get(holder, self._selection.origin.get(holder, -1))
        return ("code", holder, inside)

    def _changed(self, index: int, body: Body, *, old: bool) -> frozenset[int]:
        """Return the instructions that have no equal one in the other build."""
        i = index if old else self._selection.origin.get(index, -1)
        j = self._c.partner(index) if old else index
        if i not in self._old_bodies or j not in self._new_bodies:
            return frozenset(range(len(body.instructions)))
        before, after = self._old_bodies[i], self._new_bodies[j]
        same = {pair[0 if old else 1] for pair in self._aligned.pairs(i, j) if self._is_same(before, after, *pair)}
        return frozenset(range(len(body.instructions))) - same

    def _is_same(self, before: Body, after: Body, m: int, n: int) -> bool:
        old, new = before.forms[m], after.forms[n]
        if (old.number, old.displacement, old.width) != (new.number, new.displacement, new.width):
            return False
        if not old.is_ip_rel_memory_operand:
            return True
        x, y = before.instructions[m].ip_rel_memory_address, after.instructions[n].ip_rel_memory_address
        if {y, self._contents.new.container(y)} & self._contents.changed:
            return False
        return leads_to_same(self._c, x, y) is True


def _decide_alike(old: Conduct, new: Conduct, counterparts: dict[int, int], door: int) -> bool:
    """Return whether new code takes the decisions of the old code, but for checks after which nothing is left to do.

    Both are walked side by side: from each deed and from each answer to a decision on, the next deed or decision of
    the one has to be the counterpart of the other's.
    """
    entries = {-a: -b for a, b in counterparts.items() if a < 0}
    starts = [new.address(entry) for entry in new.entries]
    waiting = [(old.node(entries[start]), new.node(start)) for start in starts if start in entries]
    if len(waiting) != len(starts) or door not in entries.values():
        return False
    waiting += [(old.node(b), new.node(a)) for a, b in entries.items() if b == door]
    seen: set[tuple[int, int]] = set()
    while waiting:
        pair = waiting.pop()
        if pair in seen:
            continue
        seen.add(pair)
        before, after = old.advance(pair[0]), new.advance(pair[1])
        if before is None or after is None or (before == DONE) != (after == DONE):
            return False
        if DONE in (before, after):
            continue
        if counterparts.get(new.address(after)) != old.address(before):
            return False
        ways = old.ways(before), new.ways(after)
        if len(ways[0]) != len(ways[1]):
            return False
        waiting += zip(*ways, strict=True)
    return True
