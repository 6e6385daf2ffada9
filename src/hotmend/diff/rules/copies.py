"""Whether the process may hold copies of a table that changed.

New code uses the new table; what the process has copied from the old one, or keeps a pointer to, stays old. Nobody
can find such copies, so a changed table that code stores somewhere, hands out, or copies from, is refused. Texts are
left out: an old text that is still shown somewhere does no harm that a new one would undo.
"""

from __future__ import annotations

import re

from hotmend.diff.align import Aligned
from hotmend.diff.closure import Selection
from hotmend.diff.compare import Contents
from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding, blame
from hotmend.diff.rules.keepers import Keepers
from hotmend.image.flow import compares_address, hands_over, reads_then_stores
from hotmend.model.verdict import note, refusal

_COPIERS = frozenset({"memcpy", "__memcpy_chk", "memmove", "__memmove_chk", "mempcpy", "strcpy"})

_REGISTERS = re.compile(r"hook|regist|^atexit$|^__cxa_atexit$|^signal$|^sigaction$|^pthread_atfork$")


def judge_copies(c: Correspondence, contents: Contents, aligned: Aligned) -> list[Finding]:
    """Return a refusal for each changed table whose address or contents code stores, or whose address it hands out."""
    found: dict[str, set[int]] = {}
    handed: dict[str, set[int]] = {}
    listed: dict[str, set[int]] = {}
    grew = False
    keepers = Keepers(contents, aligned)
    copiers = {stub for stub, slot in c.new_plt.items() if _name(c, slot) in _COPIERS}
    copiers |= {a for a, slot in c.new.image.slots.items() if slot.name in _COPIERS}
    for y in sorted(contents.changed):
        if contents.new.has_no_values(y):
            continue
        size = contents.new.extent(y)
        for j in sorted(contents.new.users(y, size)):
            stores = reads_then_stores(aligned.new(j), y, size, copiers)
            if not stores and not keepers.keep(j, y, size):
                continue
            place = f"{c.new.image.names.get(y, hex(y))} in {c.new.codes[j].label}"
            users = contents.new.users(y, max(contents.new.extent(y), 1))
            if stores:
                found[place] = users
            elif keepers.lists_texts(y):
                listed[place] = users
            else:
                handed[place] = users
                grew = grew or keepers.grows(y)
    sentence = "a changed table is copied, or its address is stored; the process may go on with the old contents"
    handed_out = "a changed table is registered or handed out; the process may go on with the old one"
    return [
        blame(make(code, said, *list(places)[:20]), set().union(*places.values()), alone=alone)
        for make, code, said, places, alone in (
            (refusal, "contents-may-be-copied", sentence, found, False),
            (refusal, "table-handed-out", handed_out, handed, not grew),  # no size that others were compiled with
            (note, "table-handed-out", handed_out, listed, False),
        )
        if places
    ]


def judge_identity(c: Correspondence, contents: Contents, aligned: Aligned) -> list[Finding]:
    """Return a refusal for each changed object whose address code compares.

    What is compared with it in the process holds the old address; and the address may be meant as the end of the
    object before it, which stays where it was.
    """
    found: list[str] = []
    blamed: set[int] = set()
    for y in sorted(contents.changed):
        if contents.new.jump_table(y):
            continue
        for j in sorted(contents.new.users(y, 1)):
            if compares_address(aligned.new(j), y):
                found.append(f"{c.new.image.names.get(y, hex(y))} in {c.new.codes[j].label}")
                blamed |= contents.new.users(y, max(contents.new.extent(y), 1))
    if not found:
        return []
    reason = refusal(
        "compared-address",
        "the address of a changed object is compared; it may be a sentinel, or the end of the object before it",
        *found[:20],
    )
    return [blame(reason, blamed)]


def judge_registrations(c: Correspondence, contents: Contents, selection: Selection, aligned: Aligned) -> list[Finding]:
    """Return a refusal for each added function that changed code hands to an import that registers it.

    Where that happens at start, it happened without the new function, and will not happen again.
    """
    imports = {stub for stub, slot in c.new_plt.items() if _REGISTERS.search(_name(c, slot))}
    imports |= {a for a, slot in c.new.image.slots.items() if _REGISTERS.search(slot.name)}
    found: list[str] = []
    blamed: set[int] = set()
    for j in sorted(selection.shadow - selection.origin.keys()):
        start = c.new.codes[j].start
        for user in sorted(contents.new.users(start, 1) & selection.origin.keys()):
            if hands_over(aligned.new(user), start, imports):
                found.append(f"{c.new.codes[j].label} in {c.new.codes[user].label}")
                blamed |= {j, user}
    if not found:
        return []
    reason = refusal(
        "registered-at-start",
        "a new function is registered by code that has probably run already; it would never be called",
        *found[:20],
    )
    return [blame(reason, blamed)]


def _name(c: Correspondence, slot_address: int) -> str:
    slot = c.new.image.slots.get(slot_address)
    return slot.name if slot is not None else ""
