"""The net under the comparison of contents: bytes of data that differ although nothing said so.

Code may reach a table by an address outside of it (a base with the lowest index taken off), so that no reference
shows where the table is. Between two mapped addresses that moved by the same distance every byte stays comparable:
what differs there, and belongs to no object that was compared, is a change that nobody would apply. The beginning of
a section counts as such an address: an array may be reached by its second element alone.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left

import numpy as np

from hotmend.diff.compare import SKIPPED, Contents
from hotmend.diff.correspond import Correspondence, leads_to_same
from hotmend.diff.finding import Finding, whole
from hotmend.diff.objects import SHORT_TEXT, Objects
from hotmend.image.image import Section
from hotmend.model.verdict import refusal

_NO_DATA = 0x404
"""Flags of sections that hold code, or what each thread gets a copy of (`judge_thread_storage`)."""

_WORD_BYTES = 8


def judge_leftovers(c: Correspondence, contents: Contents) -> list[Finding]:
    """Return a refusal that lists bytes of data which differ and belong to no compared object."""
    bounds = set(contents.new.bounds)
    # What holds the address of a changed object and is itself reached by nothing that was seen.
    unseen = (y for y in sorted(contents.changed) if y not in c.to_old and y not in bounds)
    found = [f"{y:#x}" for y in unseen if c.neighbours(y) is not None]
    for section in c.new.image.allocated:
        if section.kind == "SHT_PROGBITS" and not section.flags & _NO_DATA and not section.name.startswith(SKIPPED):
            found += _differences(c, contents, section)
    if not found:
        return []
    reason = refusal(
        "unexplained-data-change",
        "data differs at a place that no reference leads to; who uses it is not known",
        *found[:20],
    )
    return whole([reason])


def _differences(c: Correspondence, contents: Contents, section: Section) -> list[str]:
    old, new = c.old.image, c.new.image
    end = section.address + section.size
    twin = old.section_named(section.name)
    if twin is None:
        return []
    known = [(a, c.to_old[a].old) for a in contents.new.bounds_between(section.address, end) if a in c.to_old]
    if not known or known[0][0] != section.address:
        known.insert(0, (section.address, twin.address))
    old_texts = _texts_of_tables(contents.old, twin)
    new_texts = _texts_of_tables(contents.new, section)
    result = []
    for (y, x), (next_y, next_x) in itertools.pairwise([*known, (end, -1)]):
        size = next_y - y
        if (next_y != end and next_x - x != size) or (y in c.to_old and not contents.equal(x, y)):
            continue
        if next_y == end:  # what the new build has behind the old section's end cannot be anything old
            size = min(size, twin.address + twin.size - x)
        before, after = old.read(x, size), new.read(y, size)
        if len(before) != len(after):
            result.append(f"{y:#x}")  # the old image ends before
            continue
        differs = np.frombuffer(before, np.uint8) != np.frombuffer(after, np.uint8)
        _compare_words(contents, x, y, size, differs)
        if differs.any():
            _blank(contents, y, x, size, differs, old_texts, new_texts)
            if differs.any():
                result.append(f"{y + int(np.argmax(differs)):#x}")
    return result


def _compare_words(contents: Contents, x: int, y: int, size: int, differs: np.ndarray) -> None:
    """Say of the words that the dynamic linker changes whether they lead elsewhere, whatever the file has there."""
    old, new = contents.old, contents.new
    before, after = ({w - start for w in side.words_in(start, size)} for side, start in ((old, x), (new, y)))
    for offset in before | after:
        both = offset in before and offset in after
        differs[offset : offset + _WORD_BYTES] = not both or _leads_elsewhere(contents, x + offset, y + offset)


def _leads_elsewhere(contents: Contents, x: int, y: int) -> bool:
    old, new = contents.old.image, contents.new.image
    if x in old.pointers and y in new.pointers:
        known = leads_to_same(contents.c, old.pointers[x], new.pointers[y])
        return known is False and not _same_texts(contents, x, y)
    return not contents.same_word(x, y)


def _same_texts(contents: Contents, x: int, y: int) -> bool:
    """Return whether two words lead to the same text; which other text that stands in is the linker's choice."""
    old, new = contents.old, contents.new
    a, b = old.image.pointers.get(x), new.image.pointers.get(y)
    text = old.string(a) if a is not None else None
    return text is not None and b is not None and new.string(b) == text


def _blank(
    contents: Contents, y: int, x: int, size: int, differs: np.ndarray, old_texts: list[int], new_texts: list[int]
) -> None:
    """Clear what was compared otherwise: tables, texts, and objects that only changed code uses."""
    old, new = contents.old, contents.new
    for start, objects, texts in ((x, old, old_texts), (y, new, new_texts)):
        table = objects.jump_table(start)
        differs[: 4 * len(table)] = False
        text = objects.string(start)
        if y in contents.c.to_old and text is not None and len(text) > 1:
            differs[: len(text)] = False
        for place in texts[bisect_left(texts, start) : bisect_left(texts, start + size)]:
            differs[place - start : place - start + len(objects.string(place) or b"")] = False
        first = start + 1 if y in contents.c.to_old else start
        for bound in objects.bounds_between(first, start + size):
            if _may_be_inside(contents, y, x, bound - start):
                continue
            following = objects.bounds_between(bound + 1, start + size)
            differs[bound - start : (following[0] if following else start + size) - start] = False


def _texts_of_tables(objects: Objects, section: Section) -> list[int]:
    """Return the texts that only tables of distances lead to, ascending; those tables were compared with them."""
    tables = [t for t in objects.bounds_between(section.address, section.address + section.size) if t % 4 == 0]
    return sorted({text for table in tables for text in objects.text_table(table)})


def _may_be_inside(contents: Contents, y: int, x: int, offset: int) -> bool:
    """Return whether an address at `offset` may lie inside of the table at `y` rather than begin another object.

    Both builds then take it at the same offset, and neither the table nor what stands there is a text or a table of
    jumps, which end by themselves.
    """
    if _begins_a_text(contents.old, x, offset) and _begins_a_text(contents.new, y, offset):
        return False
    for start, objects in ((x, contents.old), (y, contents.new)):
        if not objects.is_taken(start) or not objects.is_taken(start + offset):
            return False
        for address in (start, start + offset):
            text = objects.string(address)
            if objects.jump_table(address) or (text is not None and len(text) > SHORT_TEXT):
                return False
    return True


def _begins_a_text(objects: Objects, start: int, offset: int) -> bool:
    """Return whether texts stand one behind the other from `start` on and one of them begins at `offset`."""
    at = 0
    while at < offset and (text := objects.string(start + at)) is not None:
        at += len(text)
    return at == offset
