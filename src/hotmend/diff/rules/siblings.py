"""What new code of one image needs from the other images of its update.

All images of an update are changed together. Where one of them is refused, or patched in part, its changed functions
stay old; new code of another image that calls such a function was built for the new one.
"""

from __future__ import annotations

from hotmend.diff.closure import Selection
from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding, blame
from hotmend.model.verdict import refusal


def judge_siblings(c: Correspondence, selection: Selection, stays_old: frozenset[str]) -> list[Finding]:
    """Return a refusal for new code that uses functions of other images which changed and stay old.

    Args:
        c: the correspondence.
        selection: the codes that go in.
        stays_old: names of such functions.
    """
    if not stays_old:
        return []
    slots = c.new.image.slots
    wanted = {a: slot.name for a, slot in slots.items() if slot.name in stays_old and not slot.symbol_defined}
    wanted |= {stub: wanted[slot] for stub, slot in c.new_plt.items() if slot in wanted}
    r = c.new.references
    users: dict[str, set[int]] = {}
    for owner, target in zip(r.owner.tolist(), r.target.tolist(), strict=True):
        if target in wanted and owner in selection.shadow:
            users.setdefault(wanted[target], set()).add(owner)
    if not users:
        return []
    sentence = "new code needs functions of another image of the update that changed and stay old"
    return [blame(refusal("needs-left-function", sentence, *sorted(users)[:20]), set().union(*users.values()))]
