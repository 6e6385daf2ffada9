"""Addresses that code takes inside of a table, and what it reads there by itself.

A stripped image does not say where a table ends. Where code takes the address of one of its elements, or reads one
without an index, an object seems to begin. What changed there has changed for those who go through the table, too.
"""

from __future__ import annotations

from collections.abc import Iterator

from hotmend.diff.correspond import Correspondence
from hotmend.diff.objects import SHORT_TEXT, Objects
from hotmend.image.body import Body
from hotmend.image.forms import NO_REGISTER

_ELEMENTS_MIN = 2
"""Elements that have to stand in front of an address: one alone may as well be an object like the next one."""

_WORD_BYTES = 8
_ELEMENT_MAX = 512


def tables_around(c: Correspondence, old: Objects, new: Objects, x: int, y: int) -> Iterator[int]:
    """Yield the tables, by new addresses, inside of which what begins at old `x` and new `y` may stand, inmost first.

    What has an end of its own is no such table, nor what stands at another distance in front of it in the old build:
    constants that the compiler laid down may stand behind any object.
    """
    while (table := new.taken_before(y)) is not None and _may_be_inside(new, table, y):
        mapped = c.to_old.get(table)
        if mapped is None or x - mapped.old != y - table or mapped.old != old.taken_before(x):
            return
        yield table
        x, y = mapped.old, table


def _may_be_inside(objects: Objects, table: int, y: int) -> bool:
    image = objects.image
    if image.section_at(table) is not image.section_at(y) or _ends(objects, table, y):
        return False
    if not objects.is_taken(y):
        return _is_indexed(objects, table, objects.extent(y))
    extent = objects.extent(y)
    text = objects.string(y)
    if text is not None and (len(text) > SHORT_TEXT or len(text) == extent):
        return False
    if objects.jump_table(y) or objects.text_table(y) or objects.distance_table(y):
        return False
    return _go_on_alike(objects, table, y, extent)


def _is_indexed(objects: Objects, table: int, width: int) -> bool:
    """Return whether code that takes a table's address reads as many bytes somewhere by an index."""
    bodies = (Body(objects.survey, user) for user in objects.users(table, 1))
    return any(form.memory_index != NO_REGISTER and form.width == width for body in bodies for form in body.forms)


def _ends(objects: Objects, start: int, before: int) -> bool:
    """Return whether an object ends by itself in front of an address."""
    text = objects.string(start)
    if text is not None and len(text) > SHORT_TEXT and start + len(text) <= before:
        return True
    return bool(objects.jump_table(start) or objects.text_table(start) or objects.distance_table(start))


def _go_on_alike(objects: Objects, table: int, y: int, extent: int) -> bool:
    """Return whether elements of addresses and numbers stand one behind the other from a table on and beyond `y`."""
    before = {w - table for w in objects.words_in(table, y - table)}
    after = {w - y for w in objects.words_in(y, extent)}
    for size in range(2 * _WORD_BYTES, min(y - table, extent, _ELEMENT_MAX) + 1, _WORD_BYTES):
        first = {w for w in before if w < size}
        if (y - table) % size or (y - table) // size < _ELEMENTS_MIN or not first or len(first) == size // _WORD_BYTES:
            continue
        places = range(0, y - table, size)
        if before == {p + w for p in places for w in first} and {w for w in after if w < size} == first:
            return True
    return False
