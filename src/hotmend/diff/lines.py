"""Functions that differ from their old version in nothing but source line numbers.

A line added on top of a file changes the number that each error call and assertion below hands over, and with it one
operand of the function around. Such a function does the same as before, so that it may stay as it is. It is recognised
only where everything else is equal, byte for byte under the map; where the number is the argument right behind the
name of a source file; and where the numbers of one file have kept their order, as lines do.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

from hotmend.diff.correspond import Correspondence, leads_to_same
from hotmend.image.lines import NumberedCalls


@dataclass(frozen=True, slots=True)
class _Line:
    """A line number that changed: the name of the file it counts in, and both numbers."""

    file: bytes
    old: int
    new: int


Lines = dict[tuple[int, int], list["_Line"]]
"""Line numbers in which pairs of functions differ and in nothing else, by their (old, new) indexes; empty lists too."""


def find_cosmetic(c: Correspondence, known: Lines) -> dict[int, int]:
    """Return old code index -> new code index of changed functions in which only line numbers changed.

    What they refer to has to correspond; addresses that nobody else refers to are mapped by them.

    Args:
        c: the correspondence.
        known: what earlier calls found out about pairs; added to.
    """
    lines: dict[int, list[_Line]] = {}
    fresh: dict[int, list[tuple[int, int]]] = {}
    for i, j in c.pairs.items():
        if c.old.codes[i].gap or i in c.minority:
            continue
        if (i, j) not in known:
            known[i, j] = _changed_lines(c, i, j)
        changed = known[i, j]
        unmapped = _unmapped_references(c, i, j) if changed else None
        if unmapped is not None:
            lines[i], fresh[i] = changed, unmapped
    unordered = _files_out_of_order([line for found in lines.values() for line in found])
    disputed = _disputed({pair for pairs in fresh.values() for pair in pairs})
    result = {}
    for i, found in lines.items():
        if unordered.isdisjoint(line.file for line in found) and disputed.isdisjoint(fresh[i]):
            result[i] = c.pairs[i]
            for x, y in fresh[i]:
                c.add(x, y, "aligned", 1)
    return result


def set_cosmetic(c: Correspondence, found: dict[int, int]) -> None:
    """Record that these functions stay as they are."""
    for i, j in found.items():
        c.cosmetic[i] = j
        c.pairs.pop(i)


def _changed_lines(c: Correspondence, i: int, j: int) -> list[_Line]:
    """Return the line numbers in which two functions differ; nothing where they differ in anything else."""
    a, b = c.old.keys[i], c.new.keys[j]
    size = c.old.codes[i].size
    if size != c.new.codes[j].size or len(a) != len(b) or a[size:] != b[size:] or a == b:
        return []
    differing = np.nonzero(np.frombuffer(a, np.uint8, size) != np.frombuffer(b, np.uint8, size))[0].tolist()
    old = NumberedCalls(c.old, i)
    changed = old.numbers_at(differing)
    if changed is None:
        return []  # what costs more to find out is not asked
    new = NumberedCalls(c.new, j, twin=old)
    result = []
    for n in changed:
        before, after = old.line_at(n), new.line_at(n)
        if before is None or after is None or before[:2] != after[:2]:
            return []
        result.append(_Line(before[0], before[2], after[2]))
    return result


def _unmapped_references(c: Correspondence, i: int, j: int) -> list[tuple[int, int]] | None:
    """Return the pairs of addresses that two functions refer to and nobody else has mapped; None if any differ.

    Data that only lies where its neighbours say is one of them: what stands there is compared where it is mapped.
    """
    r, s = c.old.references, c.new.references
    low, high = int(r.first[i]), int(r.first[i + 1])
    start, end = int(s.first[j]), int(s.first[j + 1])
    if high - low != end - start:
        return None
    result = []
    for x, y in zip(r.target[low:high].tolist(), s.target[start:end].tolist(), strict=True):
        known = leads_to_same(c, x, y)
        if known is False:
            return None
        # Who calls a function proves its entry as well, where its pairing rested on likeness alone.
        if known is None or (y not in c.to_old and (y in c.new.at or c.new.holder(y) < 0)):
            result.append((x, y))
    return result


def _disputed(pairs: set[tuple[int, int]]) -> set[tuple[int, int]]:
    """Return the pairs of which one address stands in another pair as well."""
    old, new = Counter(x for x, _ in pairs), Counter(y for _, y in pairs)
    return {(x, y) for x, y in pairs if old[x] > 1 or new[y] > 1}


def _files_out_of_order(lines: list[_Line]) -> set[bytes]:
    """Return the files whose numbers did not keep their order: what changed there are no line numbers."""
    by_file: dict[bytes, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    for line in lines:
        by_file[line.file][line.old].add(line.new)
    result = set()
    for file, numbers in by_file.items():
        after = [numbers[old] for old in sorted(numbers)]
        flat = [next(iter(news)) for news in after]
        if any(len(news) > 1 for news in after) or flat != sorted(set(flat)):
            result.add(file)
    return result
