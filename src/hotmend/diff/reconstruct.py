"""Proof by reconstruction: the new build's unchanged functions, relocated into the old image, are the old bytes."""

from __future__ import annotations

import numpy as np

from hotmend.diff.correspond import Correspondence, paired_references, same_end
from hotmend.model.verdict import Reason, refusal


def reconstruct(c: Correspondence) -> tuple[int, int, list[Reason]]:
    """Relocate every unchanged code with the map; return how many came out right, of how many, and refusals.

    A code with equal normalised bytes differs in its reference fields alone, so that comparing where each field
    leads is comparing the bytes.
    """
    owner, n, m = paired_references(c, gaps=True)
    x, y = c.old.references.target[n], c.new.references.target[m]
    anchors, old = c.anchors()
    at = np.minimum(np.searchsorted(anchors, y), max(len(anchors) - 1, 0))
    known = (anchors[at] == y) & (old[at] == x) if len(anchors) else np.zeros(len(y), bool)
    twins = {j: i for i, j in reversed(c.pairs.items())} | {j: i for i, j in c.same.items()}
    wrong: dict[int, str] = {}
    for k in np.nonzero(~known)[0].tolist():
        i, old_address, new_address = int(owner[k]), int(x[k]), int(y[k])
        if i in wrong or _leads_to(c, twins, new_address) == old_address or same_end(c, old_address, new_address):
            continue
        if not (c.old.codes[i].gap and _raw_equal(c, int(n[k]), int(m[k]))):
            wrong[i] = f"{c.old.codes[i].label}: {old_address:#x} / {new_address:#x}"
    total = len(c.same)
    if not wrong:
        return total, total, []
    sentence = "unchanged functions of the new build do not become the old bytes under the map"
    return total - len(wrong), total, [refusal("reconstruction-failed", sentence, *list(wrong.values())[:20])]


def _leads_to(c: Correspondence, twins: dict[int, int], y: int) -> int | None:
    mapped = c.to_old.get(y)
    if mapped is not None:
        return mapped.old
    j = c.new.holder(y)
    if j >= 0:
        i = twins.get(j)
        return None if i is None else c.old.codes[i].start + y - c.new.codes[j].start
    near = c.neighbours(y)
    return near.old if near else None


def _raw_equal(c: Correspondence, n: int, m: int) -> bool:
    a, b = c.old.references, c.new.references
    width = int(a.width[n])
    return c.old.image.read(int(a.field[n]), width) == c.new.image.read(int(b.field[m]), width)
