"""Sizes handed to allocators: a changed one says that a structure grew, even if no member moved.

New members at the end of a structure leave every displacement as it was. What gives them away is the size that
the new build asks for, in the same place, from the same allocator. Objects that exist are smaller; whether one of
them ever meets the new code depends on what the process does, so that it is refused unless the operator accepts it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hotmend.diff.align import Aligned
from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding, blame
from hotmend.diff.suspects import users_of_members_above
from hotmend.image.body import calls_by_instruction, immediate_of
from hotmend.image.flow import carries_size
from hotmend.model.verdict import refusal

_ALLOCATOR = re.compile(r"(alloc|^_Zn[aw][jm]|^memset$)")
_WINDOW = 8
_SMALLEST = 16
_WORD_BYTES = 8


@dataclass(frozen=True, slots=True)
class _Resized:
    """A size that new code `code` hands to an allocator, and what the old code asked for, in bytes."""

    code: int
    before: int
    after: int
    text: str


def judge_allocations(c: Correspondence, aligned: Aligned) -> list[Finding]:
    """Return a refusal that lists the sizes which changed between aligned calls of an allocator."""
    found: list[_Resized] = []
    for i, j in c.pairs.items():
        if not c.old.codes[i].gap:
            found += _changed_sizes(c, aligned, i, j)
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
    calls = calls_by_instruction(new)
    partner = {n: m for m, n in aligned.pairs(i, j)}
    result = []
    for n, target in calls.items():
        name = _name(c, target)
        if n not in partner or not _ALLOCATOR.search(name):
            continue
        for k in range(n - 1, max(n - _WINDOW, -1), -1):
            if k in calls or k not in partner:
                break
            before, after = immediate_of(old.instructions[partner[k]]), immediate_of(new.instructions[k])
            if not carries_size(new.instructions[k], third=name == "memset"):
                continue
            if before is not None and after is not None and before != after and min(before, after) >= _SMALLEST:
                where = f"{new.code.label} at {new.instructions[k].ip:#x}"
                result.append(_Resized(j, before, after, f"{where}: {name} of {before} -> {after} bytes"))
    return result


def _name(c: Correspondence, target: int) -> str:
    slot = c.new.image.slots.get(c.new_plt.get(target, target))
    return slot.name if slot is not None else c.new.image.names.get(target, "")
