"""Who takes and who gives back what is kept at one place: memory, files, mappings.

Whoever stores what an allocator returned, and whoever frees what stands there, have a contract about objects that live
on. Where new code stores there what it must not free, frees what was never taken, or leaves the freeing to
another function, an object from before the switch is given back twice, never, or by the wrong function. A function that
only frees more than before mends a leak.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding, blame
from hotmend.diff.rules.calls import Called, calls_of_changed
from hotmend.diff.rules.changes import Changes
from hotmend.diff.rules.dealings import RESOURCES
from hotmend.image.facts import Location, Use
from hotmend.model.verdict import refusal

_SHOWN = 20


@dataclass(slots=True)
class _Place:
    """Which functions deal with one place: kind -> codes that gained or lost a take or a give there."""

    takes_gained: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    takes_lost: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    gives_gained: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    gives_lost: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))


def judge_ownership(c: Correspondence, changes: Changes) -> list[Finding]:
    """Return a refusal for places whose owner changed."""
    places: dict[Location, _Place] = defaultdict(_Place)
    for function in changes.functions:
        for use, gained, lost in (
            (Use.TAKEN, "takes_gained", "takes_lost"),
            (Use.GIVEN, "gives_gained", "gives_lost"),
        ):
            before = {(f.location, f.number) for f in function.before if f.use is use}
            after = {(f.location, f.number) for f in function.after if f.use is use}
            for which, only in ((gained, after - before), (lost, before - after)):
                for location, kind in only:
                    getattr(places[location], which)[kind].add(function.code)
    found: list[str] = []
    blamed: set[int] = set()
    for location, place in sorted(places.items()):
        for codes, why in _broken(place):
            names = ", ".join(c.new.codes[j].label for j in sorted(codes)[:4])
            what = "variable" if location[0] == "at" else "member at"
            found.append(f"{what} {location[1]:#x}: {why} ({names})")
            blamed |= codes
    for codes, why in _swapped(calls_of_changed(c)):
        found.append(f"{why} ({', '.join(c.new.codes[j].label for j in sorted(codes)[:4])})")
        blamed |= codes
    if not found:
        return []
    reason = refusal(
        "ownership-changed",
        "who allocates or opens and who frees or closes what is kept at a place changed; what exists has the old owner",
        *found[:_SHOWN],
    )
    return [blame(reason, blamed)]


def _swapped(found: list[Called]) -> Iterator[tuple[set[int], str]]:
    """Return functions of which some take another kind of thing, and others give back that kind."""
    for kind in RESOURCES:
        for other in RESOURCES:
            if other is kind:
                continue
            takers = {x.code for x in found if _any(x.lost, kind.takes) and _any(x.gained, other.takes)}
            givers = {x.code for x in found if _any(x.lost, kind.gives) and _any(x.gained, other.gives)}
            if takers and givers:
                yield takers | givers, f"{other.name} in place of {kind.name}"


def _any(calls: Iterable[str], pattern: re.Pattern[str]) -> bool:
    return any(pattern.search(name) for name in calls)


def _broken(place: _Place) -> Iterator[tuple[set[int], str]]:
    """Return (codes, why) for each contract about one place that changed."""
    for number, kind in enumerate(RESOURCES):
        taken, given = place.takes_gained[number], place.gives_gained[number]
        kept, left = place.takes_lost[number], place.gives_lost[number]
        if taken and given and (taken | given) - (taken & given):
            yield taken | given, f"{kind.name} is owned now"
        if kept and left and (kept | left) - (kept & left):
            yield kept | left, f"{kind.name} is no longer owned"
        if given - left and left - given:
            yield given | left, f"{kind.name} is given back elsewhere"
        others = set().union(*(codes for other, codes in place.takes_gained.items() if other != number))
        if kept & others:
            yield kept & others, f"another kind of thing in place of {kind.name}"
