"""Which old entries have to lead to new code, and whether each of them can."""

from __future__ import annotations

from collections import defaultdict

from hotmend.diff.assemble import Assembly
from hotmend.diff.closure import Selection
from hotmend.diff.compare import Contents
from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding, blame
from hotmend.diff.rules.startup import ONCE
from hotmend.diff.stubs import Entry
from hotmend.image.body import Body
from hotmend.image.entry import Immovable, displace
from hotmend.image.image import Image
from hotmend.image.references import ABSOLUTE, LEA
from hotmend.model.addresses import JUMP_BYTES, PAGE_BYTES
from hotmend.model.verdict import refusal

_ENTRY_BYTES = 64


def plan_entries(
    c: Correspondence, contents: Contents, selection: Selection, assembly: Assembly
) -> tuple[list[Entry], list[Finding]]:
    """Return the entries to redirect, and refusals for those that cannot be.

    An old entry is redirected only where something that stays reaches it: unchanged code, a pointer, an export.
    """
    entries: list[Entry] = []
    findings: list[Finding] = []
    exported = c.new.image.exported_addresses | {c.new.image.called_last}
    first = c.new.image.called_first
    for j in sorted(selection.shadow):
        code = c.new.codes[j]
        users = contents.new.users(code.start, 1) - selection.shadow
        words = contents.new.words_to(code.start, 1)
        once = code.start == first or words
        needed = users or once or code.start in exported or j in assembly.resolver.taken_entries
        if not needed or c.new.image.entry == code.start:
            continue
        if once and not users and code.start not in exported and all(_at_start(c.new.image, w) for w in words):
            reason = refusal("start-only-code", "code that only runs when the program starts changed", code.label)
            findings.append(blame(reason, {j}))
            continue
        i = selection.origin.get(j, -1)
        if i < 0:
            if users:
                reason = refusal(
                    "conflicting-evidence", "unchanged code refers to a function the old build lacks", code.label
                )
                findings.append(blame(reason, {j}))
            continue  # a new function in a new table or export: reached through the shadow alone
        if code.start in c.new.image.resolvers:
            sentence = "what chooses an indirect function changed; the process has chosen already"
            findings.append(blame(refusal("start-only-code", sentence, code.label), {j}))
        known = c.to_old.get(code.start)
        if known is None or known.old != c.old.codes[i].start:
            if users or words or code.start in exported:
                reason = refusal("unproven-pair", "nothing proves which old function this is", code.label)
                findings.append(blame(reason, {j}))
            continue
        try:
            entries.append(_entry(c, contents, i, j))
        except Immovable as why:
            reason = refusal(
                "entry-cannot-be-redirected", f"an entry cannot be redirected: {why}", c.old.codes[i].label
            )
            findings.append(blame(reason, {j}))
    findings += _unreached(c, contents, selection, assembly) if not entries else []
    redirected = {entry.old for entry in entries}
    stored = [i for i in _stored(c, contents, selection) if c.old.codes[i].start not in redirected]
    if stored:
        reason = refusal(
            "stored-function-stays-old",
            "the old build takes the address of a function whose entry cannot lead to new code",
            *[c.old.codes[i].label for i in stored[:20]],
        )
        findings.append(Finding(reason, _takers(c, contents, selection, stored)))
    return entries, findings


def _unreached(c: Correspondence, contents: Contents, selection: Selection, assembly: Assembly) -> list[Finding]:
    """Refuse a hotpatch to which no old entry leads, although data of the new build that stay outside lead there."""
    image = c.new.image
    linked: dict[int, set[int]] = defaultdict(set)
    for word, slot in image.slots.items():
        if (symbol := image.own(slot)) is not None:
            linked[symbol.value].add(word)
    found: set[int] = set()
    for j in selection.shadow:
        start = c.new.codes[j].start
        words = linked[start].union(contents.new.words_to(start, 1))
        if any(word not in assembly.relocations and not _at_start(image, word) for word in words):
            found.add(j)
    if not found:
        return []
    sentence = "new code is reached by data of the new build alone, which the process does not have"
    names = [c.new.codes[j].label for j in sorted(found)[:20]]
    return [blame(refusal("new-code-not-reached", sentence, *names), found)]


