"""Which CVE fixes a partial hotpatch holds, by the functions that the source package's patches touch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from hotmend.model.hotpatch import Outcome
from hotmend.model.verdict import Reason, note
from hotmend.publisher.patches import Patch


class FixState(StrEnum):
    """Whether a hotpatch holds a fix."""

    HELD = "held"
    PARTLY = "partly held"
    LEFT = "left for the baseline"
    UNKNOWN = "not known"


@dataclass(frozen=True, slots=True)
class Fix:
    """What becomes of one CVE.

    Attributes:
        cve: its id.
        state: whether the hotpatch holds it; known only where every function of the patches is known by name.
        held, left, unknown: names of the functions that its patches touch, by what is known of them.
    """

    cve: str
    state: FixState
    held: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def find_fixes(cves: tuple[str, ...], patches: tuple[Patch, ...], outcomes: Iterable[Outcome]) -> tuple[Fix, ...]:
    """Return what becomes of each CVE of an update.

    A fix is held only where every function that its patches touch is known by name and goes in. Stripped images know
    the names of exported functions alone, so that most fixes in others stay unknown without debug files.

    Args:
        cves: of the update.
        patches: of its source package.
        outcomes: of its images.
    """
    same: set[str] = set()
    held: set[str] = set()
    left: set[str] = set()
    for outcome in outcomes:
        if outcome.hotpatch is not None:
            held.update(function.name for function in outcome.hotpatch.functions)
        left.update(outcome.left)
        same.update(outcome.same_names)
    result = []
    for cve in cves:
        touched = set[str]().union(*(p.functions for p in patches if cve in p.cves))
        touched -= same - held - left  # the same code in both builds: whatever the patch says, nothing is missing
        parts = (touched & held - left, touched & left, touched - held - left)
        result.append(Fix(cve, _state(*parts), *(tuple(sorted(part)) for part in parts)))
    return tuple(result)


def fixes_not_held(fixes: tuple[Fix, ...]) -> tuple[Reason, ...]:
    """Return the note that lists what a partial hotpatch does not hold for certain."""
    missing = [f"{fix.cve}: {fix.state}" for fix in fixes if fix.state is not FixState.HELD]
    if not missing:
        return ()
    sentence = "the part does not hold these fixes, or it is not known that it does"
    return (note("fixes-not-held", sentence, *missing),)


def _state(held: set[str], left: set[str], unknown: set[str]) -> FixState:
    if left:
        return FixState.PARTLY if held else FixState.LEFT
    return FixState.HELD if held and not unknown else FixState.UNKNOWN
