"""Which changed functions can only change together.

A changed function needs the new versions of the changed functions that it refers to; and one that stays old may not
get a new callee, because compilers let a caller rely on the registers that its callee leaves alone. Functions that
share a changed object, a new variable or a small table of methods belong together as well, and so do those of which
one begins to write what the other begins to look for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np

from hotmend.diff.align import Aligned
from hotmend.diff.closure import Selection
from hotmend.diff.compare import Contents
from hotmend.diff.correspond import Correspondence
from hotmend.diff.objects import writable_at_run_time
from hotmend.diff.rules.changes import Changes
from hotmend.image.body import Body
from hotmend.image.facts import Location, Use
from hotmend.image.references import Survey

_METHODS_MAX = 64
"""Words up to which a table of functions is taken for the methods of one thing; larger ones dispatch to many."""

_WORD_BYTES = 8
_TELLING_MIN = 1 << 16
"""A plain number from which it means one thing only; smaller ones are sizes, counts and source lines."""

_Variable = int | str
"""Where a variable of the old build stands, or its exported name."""

_ANY = 0
"""Stands for any value; zero itself is set and looked for everywhere."""

_WRITING = frozenset({Use.WRITE, Use.STORE, Use.SET_BITS, Use.FLIP, Use.CLEAR})
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


def group(c: Correspondence, contents: Contents, aligned: Aligned, changes: Changes, selection: Selection) -> Groups:
    """Bind the codes of the full shadow that need each other."""
    groups = Groups()
    node = {i: j for j, i in selection.origin.items() if j in selection.shadow}
    _bind_references(c, selection, node, groups)
    _bind_objects(c, contents, selection, groups)
    _bind_methods(contents, selection, groups)
    _bind_states(changes, selection, groups)
    _bind_lost_objects(c, contents, selection, node, groups)
    _bind_lost_states(c, changes, selection, groups)
    _bind_constants(c, aligned, selection, groups)
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


def _bind_lost_objects(
    c: Correspondence, contents: Contents, selection: Selection, node: dict[int, int], groups: Groups
) -> None:
    """Who no longer refers to a variable, with all that did: who stays old relies on the others to keep it up."""
    kept = set(selection.kept.values())
    users: dict[_Variable, list[int]] = defaultdict(list)
    lost: set[_Variable] = set()
    for i, code in enumerate(c.old.codes):
        if i in kept or code.gap:
            continue
        before = _variables(c.old, i, lambda address: address, contents)
        j = c.partner(i)
        after = _variables(c.new, j, lambda address: _old_address(c, address), contents) if j >= 0 else set()
        lost |= before - after
        for variable in before:
            users[variable].append(node.get(i, -1 - i))
    for variable in lost:
        groups.bind(users[variable])


def _variables(survey: Survey, code: int, locate: Callable[[int], int | None], contents: Contents) -> set[_Variable]:
    """Return the variables that a code refers to, as old objects; exported ones, which go through slots, by name."""
    image, r = survey.image, survey.references
    result: set[_Variable] = set()
    for target in set(r.target[int(r.first[code]) : int(r.first[code + 1])].tolist()):
        slot = image.slots.get(target)
        if slot is not None and slot.symbol_defined:
            result.add(slot.name)
        elif slot is None and writable_at_run_time(image, target) and (address := locate(target)) is not None:
            result.add(contents.old.container(address))
    return result


def _old_address(c: Correspondence, address: int) -> int | None:
    mapped = c.to_old.get(address) or c.neighbours(address)
    return mapped.old if mapped is not None else None


def _bind_lost_states(c: Correspondence, changes: Changes, selection: Selection, groups: Groups) -> None:
    """Who ceases to write a place, with whose old version used it.

    An old function goes by what another one writes there, a flag that something is valid, or a cache that is emptied.
    Members count where no new version of a changed function uses the place any more.
    """
    in_use = {f.location for function in changes.functions for f in function.after if f.location[0] == "member"}
    users: dict[Location, set[int]] = defaultdict(set)
    losers: dict[Location, list[int]] = defaultdict(list)
    before = {j: changes.before(j) for j in selection.shadow}
    before |= {-1 - i: changes.removed(i) for i in _removed(c, selection)}
    for code, facts in before.items():
        after = changes.written(code) if code >= 0 else set()
        for fact in facts:
            if fact.location[0] == "at" or (fact.location[0] == "member" and fact.location not in in_use):
                users[fact.location].add(code)
                if fact.use in _WRITING and fact.location not in after:
                    losers[fact.location].append(code)
    for location, codes in losers.items():
        groups.bind([*codes, *users[location]])


def _removed(c: Correspondence, selection: Selection) -> list[int]:
    """Return the old codes that the new build does not have."""
    kept = set(selection.kept.values())
    return [i for i, code in enumerate(c.old.codes) if not code.gap and i not in kept and c.partner(i) < 0]


def _bind_constants(c: Correspondence, aligned: Aligned, selection: Selection, groups: Groups) -> None:
    """Functions in which one constant was replaced by the same other one: a helper changed that is inlined in both."""
    owners: dict[tuple[int, int], list[int]] = defaultdict(list)
    for i, j in c.pairs.items():
        if j not in selection.shadow or c.old.codes[i].gap:
            continue
        before, after = _numbers(aligned.old(i)), _numbers(aligned.new(j))
        for gone in before - after:
            for come in after - before:
                owners[gone, come].append(j)
    for codes in owners.values():
        groups.bind(codes)


def _numbers(body: Body) -> set[int]:
    """Return the plain numbers of a function that are too large to meet by chance."""
    numbers = (form.number for form in body.forms)
    return {number for number in numbers if number is not None and abs(_signed(number)) >= _TELLING_MIN}


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number