def _takers(c: Correspondence, contents: Contents, selection: Selection, stored: list[int]) -> frozenset[int] | None:
    """Return the new codes that have to stay old so that these old functions may; None where that is not known."""
    result: set[int] = set()
    for i in stored:
        found = {c.partner(k) for k in {i, *_knowers(c, contents, i)}} & selection.shadow
        if not found:
            return None
        result |= found
    return frozenset(result)


def _knowers(c: Correspondence, contents: Contents, i: int) -> set[int]:
    """Return the old codes with a partner that refer to an old code, themselves or through what only the old build has.

    On the way are tables, which hold its address or that of another table, and functions that were removed.
    """
    old = contents.old
    result: set[int] = set()
    seen: set[int] = {c.old.codes[i].start}
    waiting: list[tuple[int, int]] = [(c.old.codes[i].start, c.old.codes[i].size)]
    while waiting:
        start, size = waiting.pop()
        users = old.users(start, max(size, 1)) - {i}
        result |= {k for k in users if c.partner(k) >= 0}
        further: list[tuple[int, int]] = [
            (c.old.codes[k].start, c.old.codes[k].size) for k in users if c.partner(k) < 0
        ]
        tables = {old.container(w) for w in old.words_to(start, max(size, 1)) if not _at_start(c.old.image, w)}
        further += [(table, old.extent(table)) for table in tables]
        waiting += [place for place in further if place[0] not in seen]
        seen |= {place[0] for place in further}
    return result


def _stays_known(c: Correspondence, contents: Contents, selection: Selection, i: int) -> bool:
    """Return whether a removed function stays what it is in a partial hotpatch, because all that know it stay old."""
    if not selection.left or c.partner(i) >= 0:
        return False
    known = {c.partner(k) for k in _knowers(c, contents, i)}
    return bool(known & selection.left) and known.isdisjoint(selection.shadow)


def _stored(c: Correspondence, contents: Contents, selection: Selection) -> list[int]:
    """Return the changed or removed old codes whose address the process may hold: somewhere it is taken."""
    result = []
    kept = set(selection.kept.values())
    for i, code in enumerate(c.old.codes):
        if i in kept or code.gap or code.start == c.old.image.entry or code.start in c.split:
            continue
        if c.partner(i) in selection.left or _stays_known(c, contents, selection, i):
            continue
        words = [w for w in contents.old.words_to(code.start, 1) if not _at_start(c.old.image, w)]
        words = [w for w in words if not _same_bytes_there(c, contents, w, i)]
        if words or any(kind in (LEA, ABSOLUTE) for _, kind in contents.old.references_to(code.start)):
            result.append(i)
    return result


def _same_bytes_there(c: Correspondence, contents: Contents, word: int, i: int) -> bool:
    """Return whether the new build has a function of the same bytes in the same place of the same table."""
    start = contents.old.container(word)
    table = c.to_new.get(start)
    if table is None:
        return False
    j = c.new.at.get(c.new.image.pointers.get(table + word - start, -1), -1)
    return j >= 0 and c.new.keys[j] == c.old.keys[i]


def _at_start(image: Image, word: int) -> bool:
    """Return whether a pointer is one of those that are called once, when the image is loaded."""
    section = image.section_at(word)
    return section is not None and section.name in ONCE


def _entry(c: Correspondence, contents: Contents, i: int, j: int) -> Entry:
    old, code = c.old, c.old.codes[i]
    inside = old.image.exported_addresses.intersection(range(code.start + 1, code.end))
    if inside:
        names = sorted({s.name for s in old.image.exports.values() if s.value in inside})
        raise Immovable(f"other images may enter it behind its first instruction, by {', '.join(names)}")
    if code.start % PAGE_BYTES > PAGE_BYTES - JUMP_BYTES:
        raise Immovable("its first five bytes lie on two pages, which no single write can change")
    limit = old.codes[i + 1].start if i + 1 < len(old.codes) else code.start + _ENTRY_BYTES
    section = old.image.section_at(code.start)
    end = min(limit, section.address + section.size if section else limit, code.start + _ENTRY_BYTES)
    if end - code.start < JUMP_BYTES:
        raise Immovable("it has less than five bytes and no padding behind it")
    text = old.image.read(code.start, end - code.start)
    near = contents.old.targets_between(code.start + 1, code.start + JUMP_BYTES)
    displaced = displace(text, code.start, near | Body(old, i).branch_targets)
    name = c.new.codes[j].name or code.label
    return Entry(name, code.start, c.new.codes[j].start, text, displaced)
