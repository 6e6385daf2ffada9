"""Thread-local variables that changed places with each other, so that all of them together are as long as before.

New code would find in each the value of another. One function that uses one variable in the place of another means
that; where a function comes to use what others have stopped to use for something else, the variables moved.
"""

from __future__ import annotations

from collections import defaultdict

from hotmend.diff.align import Aligned, aligned_references
from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding, blame
from hotmend.image.body import Body, thread_offset
from hotmend.image.image import R_TLSDESC, R_TPOFF64, Image
from hotmend.image.references import Survey
from hotmend.model.verdict import refusal

_SHOWN = 20

_Place = tuple[str, int]
"""`("fs", displacement)`, or `("linked", offset)` where a slot that the dynamic linker fills says where it is."""


def judge_thread_places(c: Correspondence, aligned: Aligned) -> list[Finding]:
    """Return a refusal for functions that use a thread-local variable where another one was."""
    moved: dict[_Place, dict[_Place, set[int]]] = defaultdict(lambda: defaultdict(set))
    for i, j in c.pairs.items():
        if not c.old.codes[i].gap:
            for x, y in _moved(c, aligned, i, j):
                moved[x][y].add(j)
    found = {j for places in moved.values() for y, codes in places.items() if y in moved for j in codes}
    if not found:
        return []
    names = [c.new.codes[j].label for j in sorted(found)[:_SHOWN]]
    return [blame(refusal("tls-layout-changed", "thread-local variables changed places", *names), found)]


def _moved(c: Correspondence, aligned: Aligned, i: int, j: int) -> set[tuple[_Place, _Place]]:
    """Return what a function uses no more, with what it uses in the same instruction now and did not use before."""
    a, b = aligned.old(i), aligned.new(j)
    before, after = _places(c.old, a, i), _places(c.new, b, j)
    if before == after:
        return set()
    old, new = c.old.image, c.new.image
    pairs = [(_direct(a, m), _direct(b, n)) for m, n in aligned.pairs(i, j)]
    pairs += [(_linked(old, x), _linked(new, y)) for x, y in aligned_references(c, aligned, i, j)]
    return {(x, y) for x, y in pairs if x is not None and y is not None and x not in after and y not in before}


def _places(survey: Survey, body: Body, index: int) -> set[_Place]:
    r = survey.references
    targets = r.target[int(r.first[index]) : int(r.first[index + 1])].tolist()
    found = [*(_direct(body, n) for n in range(len(body.forms))), *(_linked(survey.image, t) for t in targets)]
    return {place for place in found if place is not None}


def _direct(body: Body, n: int) -> _Place | None:
    offset = thread_offset(body.forms[n])
    return None if offset is None else ("fs", offset)


def _linked(image: Image, target: int) -> _Place | None:
    slot = image.slots.get(target)
    local = slot is not None and slot.kind in (R_TPOFF64, R_TLSDESC) and not slot.name
    return ("linked", slot.addend) if slot is not None and local else None
