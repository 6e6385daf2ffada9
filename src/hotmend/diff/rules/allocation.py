"""Sizes handed to allocators: a changed one says that a structure grew, even if no member moved.

New members at the end of a structure leave every displacement as it was. What gives them away is the size that
the new build asks for, in the same place, from the same allocator. Objects that exist are smaller; whether one of
them ever meets the new code depends on what the process does, so that it is refused unless the operator accepts it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from hotmend.diff.align import Aligned
from hotmend.diff.compare import Contents
from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding, blame
from hotmend.diff.rules.suspects import users_of_members_above
from hotmend.image.body import Body, calls_by_instruction, tail_calls
from hotmend.image.escape import escapes, takers
from hotmend.image.fills import copies, fills, uses_within
from hotmend.image.handed import COUNT, FIRST, SECOND, THIRD, constants_handed, filled_up_to, repeated
from hotmend.image.multiples import multiples_handed
from hotmend.model.verdict import refusal

_ALLOCATOR = re.compile(r"(alloc|^_Zn[aw][jm])")
_COUNTED = re.compile(r"(^|_)calloc$|^reallocarray$")
_SIZE_PLACES = {
    "memalign": SECOND, "posix_memalign": THIRD, "mmap": SECOND, "mmap64": SECOND, "mremap": THIRD, "shmget": SECOND,
    "ftruncate": SECOND, "ftruncate64": SECOND, "posix_fallocate": THIRD, "posix_fallocate64": THIRD,
}  # fmt: skip
"""Functions of the C library that make room and are not named after it, with the argument that says how much."""

_FILLS = re.compile(r"^(__)?mem(set|cpy|move|pcpy)(_chk)?$")
_SMALLEST = 16
_SMALLEST_OWN = 8
"""An allocator of the image may hand out objects of one word, one behind the other; malloc has room for three."""

_WORD_BYTES = 8
_FILL_GREW = 16
_TAIL = 16
"""Bytes behind the vectors of a fill that shorter stores may still belong to."""


@dataclass(frozen=True, slots=True)
class _Resized:
    """A size that new code `code` hands to an allocator, and what the old code asked for, in bytes."""

    code: int
    before: int
    after: int
    text: str


def judge_allocations(c: Correspondence, contents: Contents, aligned: Aligned) -> list[Finding]:
    """Return a refusal that lists the sizes which changed between aligned calls of an allocator, or in a table."""
    found: list[_Resized] = []
    for i, j in c.pairs.items():
        if not c.old.codes[i].gap:
            found += _changed_sizes(c, aligned, i, j)
    found += _sizes_looked_up(c, contents, aligned)
    if not found:
        return []
    reason = refusal(
        "allocation-size-changed",
        "new code allocates objects of another size; it would overrun those of the old size that are in use",
        *[size.text for size in found[:20]],
    )
    lowest = min(min(size.before, size.after) for size in found) // _WORD_BYTES * _WORD_BYTES - _WORD_BYTES
    return [blame(reason, users_of_members_above(c, aligned, lowest) | {size.code for size in found})]


def _changed_sizes(c: Correspondence, aligned: Aligned, i: int, j: int) -> list[_Resized]:
    old, new = aligned.old(i), aligned.new(j)
    calls, partner = calls_by_instruction(new) | tail_calls(new), {n: m for m, n in aligned.pairs(i, j)}
    result: list[_Resized] = []
    for n, target in calls.items():
        if n not in partner:
            continue
        name = _name(c, target)
        result += _larger_elements(old, new, (partner[n], n), name, j)
        before, after = constants_handed(old, partner[n]), constants_handed(new, n)
        if before == after or not before or not after:
            continue
        for a, b in _sizes(name, before, after, filled_up_to(new, n), inside=target in c.new.at):
            if a != b and min(a, b) >= (_SMALLEST_OWN if target in c.new.at else _SMALLEST):
                where = f"{new.code.label} at {new.instructions[n].ip:#x}"
                result.append(_Resized(j, a, b, f"{where}: {name or 'an allocator'} of {a} -> {b} bytes"))
                break
    for n, width in repeated(new).items():
        a = constants_handed(old, partner[n]).get(COUNT, 0) * width if n in partner else 0
        b = constants_handed(new, n).get(COUNT, 0) * width
        if a != b and min(a, b) >= _SMALLEST:
            where = f"{new.code.label} at {new.instructions[n].ip:#x}"
            result.append(_Resized(j, a, b, f"{where}: {a} -> {b} bytes copied or filled in place"))
    return result + list(_longer_fills(old, new, j))


def _sizes_looked_up(c: Correspondence, contents: Contents, aligned: Aligned) -> Iterator[_Resized]:
    """Yield calls of an allocator for as much as a table says that changed; 0 bytes, as which of them is not known."""
    new = contents.new
    for y in sorted(contents.changed):
        size = new.extent(y)
        if new.has_no_values(y):
            continue
        for j in sorted(new.users(y, size)):
            body = aligned.new(j)
            calls = calls_by_instruction(body) | tail_calls(body)
            for n, register in sorted(escapes(body, takers(body, y, size, reads=True), reads=True).handed):
                name = _name(c, calls.get(n, 0))
                if register in _size_registers(name):
                    where = f"{body.code.label} at {body.instructions[n].ip:#x}"
                    yield _Resized(j, 0, 0, f"{where}: {name} of what the changed table at {y:#x} says")


def _size_registers(name: str) -> tuple[int, ...]:
    """Return the registers in which a function is handed how much room to make."""
    if name in _SIZE_PLACES:
        return (_SIZE_PLACES[name],)
    if re.search(r"(^|_)malloc$|^_Zn[aw][jm]", name):
        return (FIRST,)
    if re.search(r"(^|_)realloc$", name):
        return (SECOND,)
    return (FIRST, SECOND) if _ALLOCATOR.search(name) else ()


def _larger_elements(old: Body, new: Body, at: tuple[int, int], name: str, j: int) -> Iterator[_Resized]:
    """Yield a call of an allocator for a number of elements, of which each has another size than before."""
    if not _ALLOCATOR.search(name) or _COUNTED.search(name):
        return
    before, after = multiples_handed(old, at[0]), multiples_handed(new, at[1])
    for register in before.keys() & after.keys():
        a, b = before[register], after[register]
        if a != b and min(a, b) >= _SMALLEST_OWN:
            where = f"{new.code.label} at {new.instructions[at[1]].ip:#x}"
            yield _Resized(j, a, b, f"{where}: {name} of elements of {a} -> {b} bytes")


def _longer_fills(old: Body, new: Body, j: int) -> Iterator[_Resized]:
    """Yield fills and copies by single stores that go on where the old function used nothing."""
    for what, spans in (("filled", fills), ("copied", copies)):
        before = spans(old)
        for start, end in spans(new).items() if before else ():
            known = before.get(start, end)
            if end - known >= _FILL_GREW and not uses_within(old, known + _TAIL, end):
                text = f"{new.code.label}: {known - start} -> {end - start} bytes {what} by single stores"
                yield _Resized(j, known - start, end - start, text)


def _sizes(
    name: str, before: dict[int, int], after: dict[int, int], filled: int, *, inside: bool
) -> Iterator[tuple[int, int]]:
    """Return what may be the sizes of an object in the old and the new call, in bytes."""
    if _COUNTED.search(name) and all(FIRST in x and SECOND in x for x in (before, after)):
        yield before[FIRST] * before[SECOND], after[FIRST] * after[SECOND]
    elif name in _SIZE_PLACES:
        place = _SIZE_PLACES[name]
        if place in before and place in after:
            yield before[place], after[place]
    elif _FILLS.search(name):
        if THIRD in before and THIRD in after:
            yield before[THIRD], after[THIRD]
    elif _ALLOCATOR.search(name):
        yield from ((before[r], after[r]) for r in (FIRST, SECOND) if r in before and r in after)
    elif inside and FIRST in before and FIRST in after and 0 < filled <= after[FIRST]:
        # A function of the image whose result is filled by its caller within the bytes it asked for.
        yield before[FIRST], after[FIRST]


def _name(c: Correspondence, target: int) -> str:
    slot = c.new.image.slots.get(c.new_plt.get(target, target))
    return slot.name if slot is not None else c.new.image.names.get(target, "")
