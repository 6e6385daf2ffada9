"""Proof by reconstruction: the new build's unchanged functions, relocated into the old image, are the old bytes."""

from __future__ import annotations

from hotmend.diff.correspond import Correspondence, same_end
from hotmend.model.verdict import Reason, refusal


def reconstruct(c: Correspondence) -> tuple[int, int, list[Reason]]:
    """Relocate every unchanged code with the map; return how many came out right, of how many, and refusals.

    A code with equal normalised bytes differs in its reference fields alone, so that comparing where each field
    leads is comparing the bytes.
    """
    a, b = c.old.references, c.new.references
    twins = {j: i for i, j in c.same.items()}
    right = 0
    wrong: list[str] = []
    for i, j in c.same.items():
        low, high = int(a.first[i]), int(a.first[i + 1])
        start = int(b.first[j])
        good = True
        for n in range(high - low):
            x, y = int(a.target[low + n]), int(b.target[start + n])
            if _leads_to(c, twins, y) == x or same_end(c, x, y):
                continue
            if not (c.old.codes[i].gap and _raw_equal(c, low + n, start + n)):
                good = False
                break
        right += good
        if not good:
            wrong.append(f"{c.old.codes[i].label}: {x:#x} / {y:#x}")
    reasons = []
    if wrong:
        reasons.append(
            refusal(
                "reconstruction-failed",
                "unchanged functions of the new build do not become the old bytes under the map",
                *wrong[:20],
            )
        )
    return right, len(c.same), reasons


def _leads_to(c: Correspondence, twins: dict[int, int], y: int) -> int | None:
    mapped = c.to_old.get(y)
    if mapped is not None:
        return mapped.old
    j = c.new.holder(y)
    if j >= 0:
        i = twins.get(j, next((k for k, v in c.pairs.items() if v == j), None))
        return None if i is None else c.old.codes[i].start + y - c.new.codes[j].start
    near = c.neighbours(y)
    return near.old if near else None


def _raw_equal(c: Correspondence, n: int, m: int) -> bool:
    a, b = c.old.references, c.new.references
    width = int(a.width[n])
    return c.old.image.read(int(a.field[n]), width) == c.new.image.read(int(b.field[m]), width)
