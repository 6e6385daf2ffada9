"""The largest part of an update that can be applied when the whole cannot.

Functions that a refusal rests on stay old, and with them all that is bound to them: who calls a changed function
needs the new one, and who is called by a changed function that stays old may not become new, because compilers let a
caller rely on the registers that its callee leaves alone. Functions that share a changed object, a new variable or a
small table of methods are bound as well. What is left are whole groups, each of them entirely new or entirely old.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from hotmend.diff.align import Aligned
from hotmend.diff.attempt import Attempt, attempt
from hotmend.diff.closure import Selection
from hotmend.diff.compare import Contents
from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding
from hotmend.diff.objects import writable_at_run_time

_ROUNDS_MAX = 200
_METHODS_MAX = 64
"""Words up to which a table of functions is taken for the methods of one thing; larger ones dispatch to many."""

_WORD_BYTES = 8


class Groups:
    """Codes of the full shadow in groups that are patched together or not at all (a union-find forest)."""

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}

    def root(self, code: int) -> int:
        """Return the code that stands for the group of `code`."""
        path = []
        while (parent := self._parent.get(code, code)) != code:
            path.append(code)
            code = parent
        for passed in path:
            self._parent[passed] = code
        return code

    def bind(self, codes: Iterable[int]) -> None:
        """Put codes into one group."""
        first: int | None = None
        for code in codes:
            if first is None:
                first = code
            else:
                self._parent[self.root(code)] = self.root(first)


def attempt_part(
    c: Correspondence,
    contents: Contents,
    aligned: Aligned,
    full: Attempt,
    findings: list[Finding],
    stays_old: frozenset[str] = frozenset(),
) -> tuple[Attempt, list[Finding]] | None:
    """Find the largest part that nothing refuses.

    Args:
        c: the correspondence.
        contents: compared objects.
        aligned: bodies of changed functions.
        full: the attempt at everything.
        findings: what the rules found that look at all that changed.
        stays_old: names of functions of the update's other images that stay old.

    Returns:
        The part and the refusals that made functions stay old; None where nothing is left of the update.
    """
    groups = group(c, contents, full.selection)
    members: dict[int, set[int]] = defaultdict(set)
    for j in full.selection.shadow:
        members[groups.root(j)].add(j)
    left: frozenset[int] = frozenset()
    causes = [f for f in findings if f.refuses]
    refusals = causes
    for _ in range(_ROUNDS_MAX):
        if any(f.blamed is None for f in refusals):
            return None
        blamed = {groups.root(j) for f in refusals for j in f.blamed or () if j in full.selection.shadow}
        grown = left.union(*(members[root] for root in blamed))
        if grown == left and refusals is not causes:
            return None  # what leaving its functions old does not settle
        left = grown
        made = attempt(c, contents, aligned, left, stays_old)
        if not made.selection.shadow:
            return None
        refusals = [f for f in made.findings if f.refuses]
        if not refusals:
            return made, causes
        causes = causes + refusals
    return None


def group(c: Correspondence, contents: Contents, selection: Selection) -> Groups:
    """Bind the codes of the full shadow that need each other."""
    groups = Groups()
    node = {i: j for j, i in selection.origin.items() if j in selection.shadow}
    _bind_references(c, selection, node, groups)
    _bind_objects(c, contents, selection, groups)
    _bind_methods(contents, selection, groups)
    return groups


def _bind_references(c: Correspondence, selection: Selection, node: dict[int, int], groups: Groups) -> None:
    """Who refers to whom, in the new build and in the old one; a removed function is a node of its own below zero."""
    kept = set(selection.kept.values())
    r = c.new.references
    for owner, holder in zip(r.owner.tolist(), c.new.holders(r.target).tolist(), strict=True):
        if owner in selection.shadow and holder in selection.shadow:
            groups.bind([owner, holder])
    r = c.old.references
    for owner, holder in zip(r.owner.tolist(), c.old.holders(r.target).tolist(), strict=True):
        if holder >= 0 and owner not in kept and holder not in kept:
            groups.bind([node.get(owner, -1 - owner), node.get(holder, -1 - holder)])


def _bind_objects(c: Correspondence, contents: Contents, selection: Selection, groups: Groups) -> None:
    """Who shares an object that changed, or a variable that the old build does not have."""
    new = contents.new
    for y in contents.changed:
        groups.bind(new.users(y, max(new.extent(y), 1)) & selection.shadow)
    r = new.survey.references
    outside = (c.new.holders(r.target) < 0) & np.isin(r.owner, np.array(sorted(selection.shadow), np.int64))
    sharers: dict[int, list[int]] = defaultdict(list)
    for owner, target in zip(r.owner[outside].tolist(), r.target[outside].tolist(), strict=True):
        known = target in c.to_old or target in c.new_plt or target in new.image.slots
        if not known and writable_at_run_time(new.image, target):
            sharers[new.container(target)].append(owner)
    for owners in sharers.values():
        groups.bind(owners)


def _bind_methods(contents: Contents, selection: Selection, groups: Groups) -> None:
    """Functions in one small table of pointers are the methods of one thing."""
    new = contents.new
    tables: dict[int, list[int]] = defaultdict(list)
    for word, target in new.image.pointers.items():
        j = new.survey.at.get(target, -1)
        if j in selection.shadow:
            tables[new.container(word)].append(j)
    for start, methods in tables.items():
        if len(methods) > 1 and new.extent(start) <= _METHODS_MAX * _WORD_BYTES:
            groups.bind(methods)
