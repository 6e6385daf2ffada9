"""Map addresses by what data and symbols say: pointers in tables, start-up code, exported names."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from hotmend.diff.correspond import Correspondence, section_name
from hotmend.diff.objects import Objects
from hotmend.image.image import STT_IFUNC, STT_TLS

_ROUNDS_MAX = 8


def follow_pointers(c: Correspondence, old: Objects, new: Objects) -> None:
    """Let words of data that hold addresses vote: a table that moved as a whole points to the same things.

    Words count between two mapped addresses that moved by the same distance, and in objects that are mapped and
    have the same size on both sides; only for addresses that no code has mapped. Contradictions are left to the
    comparison of contents.
    """
    old_pointers, new_pointers = old.image.pointers, new.image.pointers
    words = np.array(sorted(new_pointers), np.int64)
    for _ in range(_ROUNDS_MAX):
        y, x = c.anchors()
        words = np.array([w for w in words.tolist() if new_pointers[w] not in c.to_old], np.int64)
        if not len(y) or not len(words):
            return
        i = np.searchsorted(y, words, "right")
        low, high = np.maximum(i - 1, 0), np.minimum(i, len(y) - 1)
        delta = y - x
        rigid = (i > 0) & (i < len(y)) & (delta[low] == delta[high])
        proposals: dict[tuple[int, int], int] = defaultdict(int)
        for word, shift in zip(words[rigid].tolist(), delta[low][rigid].tolist(), strict=True):
            target = old_pointers.get(word - shift)
            if target is not None:
                proposals[target, new_pointers[word]] += 1
        for word in words[~rigid].tolist():
            start = new.container(word)
            mapped = c.to_old.get(start)
            if mapped is not None and old.extent(mapped.old) == new.extent(start):
                target = old_pointers.get(mapped.old + word - start)
                if target is not None:
                    proposals[target, new_pointers[word]] += 1
        if not _accept(c, proposals):
            return


def follow_gaps(c: Correspondence) -> None:
    """Map what code without frame information refers to (start-up code), where nothing else did."""
    a, b = c.old.references, c.new.references
    for i, j in c.same.items():
        if not c.old.codes[i].gap or i in c.old.invalid:
            continue
        start = int(b.first[j])
        for n in range(int(a.first[i + 1] - a.first[i])):
            x, y = int(a.target[a.first[i] + n]), int(b.target[start + n])
            if x not in c.to_new and y not in c.to_old and section_name(c.old.image, x) == section_name(c.new.image, y):
                c.add(x, y, "votes", 1)


def _accept(c: Correspondence, proposals: dict[tuple[int, int], int]) -> int:
    by_old: dict[int, set[int]] = defaultdict(set)
    by_new: dict[int, set[int]] = defaultdict(set)
    for old_address, new_address in proposals:
        by_old[old_address].add(new_address)
        by_new[new_address].add(old_address)
    added = 0
    for (old_address, new_address), votes in proposals.items():
        if len(by_old[old_address]) > 1 and old_address in c.old.at and by_old[old_address] <= c.new.at.keys():
            c.split.setdefault(old_address, set()).update(by_old[old_address])
        if len(by_old[old_address]) > 1 or len(by_new[new_address]) > 1 or new_address in c.to_old:
            continue
        if section_name(c.old.image, old_address) != section_name(c.new.image, new_address):
            continue
        i, j = c.old.holder(old_address), c.new.holder(new_address)
        if (i >= 0 and c.same.get(i, j) != j) or (old_address in c.old.at) != (new_address in c.new.at):
            continue
        added += c.add(old_address, new_address, "pointer", votes)
    return added


def map_names(c: Correspondence) -> None:
    """Map what both builds export under one name and version, and what both have called first and last."""
    old, new = c.old.image, c.new.image
    for x, y in ((old.called_first, new.called_first), (old.called_last, new.called_last)):
        i, j = c.old.at.get(x, -1), c.new.at.get(y, -1)
        if min(i, j) >= 0 and c.same.get(i, j) == j:
            c.add(x, y, "name")
    for key, symbol in c.new.image.exports.items():
        twin = c.old.image.exports.get(key)
        if twin is None or symbol.kind == STT_TLS or not symbol.value or not twin.value:
            continue
        if (symbol.kind == STT_IFUNC) != (twin.kind == STT_IFUNC):
            continue  # who chooses a function is not that function
        if (symbol.value in c.new.at) != (twin.value in c.old.at):
            continue
        i, j = c.old.at.get(twin.value, -1), c.new.at.get(symbol.value, -1)
        if i >= 0 and c.same.get(i, j) != j:
            continue
        c.add(twin.value, symbol.value, "name")
