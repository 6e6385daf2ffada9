"""Whether values that live on mean something else to new code: renumbered states, moved flags and bit-fields.

A constant that is stored to, compared with or masked out of a lasting location says what its values mean. Where the
new build has other constants in their place, values that old code has left there are misread. A constant that comes
in addition says nothing of the kind, and one that is only stored, while nobody reads it otherwise, keeps its
meaning.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding, blame
from hotmend.diff.rules.changes import Change, Changes, Compared
from hotmend.image.facts import Fact, Location, Use
from hotmend.model.verdict import note, refusal

_READS = frozenset({Use.EQUAL, Use.MASK})
_CODED = frozenset({Use.FLIP, Use.SHIFT})
"""One function may compute something with them; two that do the same read an encoding."""

_WRITES = frozenset({Use.STORE, Use.SET_BITS, Use.CLEAR})
_BOUNDS = frozenset({Use.ORDER, Use.ADD, Use.MULTIPLY})
_RANGE = frozenset({Use.ADD, Use.ORDER})
"""How a compiler asks whether a value lies in a range: both numbers change where one end of it does."""

_REWRITTEN_MAX = 3
_SHOWN = 20


def judge_encoding(c: Correspondence, changes: Changes) -> list[Finding]:
    """Return a refusal for locations whose constants were replaced, and a note for single bounds and stored values."""
    by_location: dict[Location, list[Change]] = defaultdict(list)
    for change in changes:
        if change.use in _READS or change.use in _CODED or change.use in _WRITES or change.use in _BOUNDS:
            by_location[change.location].append(change)
    pairs = _replaced_in_reads(by_location)
    takers = _Takers(changes)
    readers = _readers(changes, takers)
    resized = {x.location: x for x in changes if x.use is Use.INTEGER}
    proven: list[Change] = []
    weak: list[Change] = []
    for location, found in sorted(by_location.items()):
        lasting = location[0] != "argument"
        repacked = location in resized and (
            len({x.code for x in found if x.aligned and x.use is Use.STORE}) > 1
            or any(_widened(x, resized[location]) for x in found)
        )
        arrives = any((x.old, x.new) in pairs and x.use is Use.STORE for x in found)
        arrives = arrives or any(_padding(x) and takers(location) - {x.code} for x in found)
        if lasting and (
            _proves(found, changes) or arrives or repacked or _read_elsewhere(found, readers.get(location, set()))
        ):
            proven += found
        elif not lasting:
            proven += _arriving(found, changes)
        else:
            weak += [x for x in found if x.aligned and x.use in (Use.STORE, Use.ORDER, Use.SET_BITS)]
    result = []
    if proven:
        reason = refusal(
            "state-encoding-changed",
            "values that live on mean something else to new code: constants, bits or shifts of one place changed",
            *[_text(c, x) for x in proven[:_SHOWN]],
        )
        result.append(blame(reason, {x.code for x in proven}))
    if weak:
        reason = note(
            "constant-changed",
            "one function stores another constant, or compares with another bound, than before",
            *[_text(c, x) for x in weak[:_SHOWN]],
        )
        result.append(blame(reason, {x.code for x in weak}))
    return result


def _arriving(found: list[Change], changes: Changes) -> list[Change]:
    """Return the changes of an argument that are proof: functions that stay read it from a lasting place."""
    result: list[Change] = []
    for code in sorted({x.code for x in found}):
        own = [x for x in found if x.code == code]
        if (
            any(x.use in _READS for x in own)
            and _proves(own, changes)
            and own[0].location in changes.loaded_arguments(code)
        ):
            result += own
    return result


def _proves(found: list[Change], changes: Changes) -> bool:
    """Return whether the changes at one location say that its values mean something else."""
    if any(x.use in _READS and (x.aligned or _alone(x, changes)) for x in found):
        return True
    coded = [x for x in found if x.use in _CODED and x.aligned]
    if len({x.code for x in coded}) > len({(x.use, x.old, x.new) for x in coded}):
        return True
    strong = any(x.aligned for x in found)
    uses = {x.use for x in found}
    several = len({x.code for x in found}) > 1
    if uses <= _RANGE and not several:
        return False
    return len(uses) > 1 and (strong or several) and not uses <= {Use.STORE, Use.SET_BITS}


def _widened(x: Change, read: Change) -> bool:
    """Return whether one function stores a value with more or fewer bytes, and another reads it with as many."""
    if not (x.aligned and x.use is Use.STORE and x.code != read.code and _single(read)):
        return False
    ones = (1 << 8 * min(read.old[0], read.new[0])) - 1
    return _single(x) and x.old[0] & ones == x.new[0] & ones


def _alone(x: Change, changes: Changes) -> bool:
    """Return whether one constant took the place of another and next to nothing else changed in the function."""
    return _single(x) and changes.rewritten(x.code) <= _REWRITTEN_MAX


def _padding(x: Change) -> bool:
    """Return whether another constant is stored whose low byte or half is the same: what lies above it has changed."""
    return x.aligned and x.use is Use.STORE and _single(x) and (x.old[0] ^ x.new[0]) & 0xFF == 0


def _single(x: Change) -> bool:
    """Return whether one number took the place of one."""
    return len(x.old) == len(x.new) == 1


class _Takers:
    """The changed functions to which callers that stay hand over what stands at a place; asked for when needed."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._found: dict[Location, dict[int, set[Location]]] | None = None

    def __call__(self, place: Location) -> set[int]:
        return set(self.arguments(place))

    def arguments(self, place: Location) -> dict[int, set[Location]]:
        """Return the functions with the arguments that come from a place."""
        if self._found is None:
            self._found = defaultdict(lambda: defaultdict(set))
            for function in self._changes.functions:
                for argument, places in self._changes.loaded_arguments(function.code).items():
                    for where in places:
                        self._found[where][function.code].add(argument)
        return self._found.get(place, {})


