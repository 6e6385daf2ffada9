"""How the two builds of a function differ in what they do with lasting values."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hotmend.diff.align import Aligned
from hotmend.diff.correspond import Correspondence
from hotmend.diff.rules.dealings import dealings_of, passes_of
from hotmend.image.body import Body, calls_by_instruction, tail_calls
from hotmend.image.facts import Fact, Literal, Location, Use
from hotmend.image.handed import registers_loaded
from hotmend.image.image import Image, Integers
from hotmend.image.reading import facts_of, returns_first_argument
from hotmend.image.references import Survey
from hotmend.image.results import results_kept

Key = tuple[Location, Use]
Numbers = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One use of one location whose numbers differ in the two builds of a function.

    Attributes:
        code: index of the new function.
        address: of an instruction of the new function that shows it, or its start.
        location, use: what is used, and how.
        old, new: numbers that only one of the builds has.
        aligned: the same instruction has another number; else the numbers come from code that was rewritten.
    """

    code: int
    address: int
    location: Location
    use: Use
    old: Numbers
    new: Numbers
    aligned: bool


@dataclass(frozen=True)
class Compared:
    """One changed function: its facts in both builds, what differs, and how many instructions are not the same."""

    code: int
    before: tuple[Fact, ...]
    after: tuple[Fact, ...]
    changes: tuple[Change, ...]
    rewritten: int

    def numbers(self, location: Location, use: Use, *, new: bool) -> set[int]:
        """Return the numbers of one use of one location in one build."""
        return (self._after if new else self._before).get((location, use), set())

    @cached_property
    def _before(self) -> dict[tuple[Location, Use], set[int]]:
        return _numbers_by_use(self.before)

    @cached_property
    def _after(self) -> dict[tuple[Location, Use], set[int]]:
        return _numbers_by_use(self.after)


def _numbers_by_use(facts: tuple[Fact, ...]) -> dict[tuple[Location, Use], set[int]]:
    result: dict[tuple[Location, Use], set[int]] = {}
    for fact in facts:
        result.setdefault((fact.location, fact.use), set()).add(fact.number)
    return result


