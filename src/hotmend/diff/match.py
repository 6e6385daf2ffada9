"""Pair the functions that did change: by votes and names first, by order and likeness last."""

from __future__ import annotations

import itertools
from collections import Counter
from math import sqrt

from hotmend.diff.correspond import Correspondence
from hotmend.image.body import Body

LIKENESS_MIN = 0.5
_CANDIDATES_MAX = 40


def match_changed(c: Correspondence) -> None:
    """Fill `c.pairs` for old functions without an identical twin, best evidence first."""
    taken = {*c.staying().values(), *c.pairs.values()}
    for i, code in enumerate(c.old.codes):
        new_address = c.to_new.get(code.start)
        if c.partner(i) >= 0 or new_address is None:
            continue
        j = c.new.at.get(new_address, -1)
        if j >= 0 and j not in taken and c.new.codes[j].gap == code.gap:
            _pair(c, i, j, c.to_old[new_address].evidence, taken)
    _match_local_names(c, taken)
    _match_stretches(c, taken)


def _pair(c: Correspondence, i: int, j: int, evidence: str, taken: set[int]) -> None:
    if (c.old.codes[i].start in c.old.image.resolvers) != (c.new.codes[j].start in c.new.image.resolvers):
        return  # who chooses an indirect function is not that function
    c.pairs[i] = j
    c.pair_evidence[i] = evidence
    taken.add(j)


def _match_local_names(c: Correspondence, taken: set[int]) -> None:
    """Names of unstripped builds: only those that stand for one function on both sides."""
    old_names = Counter(x.name for x in c.old.codes if x.name)
    new_names = Counter(x.name for x in c.new.codes if x.name)
    where = {x.name: j for j, x in enumerate(c.new.codes) if x.name and new_names[x.name] == 1}
    for i, code in enumerate(c.old.codes):
        if c.partner(i) >= 0 or old_names[code.name] != 1:
            continue
        j = where.get(code.name, -1)
        if j >= 0 and j not in taken and not code.gap and c.new.codes[j].start not in c.to_old:
            _pair(c, i, j, "name", taken)


def _match_stretches(c: Correspondence, taken: set[int]) -> None:
    """Between two neighbours that are paired, pair what is alike enough."""
    holders = c.origins()
    stretch_of: dict[tuple[int, int], list[int]] = {}
    last = -1
    for i in range(len(c.old.codes)):
        j = c.partner(i)
        if j >= 0:
            last = i
        elif not c.old.codes[i].gap and c.old.codes[i].start not in c.to_new:
            stretch_of.setdefault((last, 0), []).append(i)
    for (before, _), old_codes in stretch_of.items():
        start = c.partner(before) + 1 if before >= 0 else 0
        new_codes = []
        for j in range(start, min(start + _CANDIDATES_MAX, len(c.new.codes))):
            if j in holders:
                break
            if j not in taken and not c.new.codes[j].gap and c.new.codes[j].start not in c.to_old:
                new_codes.append(j)
        _match_alike(c, old_codes[:_CANDIDATES_MAX], new_codes, taken)


def _match_alike(c: Correspondence, old_codes: list[int], new_codes: list[int], taken: set[int]) -> None:
    if not old_codes or not new_codes:
        return
    old_grams = {i: _grams(Body(c.old, i)) for i in old_codes}
    new_grams = {j: _grams(Body(c.new, j)) for j in new_codes}
    scores = sorted(((_likeness(a, b), i, j) for i, a in old_grams.items() for j, b in new_grams.items()), reverse=True)
    for score, i, j in scores:
        if score >= LIKENESS_MIN and i not in c.pairs and j not in taken:
            _pair(c, i, j, "similarity", taken)


def _grams(body: Body) -> Counter[tuple[int, ...]]:
    codes = [int(x.code) for x in body.instructions]
    return Counter(itertools.pairwise(codes)) or Counter([tuple(codes)])


def _likeness(a: Counter[tuple[int, ...]], b: Counter[tuple[int, ...]]) -> float:
    """Cosine of two bags of instruction pairs: 0 nothing in common, 1 the same."""
    dot = sum(n * b[k] for k, n in a.items() if k in b)
    return dot / sqrt(sum(n * n for n in a.values()) * sum(n * n for n in b.values()) or 1)
