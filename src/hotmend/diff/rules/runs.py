"""Arrays that grew, where only unrolled or vectorised code shows it.

Such code goes over an array by its addresses, one behind the other. Where the run continues into what the old build
does not have, the array has become longer, and what stands behind the old one would be overwritten.
"""

from __future__ import annotations

from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding, blame
from hotmend.diff.objects import writable_at_run_time
from hotmend.image.references import ABSOLUTE, DATA
from hotmend.model.verdict import refusal

_VECTOR_BYTES = 16
_ACCESSES_MIN = 3
_WIDTHS = (1, 2, 4, 8, 16, 32, 64)
_SHOWN = 20


def judge_runs(c: Correspondence) -> list[Finding]:
    """Return a refusal for runs of equal accesses that go on behind the end of an old object."""
    found: dict[int, int] = {}
    r = c.new.references
    for j in sorted(c.pairs.values()):
        accesses: dict[int, int] = {}
        for n in range(int(r.first[j]), int(r.first[j + 1])):
            if r.kind[n] in (DATA, ABSOLUTE) and r.access[n] > 0:
                accesses[int(r.target[n])] = int(r.access[n])
        for target, width in accesses.items():
            if _continues(c, accesses, target, width) and writable_at_run_time(c.new.image, target):
                found.setdefault(j, target)
    if not found:
        return []
    reason = refusal(
        "object-grew",
        "writable objects are larger in the new build; new code would write behind the end of the old ones",
        *[f"{c.new.codes[j].label}: goes on at {target:#x}" for j, target in sorted(found.items())[:_SHOWN]],
    )
    return [blame(reason, found)]


def _continues(c: Correspondence, accesses: dict[int, int], target: int, width: int) -> bool:
    """Return whether an address without a counterpart continues a run of accesses that begins at one that has one.

    The run has accesses without a hole between them: a vector before this one, two of the same width, or any three.
    """
    if target in c.to_old or target in c.new.image.slots:
        return False
    run = _run_before(accesses, target)
    widths = [accesses[a] for a in run]
    vector = widths[:1] == [width] and width >= _VECTOR_BYTES
    if not (vector or widths[:2] == [width] * 2 or len(run) >= _ACCESSES_MIN):
        return False
    known = next((a for a in run if a in c.to_old), None)
    return known is not None and not _stands_alike(c, target, c.to_old[known].old + target - known)


def _run_before(accesses: dict[int, int], target: int) -> list[int]:
    """Return the accesses that end where the next one begins, backwards from `target`."""
    run: list[int] = []
    at = target
    while True:
        before = next((at - w for w in _WIDTHS if accesses.get(at - w) == w), None)
        if before is None:
            return run
        run.append(before)
        at = before


def _stands_alike(c: Correspondence, target: int, old: int) -> bool:
    """Return whether the neighbours say that the old build has this place at the same distance."""
    near = c.neighbours(target)
    return near is not None and near.old == old
