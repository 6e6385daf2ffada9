"""Map addresses by the votes of unchanged functions.

Two functions with equal normalised bytes have the same references in the same order, so each such pair
votes that the old address X is the new address Y. The votes must form a bijection and agree with what is
known for certain: the import behind a slot, the pairing of functions with unique bytes, the kind of section.
Each voter in the minority is a *changed* function, since calling something else may be the whole of a fix.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from hotmend.diff.correspond import (
    Correspondence,
    paired_references,
    same_end,
    section_name,
    slot_identity,
    unique_pairs,
)
from hotmend.image.image import Image, Integers
from hotmend.image.references import Survey
from hotmend.model.verdict import refusal

_ROUNDS_MAX = 8


def correspond(old: Survey, new: Survey, same: dict[int, int]) -> Correspondence:
    """Make the correspondence that unchanged functions and imports prove."""
    result = Correspondence(old, new, dict(same))
    _map_slots(result)
    for _ in range(_ROUNDS_MAX):
        if not _repair_duplicates(result):
            break
    for _ in range(_ROUNDS_MAX):
        rejected = _count_votes(result)
        if not rejected:
            break
        for i in rejected:
            result.pairs[i] = result.same.pop(i)
            result.pair_evidence[i] = "votes"
            result.minority.add(i)
    else:
        result.reasons.append(
            refusal("conflicting-evidence", "the references of unchanged functions contradict each other without end")
        )
    return result


def _repair_duplicates(c: Correspondence) -> int:
    """Pair functions that share their bytes with others by who calls them; return how many pairs moved."""
    _, x, y = _votes(c)
    entries = np.isin(x, c.old.starts) & np.isin(y, c.new.starts)
    pairs, _, counts = unique_pairs(x[entries], y[entries])
    votes: dict[tuple[int, int], int] = {}
    for (old_address, new_address), n in zip(pairs.tolist(), counts.tolist(), strict=True):
        i, j = c.old.at[old_address], c.new.at[new_address]
        if c.old.keys[i] == c.new.keys[j]:
            votes[i, j] = n
    wanted: dict[int, int] = {}
    taken: set[int] = set()
    for (i, j), n in sorted(votes.items(), key=lambda item: -item[1]):
        if i not in wanted and j not in taken and votes.get((i, c.same.get(i, -1)), 0) < n:
            wanted[i] = j
            taken.add(j)
    moved = {i: j for i, j in wanted.items() if c.same.get(i) != j}
    if not moved:
        return 0
    holders = {j: i for i, j in c.same.items()}
    for i, j in moved.items():
        loser, freed = holders.get(j), c.same.get(i)
        c.same[i] = j
        holders[j] = i
        if loser is not None and loser != i and c.same.get(loser) == j:
            del c.same[loser]
            if freed is not None and holders.get(freed) == i and c.old.keys[loser] == c.new.keys[freed]:
                c.same[loser] = freed
                holders[freed] = loser
    return len(moved)


def _map_slots(c: Correspondence) -> None:
    """Slots and PLT stubs correspond when the dynamic linker fills them with the same symbol."""
    for old_table, new_table, kind in ((c.old.image.slots, c.new.image.slots, "slot"), (c.old_plt, c.new_plt, "plt")):
        by_identity: dict[object, list[int]] = defaultdict(list)
        for address in old_table:
            found = slot_identity(c.old.image, c.old_plt, address)
            if found is not None and _in_got(c.old.image, address, kind):
                by_identity[found[1].identity].append(address)
        for address in new_table:
            found = slot_identity(c.new.image, c.new_plt, address)
            if found is None or not _in_got(c.new.image, address, kind):
                continue
            candidates = [x for x in by_identity.get(found[1].identity, ()) if x not in c.to_new]
            same_section = [x for x in candidates if section_name(c.old.image, x) == section_name(c.new.image, address)]
            if same_section:
                c.add(same_section[0], address, "import")


def _in_got(image: Image, address: int, kind: str) -> bool:
    return kind == "plt" or section_name(image, address).startswith(".got")


def _votes(c: Correspondence) -> tuple[Integers, Integers, Integers]:
    """Return (voter's old index, X, Y) of every reference of every pair with equal bytes."""
    voter, old_at, new_at = paired_references(c, gaps=False)
    return voter, c.old.references.target[old_at], c.new.references.target[new_at]


def _count_votes(c: Correspondence) -> set[int]:
    """Rebuild the map from the votes; return the voters that are in the minority."""
    voter, x, y = _votes(c)
    ends = _end_votes(c, x, y)
    voter, x, y = voter[~ends], x[~ends], y[~ends]
    rejected = _against_certainty(c, voter, x, y)
    if rejected:
        return rejected
    pairs, inverse, counts = unique_pairs(x, y)
    losing = _losers(pairs, counts, 0) | _losers(pairs, counts, 1)
    tied = _tied(pairs, losing)
    if tied.any():
        for n in np.nonzero(tied)[0].tolist():
            _break_tie(c, pairs, n, losing)
        losing |= _tied(pairs, losing)  # twins on both sides: nothing says which is which
    if losing.any():
        return set(voter[losing[inverse]].tolist())
    for (old_address, new_address), votes in zip(pairs.tolist(), counts.tolist(), strict=True):
        if not c.add(old_address, new_address, "votes", votes):
            known = c.to_old.get(new_address)
            c.reasons.append(
                refusal(
                    "conflicting-evidence",
                    "unchanged functions contradict what is known of an address",
                    f"{old_address:#x} -> {new_address:#x}, known {known.old if known else 0:#x}",
                )
            )
    return set()


def _end_votes(c: Correspondence, x: Integers, y: Integers) -> np.ndarray:
    """Mark votes for the end of a section: they say nothing about the object that happens to begin there."""
    ends = np.array([s.address + s.size + n for s in c.old.image.allocated for n in range(8)], np.int64)
    result = np.isin(x, ends)
    for n in np.nonzero(result)[0].tolist():
        old_address, new_address = int(x[n]), int(y[n])
        result[n] = same_end(c, old_address, new_address) and not (
            section_name(c.old.image, old_address) == section_name(c.new.image, new_address) != ""
        )
    return result


def _losers(pairs: Integers, counts: Integers, column: int) -> np.ndarray:
    """Mark pairs that another pair with the same old (0) or new (1) address outvotes."""
    order = np.lexsort((-counts, pairs[:, column]))
    first = np.ones(len(order), bool)
    first[1:] = pairs[order[1:], column] != pairs[order[:-1], column]
    best = counts[order][np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))]
    losing = np.zeros(len(pairs), bool)
    losing[order] = counts[order] < best
    return losing


