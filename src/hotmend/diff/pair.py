"""Pair functions whose normalised bytes are equal, in link order.

Link order is preserved between two builds, so equal keys are matched like lines of a text: keys that occur
once on both sides are anchors, the longest increasing run of anchors splits the rest into short stretches,
and each stretch is matched in order.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

from cydifflib import SequenceMatcher

from hotmend.image.references import Survey

_STRETCH_MAX = 4000


def pair_identical(old: Survey, new: Survey) -> dict[int, int]:
    """Return old code index -> new code index for codes with equal normalised bytes."""
    old_keys, new_keys = list(old.keys), list(new.keys)
    anchors = _unique_matches(old_keys, new_keys)
    chain = _longest_increasing(anchors)
    result: dict[int, int] = {}
    previous = (-1, -1)
    for i, j in [*chain, (len(old_keys), len(new_keys))]:
        _match_stretch(old_keys, new_keys, previous, (i, j), result)
        if i < len(old_keys):
            result[i] = j
        previous = (i, j)
    taken = set(result.values())
    for i, j in anchors:  # code that moved as a whole: its bytes occur only once on either side
        if i not in result and j not in taken:
            result[i] = j
            taken.add(j)
    return result


def _unique_matches(old_keys: list[bytes], new_keys: list[bytes]) -> list[tuple[int, int]]:
    old_count, new_count = Counter(old_keys), Counter(new_keys)
    where = {k: j for j, k in enumerate(new_keys) if new_count[k] == 1}
    return [(i, where[k]) for i, k in enumerate(old_keys) if old_count[k] == 1 and k in where]


def _longest_increasing(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Longest run of `pairs` (sorted by the first member) whose second members ascend."""
    tails: list[int] = []
    tail_at: list[int] = []
    before = [-1] * len(pairs)
    for n, (_, j) in enumerate(pairs):
        k = bisect_left(tails, j)
        if k == len(tails):
            tails.append(j)
            tail_at.append(n)
        else:
            tails[k] = j
            tail_at[k] = n
        before[n] = tail_at[k - 1] if k else -1
    result = []
    n = tail_at[-1] if tail_at else -1
    while n >= 0:
        result.append(pairs[n])
        n = before[n]
    return result[::-1]


def _match_stretch(
    old_keys: list[bytes], new_keys: list[bytes], low: tuple[int, int], high: tuple[int, int], result: dict[int, int]
) -> None:
    """Match the codes strictly between two anchors."""
    (i, j), (i_end, j_end) = (low[0] + 1, low[1] + 1), high
    while i < i_end and j < j_end and old_keys[i] == new_keys[j]:
        result[i] = j
        i, j = i + 1, j + 1
    while i < i_end and j < j_end and old_keys[i_end - 1] == new_keys[j_end - 1]:
        i_end, j_end = i_end - 1, j_end - 1
        result[i_end] = j_end
    if i >= i_end or j >= j_end or max(i_end - i, j_end - j) > _STRETCH_MAX:
        return
    matcher = SequenceMatcher(None, old_keys[i:i_end], new_keys[j:j_end], autojunk=False)
    for block in matcher.get_matching_blocks():
        for k in range(block.size):
            result[i + block.a + k] = j + block.b + k