def _readers(changes: Changes, takers: _Takers) -> dict[Location, set[int]]:
    """Return the changed functions that ask the same of a location in another order: bits that changed places."""
    result: dict[Location, set[int]] = defaultdict(set)
    moved = {x.location for x in changes if x.use is Use.SET_BITS and x.aligned and _alone(x, changes) and _lost(x)}
    for function in changes.functions:
        before, after = _asked(function.before), _asked(function.after)
        for location in before.keys() | after.keys():
            was, asked = before.get(location, []), after.get(location, [])
            anew = location in moved and _loaded(function, location)
            if was != asked and (anew or sorted(was) == sorted(asked)):
                result[location].add(function.code)
    facts = {f.code: f for f in changes.functions}
    for place in moved:
        for code, arguments in takers.arguments(place).items():
            before, after = _asked(facts[code].before), _asked(facts[code].after)
            if any(before.get(a, []) != after.get(a, []) for a in arguments):
                result[place].add(code)
    return result


def _lost(x: Change) -> bool:
    """Return whether a bit that was set is not set any more."""
    return x.old[0] & ~x.new[0] != 0


def _loaded(function: Compared, location: Location) -> bool:
    """Return whether both builds of a function read a location, whatever they do with it then."""
    return all(function.numbers(location, Use.INTEGER, new=new) for new in (False, True))


def _asked(facts: Iterable[Fact]) -> dict[Location, list[tuple[Use, int]]]:
    result: dict[Location, list[tuple[Use, int]]] = defaultdict(list)
    for fact in facts:
        if fact.use in _READS or fact.use in _CODED:
            result[fact.location].append((fact.use, fact.number))
    return result


def _read_elsewhere(found: list[Change], readers: set[int]) -> bool:
    """Return whether another changed function reads what one stores differently; it may have learned the new values."""
    return any(x.aligned and x.use in (Use.STORE, Use.SET_BITS) and readers - {x.code} for x in found)


def _replaced_in_reads(by_location: dict[Location, list[Change]]) -> set[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return (old, new) constants of comparisons of what callers hand over: there a state may arrive."""
    return {
        (x.old, x.new)
        for location, found in by_location.items()
        if location[0] == "argument"
        for x in found
        if x.aligned and x.use in _READS
    }


def _text(c: Correspondence, x: Change) -> str:
    kind, where = x.location
    place = {"at": f"variable {where:#x}", "member": f"member at {where:#x}"}.get(kind, "an argument")
    old, new = (", ".join(f"{n:#x}" for n in numbers[:4]) for numbers in (x.old, x.new))
    return f"{c.new.codes[x.code].label} at {x.address:#x}: {place} {x.use} {old} -> {new}"
