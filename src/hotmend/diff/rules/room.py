"""Whether objects of the old image have the room that new code expects.

An array whose bound grew is used by new code beyond the end of the old one. Where nothing new stands between two
mapped objects, the first of them must not have grown; the end of the section counts as an object.
"""

from __future__ import annotations

import itertools

from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding, blame
from hotmend.diff.objects import Objects
from hotmend.image.image import Section
from hotmend.model.verdict import refusal

_ALIGNMENTS = (4, 8, 16, 32, 64)


def judge_room(c: Correspondence, new: Objects) -> list[Finding]:
    """Return a refusal for each writable object that is larger in the new build."""
    grown: list[tuple[str, set[int]]] = []
    for section in c.new.image.allocated:
        twin = c.old.image.section_named(section.name)
        if twin is None or c.new.image.permissions_at(section.address) != "rw-" or section.name.startswith(".got"):
            continue
        grown += _grown(c, new, section, twin)
    if not grown:
        return []
    reason = refusal(
        "object-grew",
        "writable objects are larger in the new build; new code would write behind the end of the old ones",
        *[text for text, _ in grown[:20]],
    )
    return [blame(reason, set().union(*(users for _, users in grown)))]


def _grown(c: Correspondence, new: Objects, section: Section, twin: Section) -> list[tuple[str, set[int]]]:
    """Return each object that grew, as text, with the codes that refer to it."""
    end = section.address + section.size
    places = [(y, c.to_old[y].old) for y in new.bounds_between(section.address, end) if y in c.to_old]
    places = [(y, x) for y, x in places if twin.address <= x <= twin.address + twin.size]
    places.append((end, twin.address + twin.size))
    result = []
    for (y, x), (next_y, next_x) in itertools.pairwise(places):
        room, needed = next_x - x, next_y - y
        if room < 0 or needed <= room or any(b not in c.to_old for b in new.bounds_between(y + 1, next_y)):
            continue
        if next_y != end and any(_aligned_anew(x, y, room, next_x, next_y, a) for a in _ALIGNMENTS):
            continue
        text = f"{c.new.image.names.get(y, hex(y))}: {room} bytes -> {needed} bytes"
        result.append((text, new.users(y, needed)))
    return result


def _aligned_anew(x: int, y: int, room: int, next_x: int, next_y: int, alignment: int) -> bool:
    """Return whether the next object only stands further off because its alignment needs other padding here.

    Padding differs between the builds only where the first object stands differently to the alignment.
    """
    if next_x % alignment or next_y % alignment or x % alignment == y % alignment:
        return False
    return -(-(y + room) // alignment) * alignment >= next_y
