"""Members that new code sets and reads, and that no old code ever touched.

A member may find room in old padding, so that nothing moves. Objects from before the switch have there what padding
has: nothing that anybody set.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Set

from hotmend.diff.align import Aligned
from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding, blame
from hotmend.diff.rules.changes import Changes
from hotmend.diff.rules.dealings import TAKES_MEMORY, callee_name
from hotmend.image.body import calls_by_instruction, member_of
from hotmend.image.facts import Fact, Use
from hotmend.image.handed import filled_up_to
from hotmend.model.verdict import refusal

_SMALL_CODES = 1500
"""Functions up to which an image is searched for accesses with short displacements; larger ones use each of them."""

_SHORT = range(-128, 128)
_CHANGES = frozenset({Use.ADD, Use.MASK, Use.CLEAR, Use.SET_BITS, Use.FLIP})
_ACCESSES = frozenset({Use.INTEGER, Use.FLOAT, Use.WRITE})
_SHOWN = 20
_REWRITTEN_MAX = 6
"""Instructions that differ up to which a function that makes an object counts as the old one with a member more."""

_Member = tuple[int, int]
"""Displacement and bytes accessed."""


def judge_members(c: Correspondence, aligned: Aligned, changes: Changes) -> list[Finding]:
    """Return a refusal for members that only new code sets and reads."""
    sets: dict[_Member, set[int]] = defaultdict(set)
    reads: dict[_Member, set[int]] = defaultdict(set)
    old = {m for function in changes.functions for m in _members(function.before, _ACCESSES)}
    for function in changes.functions:
        for member in _members(function.after, {Use.WRITE}) - old:
            sets[member].add(function.code)
        for member in _read(function.after) - old:
            reads[member].add(function.code)
    wanted = {m for m in sets.keys() & reads.keys() if len(sets[m] | reads[m]) > 1}
    for j, facts in changes.added() if sets else ():
        for member in _read(facts) & sets.keys():
            reads[member].add(j)
    made = _made(c, aligned, changes, sets, reads)
    wanted = made | (wanted - _used_before(c, aligned, wanted - made))
    if not wanted:
        return []
    codes = set().union(*(sets[m] | reads[m] for m in wanted))
    reason = refusal(
        "member-added",
        "new code sets and reads a member that old code never touched; objects that exist do not have it set",
        *[
            f"{m[1]} bytes at {m[0]:#x}: set by {c.new.codes[min(sets[m])].label}, read by "
            f"{c.new.codes[min(reads[m])].label}"
            for m in sorted(wanted)[:_SHOWN]
        ],
    )
    return [blame(reason, codes)]


def _made(
    c: Correspondence, aligned: Aligned, changes: Changes, sets: dict[_Member, set[int]], reads: dict[_Member, set[int]]
) -> set[_Member]:
    """Return those members that new code sets where it makes an object, and that other changed code reads anew.

    Objects made before lack the value, whatever other structures have at the same displacement.
    """
    result: set[_Member] = set()
    for function in changes.functions:
        begun = {m for m in sets.keys() & reads.keys() if function.code in sets[m] and reads[m] - {function.code}}
        if begun and function.rewritten <= _REWRITTEN_MAX:
            body = aligned.new(function.code)
            for n, target in calls_by_instruction(body).items():
                if TAKES_MEMORY.search(callee_name(c.new, c.new_plt, target)):
                    end = filled_up_to(body, n)
                    result |= {m for m in begun if m[0] + m[1] <= end}
    return result


def _read(facts: Iterable[Fact]) -> set[_Member]:
    """Return what is read, also by instructions that change what is there."""
    known = tuple(facts)
    changed = {f.location[1] for f in known if f.use in _CHANGES}
    return _members(known, {Use.INTEGER, Use.FLOAT}) | {m for m in _members(known, {Use.WRITE}) if m[0] in changed}


def _members(facts: Iterable[Fact], uses: Set[Use]) -> set[_Member]:
    return {
        (f.location[1], f.number) for f in facts if f.location[0] == "member" and f.use in uses and f.location[1] > 0
    }


def _used_before(c: Correspondence, aligned: Aligned, wanted: set[_Member]) -> set[_Member]:
    """Return those members that some code of the old build may use."""
    text = [c.old.image.read(s.address, s.size) for s in c.old.image.allocated if s.flags & 4]
    short = {m for m in wanted if m[0] in _SHORT}
    result = {m for m in wanted - short if any(m[0].to_bytes(4, "little") in t for t in text)}
    if len(c.old.codes) > _SMALL_CODES:
        return result | short
    for i, code in enumerate(c.old.codes):
        if not short or code.gap:
            continue
        for instruction in aligned.old(i).forms:
            member = member_of(instruction, frame_pointer=False)
            if member is not None and (member.displacement, member.access) in short:
                short.discard((member.displacement, member.access))
                result.add((member.displacement, member.access))
    return result