def _tied(pairs: Integers, losing: np.ndarray) -> np.ndarray:
    tied = np.zeros(len(pairs), bool)
    alive = np.nonzero(~losing)[0]
    for column in (0, 1):
        _values, inverse, n = np.unique(pairs[alive, column], return_inverse=True, return_counts=True)
        tied[alive[n[inverse.reshape(-1)] > 1]] = True
    return tied


def _break_tie(c: Correspondence, pairs: Integers, n: int, losing: np.ndarray) -> None:
    """A tie is decided by equal bytes of the functions at both ends; without, all its voters count as changed.

    Where the target is not a function whose bytes prove it, nothing says which vote is right; both voters then
    go in as changed and their references need evidence of another kind, or the hotpatch is refused for them.
    """
    i, j = c.old.at.get(int(pairs[n, 0]), -1), c.new.at.get(int(pairs[n, 1]), -1)
    if i < 0 or j < 0 or c.old.keys[i] != c.new.keys[j]:
        losing[n] = True


def _against_certainty(c: Correspondence, voter: Integers, x: Integers, y: Integers) -> set[int]:
    """Return voters whose reference contradicts an import, a certain pairing of functions, or the section kind."""
    rejected: set[int] = set()
    pairs, inverse, _ = unique_pairs(x, y)
    old_holder, new_holder = c.old.holders(pairs[:, 0]), c.new.holders(pairs[:, 1])
    bad = (old_holder < 0) != (new_holder < 0)
    doubtful = ~(bad | _certain(c, pairs, old_holder, new_holder))
    functions = _Functions(c)
    for n in np.nonzero(doubtful)[0].tolist():
        i, j = int(old_holder[n]), int(new_holder[n])
        old_address, new_address = pairs[n].tolist()
        if i >= 0:
            bad[n] = functions.disagree(i, j, old_address, new_address)
        else:
            bad[n] = _things_disagree(c, old_address, new_address)
    if bad.any():
        rejected.update(voter[bad[inverse]].tolist())
    return rejected


