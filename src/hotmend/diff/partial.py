"""The largest part of an update that can be applied when the whole cannot.

Functions that a refusal rests on stay old, and with them all that is bound to them: who calls a changed function
needs the new one, and who is called by a changed function that stays old may not become new. What is left are whole
groups (`groups`), each of them entirely new or entirely old.
"""

from __future__ import annotations

from collections import defaultdict

from hotmend.diff.align import Aligned
from hotmend.diff.attempt import Attempt, attempt
from hotmend.diff.compare import Contents
from hotmend.diff.correspond import Correspondence
from hotmend.diff.doubts import judge_doubts
from hotmend.diff.finding import Finding
from hotmend.diff.groups import group
from hotmend.diff.rules.changes import Changes
from hotmend.diff.rules.interface import judge_pointed

_ROUNDS_MAX = 200


def attempt_part(
    c: Correspondence,
    contents: Contents,
    aligned: Aligned,
    changes: Changes,
    full: Attempt,
    findings: list[Finding],
    stays_old: frozenset[str] = frozenset(),
) -> tuple[Attempt, list[Finding]] | None:
    """Find the largest part that nothing refuses.

    Args:
        c: the correspondence.
        contents: compared objects.
        aligned: bodies of changed functions.
        changes: what these do differently with lasting values.
        full: the attempt at everything.
        findings: what the rules found that look at all that changed.
        stays_old: names of functions of the update's other images that stay old.

    Returns:
        The part and the refusals that made functions stay old; None where nothing is left of the update.
    """
    groups = group(c, contents, aligned, changes, full.selection)
    members: dict[int, set[int]] = defaultdict(set)
    for j in full.selection.shadow:
        members[groups.root(j)].add(j)
    left: frozenset[int] = frozenset()
    causes = [f for f in findings if f.refuses] + judge_pointed(contents, aligned, full.selection.shadow)
    causes = causes + judge_doubts(contents, aligned, groups, full.selection.shadow, causes)
    refusals = causes
    for _ in range(_ROUNDS_MAX):
        if any(f.blamed is None for f in refusals):
            return None
        blamed = {groups.root(j) for f in refusals for j in f.blamed or () if j in full.selection.shadow}
        grown = left.union(*(members[root] for root in blamed))
        if grown == left and refusals is not causes:
            return None  # what leaving its functions old does not settle
        left = grown
        made = attempt(c, contents, aligned, left, stays_old)
        if not made.selection.shadow:
            return None
        refusals = [f for f in made.findings if f.refuses]
        if not refusals:
            return made, causes
        doubts = judge_doubts(contents, aligned, groups, made.selection.shadow, refusals)
        refusals = refusals + doubts
        causes = causes + refusals
    return None
