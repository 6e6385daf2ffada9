"""Which changed functions can only change together.

A changed function needs the new versions of the changed functions that it refers to; and one that stays old may not
get a new callee, because compilers let a caller rely on the registers that its callee leaves alone. Functions that
share a changed object, a new variable or a small table of methods belong together as well, and so do those of which
one begins to write what the other begins to look for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from hotmend.diff.closure import Selection
from hotmend.diff.compare import Contents
from hotmend.diff.correspond import Correspondence
from hotmend.diff.objects import writable_at_run_time
from hotmend.diff.rules.changes import Changes
from hotmend.image.facts import Location, Use

_METHODS_MAX = 64
"""Words up to which a table of functions is taken for the methods of one thing; larger ones dispatch to many."""

_WORD_BYTES = 8
_ANY = 0
"""Stands for any value; zero itself is set and looked for everywhere."""

_SETTING = frozenset({Use.STORE, Use.SET_BITS, Use.FLIP, Use.CLEAR})
_TESTING = frozenset({Use.EQUAL, Use.ORDER, Use.MASK})


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


def group(c: Correspondence, contents: Contents, changes: Changes, selection: Selection) -> Groups:
    """Bind the codes of the full shadow that need each other."""
    groups = Groups()
    node = {i: j for j, i in selection.origin.items() if j in selection.shadow}
    _bind_references(c, selection, node, groups)
    _bind_objects(c, contents, selection, groups)
    _bind_methods(contents, selection, groups)
    _bind_states(changes, selection, groups)
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


def _bind_states(changes: Changes, selection: Selection, groups: Groups) -> None:
    """Who begins to write something to a place, with who begins to look for it there.

    Whoever begins anything with a variable is bound to all that write it, for not every value that is written can be
    told. A member is known by its displacement alone: there the same constant counts, or any use of a member that no
    old version of a changed function knows. Functions of different structures may be bound without need.
    """
    usual = {f.location for function in changes.functions for f in function.before if f.location[0] == "member"}
    writers: dict[tuple[Location, int], list[int]] = defaultdict(list)
    readers: dict[tuple[Location, int], list[int]] = defaultdict(list)
    for j in selection.shadow:
        begun = changes.begun(j)
        for location, use, number in begun:
            if location[0] == "at" or (location[0] == "member" and location not in usual):
                readers[location, _ANY].append(j)
            elif number and location[0] == "member" and use in _SETTING:
                writers[location, number].append(j)
            elif number and location[0] == "member" and use in _TESTING:
                readers[location, number].append(j)
        for location in changes.written(j):
            if location not in usual:
                writers[location, _ANY].append(j)
    for key, owners in writers.items():
        if key in readers:
            groups.bind([*owners, *readers[key]])