def _certain(c: Correspondence, pairs: Integers, old_holder: Integers, new_holder: Integers) -> np.ndarray:
    """Mark what nothing can be held against, which is nearly everything; the rest is looked at one by one.

    That is: both are the starts of a pair of functions without different names, or both are data in sections of one
    name and neither is a slot or a PLT stub.
    """
    x, y = pairs[:, 0], pairs[:, 1]
    code = (old_holder >= 0) & (new_holder >= 0)
    partner = np.full(len(c.old.codes), -1, np.int64)
    same = np.array([*c.same.keys(), *c.same.values()], np.int64).reshape(2, -1)
    partner[same[0]] = same[1]
    at = np.nonzero(code)[0]
    i, j = old_holder[at], new_holder[at]
    fits = (c.old.starts[i] == x[at]) & (c.new.starts[j] == y[at]) & (partner[i] == j)
    at, i, j = at[fits], i[fits], j[fits]
    named = np.array(
        [
            c.old.codes[a].name == c.new.codes[b].name or not c.new.codes[b].name
            for a, b in zip(i.tolist(), j.tolist(), strict=True)
        ],
        np.bool_,
    )
    certain = np.zeros(len(pairs), np.bool_)
    certain[at[named]] = True
    data = (old_holder < 0) & (new_holder < 0)
    data &= ~np.isin(x, _slots_and_stubs(c.old.image, c.old_plt)) & ~np.isin(
        y, _slots_and_stubs(c.new.image, c.new_plt)
    )
    names: dict[str, int] = {}
    a, b = _section_numbers(c.old.image, x, names), _section_numbers(c.new.image, y, names)
    certain |= data & (a == b)
    return certain


def _slots_and_stubs(image: Image, plt: dict[int, int]) -> Integers:
    return np.array([*plt, *image.slots], np.int64)


def _section_numbers(image: Image, addresses: Integers, names: dict[str, int]) -> Integers:
    """Return a number for the name of the section that holds each address, -1 where none does."""
    if not image.allocated:
        return np.full(len(addresses), -1, np.int64)
    starts = np.array([s.address for s in image.allocated], np.int64)
    ends = np.array([s.address + s.size for s in image.allocated], np.int64)
    numbers = np.array([names.setdefault(s.name, len(names)) for s in image.allocated], np.int64)
    at = np.maximum(np.searchsorted(starts, addresses, "right") - 1, 0)
    return np.where((addresses >= starts[at]) & (addresses < ends[at]), numbers[at], -1)


def _unique_keys(s: Survey) -> set[bytes]:
    seen: set[bytes] = set()
    twice: set[bytes] = set()
    for key in s.keys:
        (twice if key in seen else seen).add(key)
    return seen - twice


class _Functions:
    """What is certain about functions: names that are exported, and pairs whose bytes occur only once."""

    def __init__(self, c: Correspondence) -> None:
        self._c = c
        self._twins = {j: i for i, j in c.same.items()}
        self._unique = _unique_keys(c.old) & _unique_keys(c.new)
        self._exported = {s.name for s in c.old.image.exports.values()}

    def disagree(self, i: int, j: int, x: int, y: int) -> bool:
        """Return whether old address `x` in code `i` cannot be new address `y` in code `j`."""
        c = self._c
        old_code, new_code = c.old.codes[i], c.new.codes[j]
        at_start = x == old_code.start
        if at_start != (y == new_code.start):
            return True
        if not at_start:
            return c.same.get(i) == j and x - old_code.start != y - new_code.start
        if self._other_name(old_code.name, new_code.name, old_code.start):
            return True
        if c.same.get(i, j) == j and self._twins.get(j, i) == i:
            return False
        # Several functions with the same bytes: the votes know better which of them is which.
        return c.old.keys[i] in self._unique or c.new.keys[j] != c.old.keys[i]

    def _other_name(self, old_name: str, new_name: str, start: int) -> bool:
        """Exported names are certain; local names of unstripped builds carry counters of the compiler."""
        differ = bool(old_name and new_name) and old_name != new_name
        return differ and start in self._c.old.image.exported_addresses and new_name in self._exported


def _things_disagree(c: Correspondence, old_address: int, new_address: int) -> bool:
    old_slot = slot_identity(c.old.image, c.old_plt, old_address)
    new_slot = slot_identity(c.new.image, c.new_plt, new_address)
    if old_slot is not None or new_slot is not None:
        if old_slot is None or new_slot is None:
            return True
        return old_slot[0] != new_slot[0] or old_slot[1].identity != new_slot[1].identity
    return section_name(c.old.image, old_address) != section_name(c.new.image, new_address)
