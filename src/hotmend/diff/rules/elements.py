"""Whether what stands at a place has another size or another kind, although the place stays the same.

An array of ints that becomes one of longs begins where it began; a pointer that becomes an index, or an integer that
becomes a floating-point number, does not move at all. Widths, strides and uses of one location show it. One sign in
one rewritten function may mean another structure; a sign that comes twice, or with its counterpart, does not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding, blame
from hotmend.diff.rules.changes import Change, Changes, Compared
from hotmend.image.facts import Location, Use
from hotmend.model.verdict import note, refusal

_WIDTHS = (Use.INTEGER, Use.WRITE, Use.FLOAT)
_STEPS = (Use.STRIDE, Use.ADD, Use.MULTIPLY, Use.INDEX)
_REWRITTEN_MAX = 3
"""Instructions that differ up to which a function counts as the same but for what was found."""

_POINTER_BYTES = 8
_PAGE_BYTES = 4096
"""No object lies below: a smaller number is no address."""

_STEP_MAX = 1 << 20
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class _Sign:
    """One sign: what changed where, and `same` for signs that support each other; `sure` ones stand alone."""

    code: int
    location: Location
    what: str
    same: tuple[object, ...]
    sure: bool
    numbers: tuple[int, int] | None = None
    """The old and the new step, for steps."""

    beside: bool = False
    """It supports others and is nothing by itself, however often it comes."""


def judge_elements(c: Correspondence, changes: Changes) -> list[Finding]:
    """Return a refusal for places whose values got another size or kind, and a note for single signs."""
    signs = [sign for function in changes.functions for sign in _signs(function)]
    holders: dict[tuple[object, ...], set[int]] = defaultdict(set)
    for sign in signs:
        holders[sign.same].add(sign.code)
    beside = holders.keys() - {sign.same for sign in signs if not sign.beside}
    steps: dict[tuple[int, int], set[int]] = defaultdict(set)
    for x in changes:
        if x.use in _STEPS and len(x.old) == len(x.new) == 1:
            steps[x.old[0], x.new[0]].add(x.code)
    signs += _numbers_for_pointers(changes)
    proven = [s for s in signs if s.sure or (len(holders[s.same]) > 1 and s.same not in beside) or _supported(s, steps)]
    result = []
    if proven:
        reason = refusal(
            "element-changed",
            "what stands at one place has another size or kind in new code; what exists has the old one",
            *[_text(c, s) for s in proven[:_SHOWN]],
        )
        result.append(blame(reason, {s.code for s in proven}))
    single = [s for s in signs if s not in proven and s.numbers]
    if single:
        reason = note(
            "stride-changed",
            "one function goes through memory in other steps than before: another array, or larger elements",
            *[_text(c, s) for s in single[:_SHOWN]],
        )
        result.append(blame(reason, {s.code for s in single}))
    return result


def _numbers_for_pointers(changes: Changes) -> list[_Sign]:
    """Return signs of places where one function stores a number now, and another does not follow a pointer any more."""
    stores, follows = defaultdict(set), defaultdict(set)
    for f in changes.functions:
        for place in {x.location for x in (*f.before, *f.after) if x.location[0] != "argument"}:
            numbers = f.numbers(place, Use.STORE, new=True)
            words = all(_POINTER_BYTES in f.numbers(place, Use.WRITE, new=new) for new in (False, True))
            if words and not f.numbers(place, Use.STORE, new=False) and any(0 < n < _PAGE_BYTES for n in numbers):
                stores[place].add(f.code)
            loads = all(_POINTER_BYTES in f.numbers(place, Use.INTEGER, new=new) for new in (False, True))
            if loads and f.numbers(place, Use.POINTER, new=False) and not f.numbers(place, Use.POINTER, new=True):
                follows[place].add(f.code)
    return [
        _Sign(code, place, "pointer -> number", ("number", place), sure=True)
        for place in sorted(stores.keys() & follows.keys())
        if len(stores[place] | follows[place]) > 1
        for code in sorted(stores[place] | follows[place])
    ]


def _supported(sign: _Sign, steps: dict[tuple[int, int], set[int]]) -> bool:
    """Return whether another function multiplies or advances by the same new step."""
    return sign.numbers is not None and bool(steps.get(sign.numbers, set()) - {sign.code})


def _signs(f: Compared) -> Iterator[_Sign]:
    small = f.rewritten <= _REWRITTEN_MAX
    found = {(x.location, x.use): x for x in f.changes}
    places = {fact.location for fact in (*f.before, *f.after) if fact.location[0] != "argument"}
    for x in f.changes:
        if x.use is Use.STRIDE and len(x.old) == len(x.new) == 1 and min(x.old[0], x.new[0]) > 1:
            yield _steps(f, x, sure=small or _sized(found, x))
        elif (x.use is Use.STRIDE and 1 in (*x.old, *x.new) and _sized(found, x)) or (
            x.use is Use.ADD and x.aligned and _cursor(f, x)
        ):
            yield _steps(f, x, sure=True)
        elif x.use is Use.ADD and (_cursor(f, x) or (x.aligned and small and _pointer_steps(f, x))):
            yield _steps(f, x, sure=False)
    for place in sorted(places):
        before = {u: f.numbers(place, u, new=False) for u in Use}
        after = {u: f.numbers(place, u, new=True) for u in Use}
        yield from _kinds(f, place, before, after, small=small)


def _kinds(
    f: Compared, place: Location, before: dict[Use, set[int]], after: dict[Use, set[int]], *, small: bool
) -> Iterator[_Sign]:
    whole_before = before[Use.INTEGER] | before[Use.WRITE]
    whole_after = after[Use.INTEGER] | after[Use.WRITE]
    for a, b, floats_a, floats_b in (
        (whole_before, whole_after, before[Use.FLOAT], after[Use.FLOAT]),
        (whole_after, whole_before, after[Use.FLOAT], before[Use.FLOAT]),
    ):
        if a and floats_b and not b and not floats_a:
            yield _Sign(f.code, place, "integer <-> floating point", ("float", place), small)
    if before[Use.POINTER] and after[Use.INDEX] and not before[Use.INDEX] and not after[Use.POINTER]:
        yield _Sign(f.code, place, "pointer -> index", ("index", place), sure=True)
    if after[Use.POINTER] and before[Use.INDEX] and not after[Use.INDEX] and not before[Use.POINTER]:
        yield _Sign(f.code, place, "index -> pointer", ("index", place), sure=True)
    if after[Use.POINTER] and not before[Use.POINTER] and 8 in before[Use.INTEGER] and small:
        yield _Sign(f.code, place, "value -> pointer", ("pointer", place), sure=True)
    if len(whole_before) == len(whole_after) == 1 and whole_before != whole_after:
        (old,), (new,) = whole_before, whole_after
        if max(old, new) <= 8:
            yield _Sign(f.code, place, f"{old} bytes -> {new} bytes", ("width", place, old, new), sure=False)
    for more, fewer, gone in ((whole_before, whole_after, True), (whole_after, whole_before, False)):
        if small and len(more) == 2 and len(fewer) == 1 and fewer < more and max(more) <= 8:
            (one,), (both,) = more - fewer, fewer
            old, new = (one, both) if gone else (both, one)
            what = f"{old} bytes -> {new} bytes"
            yield _Sign(f.code, place, what, ("width", place, old, new), sure=False, beside=True)


def _widths(found: dict[tuple[Location, Use], Change], place: Location) -> Iterator[Change]:
    for use in _WIDTHS:
        x = found.get((place, use))
        if x is not None and len(x.old) == len(x.new) == 1:
            yield x


def _cursor(f: Compared, x: Change) -> bool:
    """Return whether a pointer that is kept moves on by whole words of another number, as behind a new element."""
    return _pointer_steps(f, x) and all(_written(f, x.location, new=new) for new in (False, True))


def _pointer_steps(f: Compared, x: Change) -> bool:
    """Return whether a pointer moves on by whole words of another number: over one element, or over a header."""
    pointer = all(f.numbers(x.location, Use.POINTER, new=new) for new in (False, True))
    return pointer and all(0 < n[0] < _STEP_MAX and n[0] % 4 == 0 and _both_ways(n) for n in (x.old, x.new))


def _both_ways(numbers: tuple[int, ...]) -> bool:
    """Return whether there is one number, or one and its negative: forward, and back to the last element."""
    return len(numbers) == 1 or (len(numbers) == 2 and (numbers[0] + numbers[1]) % (1 << 8 * _POINTER_BYTES) == 0)


def _written(f: Compared, place: Location, *, new: bool) -> bool:
    return 8 in f.numbers(place, Use.WRITE, new=new)


def _sized(found: dict[tuple[Location, Use], Change], x: Change) -> bool:
    """Return whether the bytes accessed at the same place grew with the step."""
    return any(_ratio(x.old, x.new) == _ratio(w.old, w.new) for w in _widths(found, x.location))


def _steps(f: Compared, x: Change, *, sure: bool) -> _Sign:
    numbers = (x.old[0], x.new[0])
    return _Sign(f.code, x.location, f"steps {numbers[0]} -> {numbers[1]}", ("steps", *numbers), sure, numbers)


def _ratio(old: tuple[int, ...], new: tuple[int, ...]) -> float:
    return new[0] / old[0]


def _text(c: Correspondence, s: _Sign) -> str:
    kind, where = s.location
    place = {"at": f"variable {where:#x}", "member": f"member at {where:#x}"}.get(kind, "an argument")
    return f"{c.new.codes[s.code].label}: {place}, {s.what}"
