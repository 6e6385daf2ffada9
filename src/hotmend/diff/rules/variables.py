"""Variables that new code would find empty, and tables of distances into objects that live on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

import numpy as np

from hotmend.diff.align import Aligned, aligned_references
from hotmend.diff.compare import Contents
from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding, blame
from hotmend.diff.objects import writable_at_run_time
from hotmend.diff.rules.changes import Changes
from hotmend.image.facts import Use
from hotmend.image.references import ABSOLUTE, DATA, Survey
from hotmend.model.verdict import refusal

_OFFSET_MAX = 1 << 16
_WORD_BYTES = 8
_SHOWN = 20


def judge_variables(c: Correspondence, aligned: Aligned) -> list[Finding]:
    """Return a refusal for variables of the new build that stand where the old one used a variable that is gone.

    It may be the same variable that moved to another section, or another one in its place; what the process keeps
    in the old one would be lost, or misread.
    """
    found: dict[int, set[int]] = {}
    for i, j in c.pairs.items():
        if c.old.codes[i].gap:
            continue
        for x, y in aligned_references(c, aligned, i, j):
            if y in c.to_old or x in c.to_new or not writable_at_run_time(c.new.image, y):
                continue
            if not writable_at_run_time(c.old.image, x) or c.neighbours(y) is not None or y in c.new.image.slots:
                continue
            found.setdefault(y, set()).add(j)
    for y, users in _in_place_of(c):
        found.setdefault(y, set()).update(users)
    if not found:
        return []
    names = [f"{c.new.image.names.get(y, hex(y))} in {c.new.codes[min(js)].label}" for y, js in sorted(found.items())]
    reason = refusal(
        "variable-replaced",
        "new code uses a variable where old code used one that is gone; what the process keeps there would be lost",
        *names[:_SHOWN],
    )
    return [blame(reason, set().union(*found.values()))]


def _in_place_of(c: Correspondence) -> Iterator[tuple[int, frozenset[int]]]:
    """Yield variables that exactly those changed functions use which used one that no code uses any more.

    A variable that another width, or another place in its section, makes unlike the old one is still the same one.
    """
    origin = {i: j for i, j in c.pairs.items() if not c.old.codes[i].gap}
    gone = _only_users(c.old, origin, c.to_new)
    come = _only_users(c.new, {j: j for j in origin.values()}, c.to_old) if gone else {}
    places = {y: near.old for y in come if (near := c.neighbours(y)) is not None}
    used = set(np.intersect1d(c.old.references.target, np.array([*places.values()], np.int64)).tolist())
    lost = {users for x, users in gone.items() if x not in places.values()}
    for y, users in sorted(come.items()):
        if users in lost and places.get(y) not in used:
            yield y, users


def _only_users(survey: Survey, known: dict[int, int], mapped: Mapping[int, object]) -> dict[int, frozenset[int]]:
    """Return unmapped variables that only changed functions access directly, with the new indexes of these."""
    r, image = survey.references, survey.image
    direct = np.isin(r.kind, (DATA, ABSOLUTE)) & (r.access > 0) & np.isin(r.owner, np.array([*known], np.int64))
    others = set(np.intersect1d(r.target[~direct], r.target[direct]).tolist())
    users: dict[int, set[int]] = defaultdict(set)
    for owner, target in zip(r.owner[direct].tolist(), r.target[direct].tolist(), strict=True):
        users[target].add(known[owner])
    return {
        a: frozenset(codes)
        for a, codes in users.items()
        if a not in others and a not in mapped and a not in image.slots and writable_at_run_time(image, a)
    }


def judge_offsets(c: Correspondence, contents: Contents, changes: Changes) -> list[Finding]:
    """Return a refusal for changed tables whose numbers are added to pointers: distances of members."""
    found: dict[str, set[int]] = {}
    for y in sorted(contents.changed):
        mapped = c.to_old.get(y)
        if mapped is None or not _has_other_distances(contents, mapped.old, y):
            continue
        users = {j for j in contents.new.users(y, max(contents.new.extent(y), 1)) if _adds_to_pointer(changes, j)}
        if users:
            found[c.new.image.names.get(y, hex(y))] = users
    if not found:
        return []
    reason = refusal(
        "offsets-changed",
        "numbers of a table that are added to pointers changed: members of objects that exist are at the old distances",
        *list(found)[:_SHOWN],
    )
    return [blame(reason, set().union(*found.values()))]


def _has_other_distances(contents: Contents, x: int, y: int) -> bool:
    """Return whether two tables differ, addresses left out, in nothing but numbers that could be distances."""
    size = min(contents.old.extent(x), contents.new.extent(y)) // _WORD_BYTES * _WORD_BYTES
    words = {w - y for w in contents.new.words_in(y, size)}
    if words != {w - x for w in contents.old.words_in(x, size)}:
        return False
    a, b = (np.frombuffer(side.image.read(base, size), "<u8") for side, base in ((contents.old, x), (contents.new, y)))
    plain = np.array([at not in words for at in range(0, size, _WORD_BYTES)], bool)
    differs = plain & (a != b)
    looked_at = differs if words else plain  # a table of distances alone has nothing else in it
    return bool(differs.any()) and int(np.maximum(a, b)[looked_at].max()) < _OFFSET_MAX


def _adds_to_pointer(changes: Changes, j: int) -> bool:
    """Return whether a function adds a number that it loaded to an address."""
    return any(f.use is Use.INDEX and f.number == 1 and f.location[0] in ("at", "member") for f in changes.new_facts(j))
