"""Signs that the layout of a structure changed, read from aligned instructions.

When a member is inserted, every later member of that structure moves by the same distance, in every function
that uses it. One function may change a displacement because it now uses another member; several functions, or
one function in which nothing else changed, do not.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

from hotmend.diff.align import Aligned
from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding, blame, whole
from hotmend.diff.rules.suspects import users_of_members_above
from hotmend.image.body import Body, Member, thread_offset
from hotmend.image.image import Image
from hotmend.model.verdict import note, refusal

_FUNCTIONS_MIN = 2
_SITES_MIN = 3


@dataclass(frozen=True, slots=True)
class Shift:
    """One aligned memory operand of new code `code` whose displacement changed from `old` to `new` bytes."""

    code: int
    function: str
    address: int
    old: int
    new: int
    access: int
    alone: bool
    """Nothing but displacements changed in this function."""


def judge_layout(c: Correspondence, aligned: Aligned) -> list[Finding]:
    """Return refusals for changed structure and thread-local layout that the instructions show."""
    shifts: list[Shift] = []
    threads: dict[int, tuple[int, str]] = {}
    kept: dict[tuple[int, int], set[str]] = defaultdict(set)
    for i, j in c.pairs.items():
        if not c.old.codes[i].gap:
            found, moved = _compare(c, aligned, i, j, kept)
            shifts += found
            threads |= moved
    findings: list[Finding] = []
    groups: dict[tuple[int, int, int], list[Shift]] = defaultdict(list)
    for shift in shifts:
        groups[shift.old, shift.new, shift.access].append(shift)
    proven = [g for key, g in groups.items() if _proves(g, kept.get((key[0], key[2]), set()))]
    by_distance: dict[int, list[Shift]] = defaultdict(list)
    for group in proven:
        by_distance[group[0].new - group[0].old] += group
    for distance, group in sorted(by_distance.items()):
        reason = refusal(
            "structure-layout-changed",
            f"members of a structure moved by {distance:+d} bytes; objects that exist have the old layout",
            *[f"{s.function} at {s.address:#x}: {s.old:#x} -> {s.new:#x}" for s in group[:20]],
        )
        suspects = users_of_members_above(c, aligned, min(min(s.old, s.new) for s in group))
        # Where one structure moved, an operand that may have moved with it is not taken for another member.
        findings.append(blame(reason, suspects | {s.code for s in shifts}))
    weak = [s for g in groups.values() if g not in proven for s in g]
    if weak:
        reason = note(
            "displacement-changed",
            "an aligned memory operand changed its displacement in one function: another member, or a moved one",
            *[f"{s.function} at {s.address:#x}: {s.old:#x} -> {s.new:#x}" for s in weak[:20]],
        )
        findings.append(blame(reason, {s.code for s in weak}))
    threads = {offset: where for offset, where in threads.items() if not _still_used(c.new.image, offset)}
    if threads:
        where = sorted(text for _, text in threads.values())
        reason = refusal("tls-layout-changed", "thread-local variables moved", *where[:20])
        findings.append(blame(reason, {code for code, _ in threads.values()}))
    return findings


def _proves(group: list[Shift], kept: set[str]) -> bool:
    """Return whether one displacement that became another is a moved member rather than another member.

    `kept` names changed functions in which the same old displacement, accessed alike, stayed what it was: where
    as many functions keep it as change it, several structures are involved and the sign is weak.
    """
    functions = {s.function for s in group}
    if any(s.alone for s in group):
        return True
    return len(functions) >= _FUNCTIONS_MIN and len(functions) > len(kept - functions)


def _compare(
    c: Correspondence, aligned: Aligned, i: int, j: int, kept: dict[tuple[int, int], set[str]]
) -> tuple[list[Shift], dict[int, tuple[int, str]]]:
    a, b = aligned.old(i), aligned.new(j)
    pairs = aligned.pairs(i, j)
    label = c.new.codes[j].label
    moved: list[tuple[int, Member, Member]] = []
    threads: dict[int, tuple[int, str]] = {}
    numbers = False
    for m, n in pairs:
        x, y = a.forms[m], b.forms[n]
        if x.number != y.number:
            numbers = True
        p = a.members.get(m)
        if p is not None:
            q = b.members.get(n)
            if q is not None and p.displacement != q.displacement:
                moved.append((n, p, q))
            elif q is not None:
                kept[p.displacement, p.access].add(label)
        offset = thread_offset(x)
        if offset is not None and offset != thread_offset(y):
            threads[offset] = (j, f"{label} at {b.instructions[n].ip:#x}")
    alone = not numbers and len(pairs) == len(a.instructions) == len(b.instructions)
    return [
        Shift(
            j,
            label,
            b.instructions[n].ip,
            p.displacement,
            q.displacement,
            p.access,
            alone and p.displacement != 0 and p.access > 0,
        )
        for n, p, q in moved
        if not _scaled_table(p, q)
    ], threads


def _still_used(image: Image, offset: int) -> bool:
    """Return whether the new build still uses a thread-local offset: then another variable is meant, none moved."""
    field = re.escape((offset & 0xFFFFFFFF).to_bytes(4, "little"))
    return re.search(rb"\x64[\x40-\x4f]?.{1,4}?" + field, image.memory, re.DOTALL) is not None


def _scaled_table(p: Member, q: Member) -> bool:
    """Displacements outside of what a structure can have are addresses or arithmetic, not members."""
    return not (-0x800 <= p.displacement <= 1 << 20 and -0x800 <= q.displacement <= 1 << 20)


def judge_thread_storage(old: Image, new: Image) -> list[Finding]:
    """Thread-local storage is laid out when a thread starts: any change of it needs a restart."""
    if old.tls[1:] != new.tls[1:]:
        reason = refusal(
            "tls-layout-changed",
            "the size or alignment of thread-local storage changed",
            f"{old.tls[2]} bytes -> {new.tls[2]} bytes",
        )
        return whole([reason])
    if old.read(old.tls[0], old.tls[1]) != new.read(new.tls[0], new.tls[1]):
        return whole([refusal("tls-layout-changed", "the initial value of thread-local variables changed")])
    return []


def body_is_leaf(body: Body) -> bool:
    """Return whether a function calls nothing."""
    return not any(i.is_call_near or i.is_call_near_indirect for i in body.instructions)