class Changes:
    """What differs in all changed functions of a pair of images, worked out once."""

    def __init__(self, c: Correspondence, aligned: Aligned) -> None:
        self._c, self._aligned = c, aligned
        self._shared: dict[int, int | None] = {}
        self._hands_back: dict[tuple[str, int], bool] = {}
        self._stays_as = {j: i for i, j in c.staying().items()}
        self.functions: list[Compared] = [
            self._compare(i, j) for i, j in sorted(c.pairs.items()) if not c.old.codes[i].gap
        ]
        self._by_code = {f.code: f for f in self.functions}
        self._added: dict[int, list[Fact]] = {}
        """Facts of codes without an old version, as far as they were asked for."""
        self._old_of = c.origins()
        self._loaded: dict[int, dict[Location, set[Location]]] = {}

    def __iter__(self) -> Iterator[Change]:
        for function in self.functions:
            yield from function.changes

    def rewritten(self, code: int) -> int:
        """Return how many instructions of a changed function are not those of the old one."""
        return self._by_code[code].rewritten

    def begun(self, j: int) -> set[tuple[Location, Use, int]]:
        """Return what a new code does with lasting values that its old version did not do; all of it without one."""
        known = self._by_code.get(j)
        before = {(f.location, f.use, f.number) for f in known.before} if known else set()
        return {(f.location, f.use, f.number) for f in self._after_of(j)} - before

    def written(self, j: int) -> set[Location]:
        """Return the places that a new code writes."""
        return {f.location for f in self._after_of(j) if f.use is Use.WRITE}

    def before(self, j: int) -> Iterable[Fact]:
        """Return what the old version of a new code did with lasting values; nothing without one."""
        known = self._by_code.get(j)
        return known.before if known is not None else ()

    def removed(self, i: int) -> list[Fact]:
        """Return what an old code did that has no new version."""
        return self._old_facts(i)

    def _after_of(self, j: int) -> Iterable[Fact]:
        known = self._by_code.get(j)
        if known is not None:
            return known.after
        if j not in self._added:
            self._added[j] = self.new_facts(j)
        return self._added[j]

    def added(self) -> Iterator[tuple[int, Iterable[Fact]]]:
        """Yield each new code that has no old version, with its facts."""
        known = {*self._c.staying().values(), *self._c.pairs.values()}
        for j, code in enumerate(self._c.new.codes):
            if j not in known and not code.gap:
                yield j, self._after_of(j)

    def loaded_arguments(self, j: int) -> dict[Location, set[Location]]:
        """Return the arguments of a code that functions which stay read from memory for it, and where there.

        Compilers hand over the value instead of the pointer where a local function only reads it.
        """
        if j not in self._loaded:
            found: dict[Location, set[Location]] = defaultdict(set)
            i = self._old_of.get(j)
            start = self._c.old.codes[i].start if i is not None else -1
            for owner in self._staying_users(start):
                body = self._aligned.old(owner)
                for n, target in (calls_by_instruction(body) | tail_calls(body)).items():
                    if target == start:
                        for register, place in registers_loaded(body, n).items():
                            found["argument", register].add(place)
            self._loaded[j] = dict(found)
        return self._loaded[j]

    def results_kept(self, j: int) -> set[Location]:
        """Return the lasting places where callers put what a code returns, whether they changed or not."""
        c = self._c
        i = self._old_of.get(j)
        before = _entries(c.old, c.old_plt, c.old.codes[i].start) if i is not None else frozenset()
        after = _entries(c.new, c.new_plt, c.new.codes[j].start)
        result: set[Location] = set()
        for owner in sorted({owner for entry in before for owner in self._staying_users(entry)}):
            result |= results_kept(self._aligned.old(owner), before)
        for function in self.functions:
            for kind, where in results_kept(self._aligned.new(function.code), after):
                shared = self._locate(where) if kind == "at" else where
                if shared is not None:
                    result.add((kind, shared))
        return result

    def _staying_users(self, start: int) -> list[int]:
        """Return the old codes that stay and refer to an old address."""
        targets, owners = self._by_target
        low, high = (int(np.searchsorted(targets, start, side)) for side in ("left", "right"))
        return sorted(set(owners[low:high].tolist()) & self._staying)

    @cached_property
    def _by_target(self) -> tuple[Integers, Integers]:
        """The references of the old build as arrays: targets, ascending, and the codes that they stand in."""
        references = self._c.old.references
        order = np.argsort(references.target, kind="stable")
        return references.target[order], references.owner[order].astype(np.int64)

    @cached_property
    def _staying(self) -> set[int]:
        return set(self._c.staying())

    def new_facts(self, j: int) -> list[Fact]:
        """Return the facts of any new code, in addresses of the old image."""
        new, body = self._c.new, self._aligned.new(j)
        constants = _constants(new.image, self._locate)
        dealing = dealings_of(new, self._c.new_plt, body)
        passes = passes_of(new, self._c.new_plt, body, self._new_hands_back)
        return facts_of(body, self._locate, constants, _literals(new.image), dealing, passes)

    def _old_facts(self, i: int) -> list[Fact]:
        old, body = self._c.old, self._aligned.old(i)
        dealing = dealings_of(old, self._c.old_plt, body)
        passes = passes_of(old, self._c.old_plt, body, self._old_hands_back)
        return facts_of(body, _itself, _itself, _literals(old.image), dealing, passes)

    def _old_hands_back(self, i: int) -> bool:
        """Return whether an old code returns what it is handed first."""
        return self._known_to_hand_back(("old", i), self._aligned.old)

    def _new_hands_back(self, j: int) -> bool:
        """The same of a new code: one that stays does what the old one does."""
        i = self._stays_as.get(j)
        return self._old_hands_back(i) if i is not None else self._known_to_hand_back(("new", j), self._aligned.new)

    def _known_to_hand_back(self, key: tuple[str, int], body_of: Callable[[int], Body]) -> bool:
        if key not in self._hands_back:
            self._hands_back[key] = returns_first_argument(body_of(key[1]))
        return self._hands_back[key]

    def _compare(self, i: int, j: int) -> Compared:
        old = self._old_facts(i)
        new = self.new_facts(j)
        before = Counter((f.location, f.use, f.number) for f in old)
        after = Counter((f.location, f.use, f.number) for f in new)
        changes: list[Change] = []
        if before != after:
            changes = list(self._changes(i, j, (old, new), (before - after, after - before)))
        longer = max(len(self._aligned.old(i).instructions), len(self._aligned.new(j).instructions))
        return Compared(j, tuple(old), tuple(new), tuple(changes), longer - len(self._aligned.pairs(i, j)))

    def _changes(
        self,
        i: int,
        j: int,
        facts: tuple[list[Fact], list[Fact]],
        only: tuple[Counter[tuple[Location, Use, int]], Counter[tuple[Location, Use, int]]],
    ) -> Iterator[Change]:
        body = self._aligned.new(j)
        gone, come = only
        at_old, at_new = _by_instruction(facts[0]), _by_instruction(facts[1])
        settled: set[Key] = set()
        for m, n in self._aligned.pairs(i, j):
            for x in at_old.get(m, ()):
                for y in at_new.get(n, ()):
                    if (x.location, x.use) != (y.location, y.use) or x.number == y.number:
                        continue
                    if gone[x.location, x.use, x.number] > 0 and come[y.location, y.use, y.number] > 0:
                        settled.add((x.location, x.use))
                        where = body.instructions[n].ip
                        yield Change(j, where, x.location, x.use, (x.number,), (y.number,), aligned=True)
        lost, gained = _grouped(gone), _grouped(come)
        for key in sorted(lost.keys() & gained.keys() - settled):
            where = next((body.instructions[f.at].ip for f in facts[1] if (f.location, f.use) == key), body.code.start)
            yield Change(j, where, *key, lost[key], gained[key], aligned=False)

    def _locate(self, address: int) -> int | None:
        if address not in self._shared:
            mapped = self._c.to_old.get(address) or self._c.neighbours(address)
            self._shared[address] = mapped.old if mapped is not None else None
        return self._shared[address]


