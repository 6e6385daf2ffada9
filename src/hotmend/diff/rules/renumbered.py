"""Whether one function tells numbers anew that another one goes by, where they lie in memory in between.

A function that sorts things out returns the number of a kind, its callers keep it, and others ask for it later. Where a
kind is put in front, what tells the numbers and what asks for them both change, and neither has the lasting place and
the other constant in one instruction. What gives it away: numbers that were told are told no more, others are, and the
place where callers keep them is asked otherwise than before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hotmend.diff.align import Aligned
from hotmend.diff.compare import Contents
from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding, blame
from hotmend.diff.objects import Objects
from hotmend.diff.rules.changes import Changes
from hotmend.diff.rules.layout import body_is_leaf
from hotmend.image.body import Body
from hotmend.image.facts import Fact, Location, Use
from hotmend.image.moved import numbers_moved
from hotmend.image.results import what_is_returned
from hotmend.model.verdict import refusal

_ASKS = frozenset({Use.EQUAL, Use.ORDER, Use.MASK, Use.INDEX, Use.ADD, Use.SHIFT})
_MINUS_ONE = 0xFFFFFFFF
_KINDS_MIN = 3
"""Numbers below which what is returned may as well be yes or no."""

_SHOWN = 20
_WORD_SIZE = 8

_Asked = dict[Location, set[int]]
"""Place -> the new codes that ask it otherwise than before."""


@dataclass(frozen=True, slots=True)
class _Told:
    """A function that tells other numbers than before; `places` where they are kept, none where that is not known."""

    code: int
    what: str
    places: frozenset[Location]


def judge_renumbered(c: Correspondence, contents: Contents, aligned: Aligned, changes: Changes) -> list[Finding]:
    """Return a refusal for numbers that are told anew, kept, and asked for by code that changed.

    Args:
        c: the correspondence.
        contents: compared objects; a changed table is another answer to the numbers that it is indexed by.
        aligned: bodies of changed functions.
        changes: what these do differently with lasting values.
    """
    asked: _Asked | None = None
    asked_anew: _Asked = {}
    blamed: set[int] = set()
    shown: list[str] = []
    for told in _tellers(c, contents, aligned, changes):
        if asked is None:
            asked, asked_anew = _askers(contents, changes)
        places = {place: asked.get(place, set()) for place in told.places} if told.places else asked_anew
        found = {place: others for place, codes in places.items() if (others := codes - {told.code})}
        if found:
            blamed |= {told.code}.union(*found.values())
            shown.append(_text(c, told, found))
    if not blamed:
        return []
    reason = refusal(
        "state-encoding-changed",
        "values that live on mean something else to new code: what tells the numbers and what asks for them changed",
        *shown[:_SHOWN],
    )
    return [blame(reason, blamed)]


def _askers(contents: Contents, changes: Changes) -> tuple[_Asked, _Asked]:
    """Return the lasting places that changed functions ask, and those that they ask otherwise than before.

    Whoever looks a number up in a table that changed gets another answer.
    """
    asked: _Asked = defaultdict(set)
    anew: _Asked = defaultdict(set)
    for f in changes.functions:
        before, after = _asks(f.before), _asks(f.after)
        for place in before.keys() & after.keys():
            for lasting in _lasting(place, f.code, changes):
                asked[lasting].add(f.code)
                if before[place] != after[place]:
                    anew[lasting].add(f.code)
    for j in sorted(_users(contents, contents.changed)):
        for fact in changes.new_facts(j):
            for lasting in _lasting(fact.location, j, changes) if fact.use is Use.INDEX else ():
                asked[lasting].add(j)
                anew[lasting].add(j)
    return asked, anew


def _asks(facts: Iterable[Fact]) -> dict[Location, set[tuple[Use, int]]]:
    result: dict[Location, set[tuple[Use, int]]] = defaultdict(set)
    for fact in facts:
        if fact.use in _ASKS:
            result[fact.location].add((fact.use, fact.number))
    return result


def _lasting(place: Location, code: int, changes: Changes) -> Iterable[Location]:
    """Return where the value at a place lives: what callers load from memory to hand it over lives there."""
    return changes.loaded_arguments(code).get(place, ()) if place[0] == "argument" else (place,)


def _tellers(c: Correspondence, contents: Contents, aligned: Aligned, changes: Changes) -> Iterator[_Told]:
    """Yield the changed functions that tell other numbers, or the same ones for something else."""
    numbers = {y for y in contents.changed if not _holds_addresses(contents.new, y)}
    for i, j in sorted(c.pairs.items()):
        if not c.old.codes[i].gap:
            moved = numbers_moved(aligned.old(i), aligned.new(j))
            what = _moved_text(moved, moved.values()) if moved else _told_otherwise(aligned.old(i), aligned.new(j))
            places = frozenset(changes.results_kept(j) if what else ())
            if places or moved:
                yield _Told(j, what, places)
    for j in sorted(_users(contents, numbers)):
        tables = what_is_returned(aligned.new(j)).tables & numbers
        places = frozenset(changes.results_kept(j) if tables else ())
        if places:
            yield _Told(j, "what a table says", places)


def _holds_addresses(new: Objects, y: int) -> bool:
    """Return whether a table holds addresses at its start: who looks something up in it is told no number."""
    words = new.words_in(y, max(new.extent(y), _WORD_SIZE))
    return bool(words) and (y in words or not any(new.image.read(y, _WORD_SIZE)))


def _users(contents: Contents, objects: Iterable[int]) -> set[int]:
    new = contents.new
    users = set().union(*(new.users(y, max(new.extent(y), 1)) for y in objects))
    return {j for j in users if not new.survey.codes[j].gap}


def _told_otherwise(old: Body, new: Body) -> str:
    """Say how the constants differ that a function returns; nothing where they only differ by some that were added.

    Where it returns the same ones, after the same comparisons, and calls nothing, another one belongs to each case.
    """
    before, after = what_is_returned(old).constants, what_is_returned(new).constants
    if before - after and after - before:
        return _moved_text(before - after, after - before)
    several = len({*before, *after} - {_MINUS_ONE}) >= _KINDS_MIN
    same = before == after and old.compared == new.compared
    if several and same and body_is_leaf(old) and body_is_leaf(new):
        return "the same numbers for something else"
    return ""


def _moved_text(gone: Iterable[int], come: Iterable[int]) -> str:
    old, new = (", ".join(f"{n:#x}" for n in sorted(numbers)[:4]) for numbers in (gone, come))
    return f"{new} in the place of {old}"


def _text(c: Correspondence, told: _Told, found: dict[Location, set[int]]) -> str:
    (kind, where), codes = min(found.items())
    place = {"at": f"variable {where:#x}", "member": f"member at {where:#x}"}.get(kind, "an argument")
    return f"{c.new.codes[told.code].label}: tells {told.what}; {c.new.codes[min(codes)].label} asks {place}"
