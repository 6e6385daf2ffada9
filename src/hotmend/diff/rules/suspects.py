"""Which changed functions may use what moved in a structure, although nothing shows it.

A rule that sees a structure change sees it in some functions. Others may use the same members in code that was
rewritten, so that no instruction of theirs can be laid beside an old one. For leaving functions old, whoever newly
uses a member at or above the place of the change is suspected.
"""

from __future__ import annotations

from collections import Counter

from hotmend.diff.align import Aligned
from hotmend.diff.correspond import Correspondence
from hotmend.image.body import Body


def users_of_members_above(c: Correspondence, aligned: Aligned, lowest: int) -> set[int]:
    """Return the changed and added new codes that use a member at `lowest` bytes or above more often than before."""
    origin = {j: i for i, j in c.pairs.items()}
    unchanged = set(c.staying().values())
    result = set()
    for j, code in enumerate(c.new.codes):
        if j in unchanged or code.gap:
            continue
        after = _members(aligned.new(j), lowest)
        if after and (j not in origin or after - _members(aligned.old(origin[j]), lowest)):
            result.add(j)
    return result


def _members(body: Body, lowest: int) -> Counter[tuple[int, int]]:
    """Return how often a function uses which (displacement, bytes accessed) from `lowest` on, off any pointer."""
    return Counter((m.displacement, m.access) for m in body.members.values() if m.displacement >= lowest)