def _entries(survey: Survey, plt: dict[int, int], start: int) -> frozenset[int]:
    """Return the addresses by which a function is called: its start, and the PLT stubs of its exported names."""
    image = survey.image
    names = {name for (name, _), symbol in image.exports.items() if symbol.value == start}
    # A slot that no symbol fills (a resolver does) is not how an exported name is called.
    filled = ((stub, image.slots.get(slot)) for stub, slot in plt.items()) if names else ()
    return frozenset({start, *(stub for stub, slot in filled if slot is not None and slot.name in names)})


def _itself(address: int) -> int:
    return address


def _constants(image: Image, locate: Callable[[int], int | None]) -> Callable[[int], int | None]:
    """Numbers of an image with fixed addresses may be addresses, which differ in every build."""
    if not image.fixed:
        return _itself
    return lambda number: number if image.section_at(number) is None else locate(number)


def _literals(image: Image) -> Literal:
    """Read-only bytes that no relocation changes."""

    def literal(address: int, size: int) -> int | None:
        section = image.section_at(address)
        if section is None or not section.name.startswith(".rodata"):
            return None
        return int.from_bytes(image.read(address, size), "little")

    return literal


def _by_instruction(facts: list[Fact]) -> dict[int, list[Fact]]:
    result: dict[int, list[Fact]] = defaultdict(list)
    for fact in facts:
        result[fact.at].append(fact)
    return result


def _grouped(counter: Counter[tuple[Location, Use, int]]) -> dict[Key, Numbers]:
    result: dict[Key, list[int]] = defaultdict(list)
    for (location, use, number), count in counter.items():
        if count > 0:
            result[location, use].append(number)
    return {key: tuple(sorted(numbers)) for key, numbers in result.items()}
