"""What new code of one image needs from the other images of its update.

All images of an update are changed together. Where one of them is refused, or patched in part, its changed functions
stay old; new code of another image that calls such a function was built for the new one.
"""

from __future__ import annotations

from hotmend.diff.closure import Selection
from hotmend.diff.compare import Contents
from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding, blame
from hotmend.model.verdict import refusal


def judge_siblings(
    c: Correspondence, contents: Contents, selection: Selection, stays_old: frozenset[str]
) -> list[Finding]:
    """Return a refusal for new code that uses functions of other images which changed and stay old.

    Args:
        c: the correspondence.
        contents: with the objects of the new build, which know who refers to what.
        selection: the codes that go in.
        stays_old: names of such functions.
    """
    if not stays_old:
        return []
    slots = c.new.image.slots
    wanted = {a: slot.name for a, slot in slots.items() if slot.name in stays_old and not slot.symbol_defined}
    wanted |= {stub: wanted[slot] for stub, slot in c.new_plt.items() if slot in wanted}
    users: dict[str, set[int]] = {}
    for target, name in wanted.items():
        if found := contents.new.users(target, 1) & selection.shadow:
            users.setdefault(name, set()).update(found)
    if not users:
        return []
    sentence = "new code needs functions of another image of the update that changed and stay old"
    return [blame(refusal("needs-left-function", sentence, *sorted(users)[:20]), set().union(*users.values()))]
