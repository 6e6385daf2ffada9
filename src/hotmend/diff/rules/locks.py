"""Whether locks are taken and given back in other functions than before.

A function that returns with a lock held leaves no trace on the stack: neither it nor who gives the lock back is active
at the switch. Another place, another kind, or a function that newly keeps the lock breaks that contract; more locking
within one function does not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding, blame
from hotmend.diff.rules.calls import Called, by_name, calls_of_changed
from hotmend.diff.rules.dealings import LOCKS, Kind
from hotmend.model.verdict import refusal

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class _Balance:
    """What changed in one function for one kind: names of takes and gives, gained and lost."""

    code: int
    kind: Kind
    takes_gained: frozenset[str]
    takes_lost: frozenset[str]
    gives_gained: frozenset[str]
    gives_lost: frozenset[str]
    gives_left: bool
    """The new build still gives back something of this kind."""


def _balances(found: Iterable[Called], kinds: tuple[Kind, ...]) -> Iterator[_Balance]:
    for called in found:
        gained, lost = called.gained, called.lost
        if not gained and not lost:
            continue
        for kind in kinds:
            balance = _Balance(
                called.code,
                kind,
                _matching(gained, kind.takes),
                _matching(lost, kind.takes),
                _matching(gained, kind.gives),
                _matching(lost, kind.gives),
                bool(_matching(called.new, kind.gives)),
            )
            if balance.takes_gained or balance.takes_lost or balance.gives_gained or balance.gives_lost:
                yield balance


def _matching(calls: Counter[str], pattern: re.Pattern[str]) -> frozenset[str]:
    return frozenset(name for name in calls if pattern.search(name))


def judge_locks(c: Correspondence) -> list[Finding]:
    """Return a refusal for locks whose taking or giving back moved."""
    found = calls_of_changed(c)
    blamed: dict[int, set[str]] = {}
    balances = list(_balances(found, LOCKS))
    for code, why in (*_moved(found, LOCKS), *_held(balances), *_swapped(balances)):
        blamed.setdefault(code, set()).add(why)
    if not blamed:
        return []
    reason = refusal(
        "locking-changed",
        "a lock is taken or given back in another function than before; one that is held at the switch would be lost",
        *[f"{c.new.codes[j].label}: {', '.join(sorted(why)[:4])}" for j, why in sorted(blamed.items())[:_SHOWN]],
    )
    return [blame(reason, blamed)]


def _moved(found: list[Called], kinds: tuple[Kind, ...]) -> Iterator[tuple[int, str]]:
    """A call that one function lost and another gained."""
    lost = by_name(found, gained=False)
    for name, gainers in by_name(found, gained=True).items():
        if not any(k.takes.search(name) or k.gives.search(name) for k in kinds):
            continue
        losers = lost.get(name, set())
        for code in gainers - losers if losers - gainers else ():
            yield code, f"now calls {name}"
        for code in losers - gainers if gainers - losers else ():
            yield code, f"no longer calls {name}"


def _swapped(balances: list[_Balance]) -> Iterator[tuple[int, str]]:
    """One kind of thing is taken, or given back, where another kind was."""
    for b in balances:
        for other in balances:
            if other.code != b.code or other.kind is b.kind:
                continue
            if (b.takes_lost and other.takes_gained) or (b.gives_lost and other.gives_gained):
                yield b.code, f"{other.kind.name} in place of {b.kind.name}"


def _held(balances: list[_Balance]) -> Iterator[tuple[int, str]]:
    """A function returns with a lock that it takes, and did not before."""
    for b in balances:
        if b.takes_gained and not b.takes_lost and not b.gives_left:
            yield b.code, f"takes {', '.join(sorted(b.takes_gained))} and does not give it back"
        if b.gives_lost and not b.takes_lost and not b.gives_left:
            yield b.code, f"no longer calls {', '.join(sorted(b.gives_lost))}"
