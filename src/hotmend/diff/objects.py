"""Objects of data: where they begin and end, as far as a stripped image tells, and whether they changed.

An object begins where something refers to. How far it reaches depends on its kind: a string to its NUL, a
jump table as long as its entries lead into its function, an operand as many bytes as are accessed, anything
else to the next address that is taken.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from functools import cached_property

import numpy as np

from hotmend.image.body import Body
from hotmend.image.image import STT_OBJECT, Image, Integers
from hotmend.image.references import ABSOLUTE, DATA, LEA, Survey
from hotmend.image.ways import follows_distances

_STRING_MAX = 1 << 16
_TABLE_ENTRIES_MIN = 2
SHORT_TEXT = 4
"""Bytes, NUL included, up to which a text may as well be a small number."""

_TEXT = bytes([*range(0x20, 0x7F), 9, 10, 13, 27, *range(0x80, 0x100)])


class Objects:
    """The data objects of one image."""

    def __init__(self, survey: Survey) -> None:
        self.survey = survey
        self.image: Image = survey.image
        r = survey.references
        taken = np.isin(r.kind, (LEA, ABSOLUTE)) & (r.access == 0)
        pointers = np.array(list(self.image.pointers.values()), np.int64)
        named = [s for s in self.image.symbols if s.defined and s.kind == STT_OBJECT]
        exported = np.array([a for s in named for a in (s.value, s.value + s.size)], np.int64)
        self.taken: list[int] = np.unique(np.concatenate([r.target[taken], pointers, exported])).tolist()
        """Addresses that are taken somewhere: by code, by a pointer or by a symbol, ascending."""
        self._taken_set = set(self.taken)
        direct = (r.kind == DATA) | ((r.kind == ABSOLUTE) & (r.access > 0))
        targets, inverse = np.unique(r.target[direct], return_inverse=True)
        widest = np.zeros(len(targets), np.int64)
        np.maximum.at(widest, inverse.reshape(-1), r.access[direct])
        self._access: dict[int, int] = dict(zip(targets.tolist(), widest.tolist(), strict=True))
        self._extents: dict[int, int] = {}
        self._jump_tables: dict[int, list[int]] = {}
        self._text_tables: dict[int, list[int]] = {}
        self._distance_tables: dict[int, list[int]] = {}
        self.bounds: list[int] = np.unique(np.concatenate([np.array(self.taken, np.int64), r.target[direct]])).tolist()
        """Addresses that are referred to in any way, ascending."""

    @cached_property
    def _by_target(self) -> tuple[Integers, Integers, Integers]:
        r = self.survey.references
        order = np.argsort(r.target, kind="stable")
        return r.target[order], r.owner[order].astype(np.int64), r.kind[order].astype(np.int64)

    @cached_property
    def _words_by_target(self) -> tuple[list[int], list[int]]:
        pairs = sorted((target, word) for word, target in self.image.pointers.items())
        return [p[0] for p in pairs], [p[1] for p in pairs]

    @cached_property
    def words(self) -> list[int]:
        """Addresses of all words that the dynamic linker changes, ascending."""
        return sorted({*self.image.pointers, *self.image.slots})

    def users(self, address: int, size: int) -> set[int]:
        """Return the codes that refer into `[address, address + size)`."""
        targets, owners, _ = self._by_target
        low, high = targets.searchsorted(address), targets.searchsorted(address + max(size, 0))
        return set(owners[low:high].tolist())

    def targets_between(self, low: int, high: int) -> set[int]:
        """Return the addresses in `[low, high)` that code refers to."""
        targets = self._by_target[0]
        return set(targets[targets.searchsorted(low) : targets.searchsorted(high)].tolist())

    def references_to(self, address: int) -> list[tuple[int, int]]:
        """Return (code, kind) of each reference to exactly `address`."""
        targets, owners, kinds = self._by_target
        low, high = targets.searchsorted(address), targets.searchsorted(address + 1)
        return list(zip(owners[low:high].tolist(), kinds[low:high].tolist(), strict=True))

    def words_to(self, address: int, size: int) -> list[int]:
        """Return the words of data that point into `[address, address + size)`."""
        targets, words = self._words_by_target
        low, high = bisect_right(targets, address - 1), bisect_right(targets, address + max(size, 1) - 1)
        return words[low:high]

    def words_in(self, address: int, size: int) -> list[int]:
        """Return the words that the dynamic linker changes in a range."""
        return self.words[bisect_right(self.words, address - 1) : bisect_right(self.words, address + size - 1)]

    def container(self, word: int) -> int:
        """Return the start of the object that holds a word: the last address taken at or before it."""
        section = self.image.section_at(word)
        i = bisect_right(self.bounds, word) - 1
        start = self.bounds[i] if i >= 0 else word
        return max(start, section.address) if section else start

    def is_taken(self, address: int) -> bool:
        """Return whether the address itself is known to be passed around."""
        return address in self._taken_set

    def taken_before(self, address: int) -> int | None:
        """Return the last address taken before `address`."""
        i = bisect_left(self.taken, address) - 1
        return self.taken[i] if i >= 0 else None

    def bounds_between(self, low: int, high: int) -> list[int]:
        """Return the addresses referred to in `[low, high)`."""
        return self.bounds[bisect_left(self.bounds, low) : bisect_left(self.bounds, high)]

    def operands_in(self, address: int, size: int) -> list[tuple[int, int]]:
        """Return (start, bytes) of what is only ever accessed directly in a range, never taken."""
        bounds = self.bounds_between(address, address + max(size, 0))
        return [(b, self._access[b]) for b in bounds if b in self._access and b not in self._taken_set]

    def room_to_bound(self, address: int) -> int:
        """Return how many bytes from `address` on nothing refers to; 0 where something begins right there."""
        i = bisect_left(self.bounds, address)
        section = self.image.section_at(address)
        end = section.address + section.size if section else address
        return max(0, min(self.bounds[i], end) - address) if i < len(self.bounds) else end - address

    def extent(self, address: int) -> int:
        """Return how many bytes the object at `address` has at most, up to the next one."""
        known = self._extents.get(address)
        if known is None:
            known = self._extents[address] = self._extent(address)
        return known

    def _extent(self, address: int) -> int:
        section = self.image.section_at(address)
        if section is None:
            return 0
        end = section.address + section.size
        if not self.is_taken(address):
            access = self._access.get(address, 0)
            if access:
                return min(access, end - address)
        i = bisect_right(self.taken, address)
        if i < len(self.taken):
            end = min(end, self.taken[i])
        return int(end - address)

    def string(self, address: int) -> bytes | None:
        """Return the text at `address` with its NUL if it looks like a string, else None."""
        section = self.image.section_at(address)
        if section is None or section.kind == "SHT_NOBITS":
            return None
        room = min(_STRING_MAX, section.address + section.size - address)
        memory, at = self.image.memory, address - self.image.extent.start
        end = memory.find(b"\0", at, at + room)
        if end <= at or memory[at:end].translate(None, _TEXT):
            return None
        return memory[at : end + 1]

    def has_no_values(self, address: int) -> bool:
        """Return whether what begins there is surely a text, or a table of jumps or of texts."""
        text = self.string(address)
        surely = text is not None and len(text) > SHORT_TEXT
        return surely or bool(self.jump_table(address) or self.text_table(address))

    def only_texts(self, address: int, size: int) -> bool:
        """Return whether a range looks like texts one behind the other, and not like a table of small numbers."""
        raw = self.image.read(address, size)
        words = np.frombuffer(raw[: size // 4 * 4], "<u4")
        numbers = address % 4 == 0 and len(words) > 1 and bool((words < 1 << 8).all())
        return not numbers and not raw.translate(None, _TEXT + b"\0")

    def jump_table(self, address: int) -> list[int]:
        """Return the code addresses that a table of 4-byte distances at `address` leads to, or an empty list.

        One entry must lead into a function that takes the table's address; the table ends where an entry does not lead
        into code any more or the next object begins.
        """
        known = self._jump_tables.get(address)
        if known is None:
            known = self._jump_tables[address] = self._jump_table(address)
        return [*known]

    def _jump_table(self, address: int) -> list[int]:
        section = self.image.section_at(address)
        if section is None or section.flags & 4 or address % 4 or not self.is_taken(address):
            return []
        size = self.extent(address) // 4
        first = self.image.read(address, 4)
        if not size or len(first) < 4 or self.survey.holder(address + int.from_bytes(first, "little", signed=True)) < 0:
            return []
        entries = np.frombuffer(self.image.read(address, size * 4), "<i4").astype(np.int64) + address
        holders = self.survey.holders(entries)
        # Cold parts are functions of their own: an entry may lead into any code, but not into data.
        good = int(np.argmin(holders >= 0)) if (holders < 0).any() else len(entries)
        if self.users(address, 1).isdisjoint(holders[:good].tolist()):
            return []
        return [int(e) for e in entries[:good]]

    def maybe_jump_tables(self, addresses: Integers) -> list[int]:
        """Return those of the addresses at which a 4-byte distance into code stands."""
        low = self.image.extent.start
        inside = addresses[(addresses % 4 == 0) & (addresses >= low) & (addresses + 4 <= self.image.extent.end)]
        memory = self.image.bytes_array
        words = sum(memory[inside - low + n].astype(np.int64) << (8 * n) for n in range(4))
        entries = inside + np.where(words >= 1 << 31, words - (1 << 32), words)
        return [int(a) for a in inside[self.survey.holders(entries) >= 0]]

    def text_table(self, address: int) -> list[int]:
        """Return the strings that a table of 4-byte distances at `address` leads to, or an empty list.

        clang makes such tables of arrays of strings (relative lookup tables). Every entry must lead to a text in
        read-only data, and two of them to the start of one that is not empty: others may be the end of a longer text.
        """
        known = self._text_tables.get(address)
        if known is None:
            known = self._text_tables[address] = self._text_table(address)
        return [*known]

    def _text_table(self, address: int) -> list[int]:
        targets = self._distances(address)
        good = all(self.string(t) is not None or self.image.read(t, 1) == b"\0" for t in targets)
        first = sum(self._begins_text(t) for t in targets) if good else 0
        return targets if first >= _TABLE_ENTRIES_MIN else []

    def distance_table(self, address: int) -> list[int]:
        """Return the data, other than texts, that a table of 4-byte distances at `address` leads to, or an empty list.

        LLVM makes such tables of any constants. What shows that numbers are distances is the code that uses them.
        """
        known = self._distance_tables.get(address)
        if known is None:
            targets = [] if self.text_table(address) else self._distances(address)
            users = self.users(address, 1) if len(targets) >= _TABLE_ENTRIES_MIN else set()
            used = any(follows_distances(Body(self.survey, user)) for user in users)
            known = self._distance_tables[address] = targets if used else []
        return [*known]

    def distance_tables_to(self, address: int, size: int) -> list[int]:
        """Return the tables of distances that lead into `[address, address + size)`."""
        targets, tables = self._tables_by_target
        return tables[bisect_left(targets, address) : bisect_left(targets, address + max(size, 1))]

    @cached_property
    def _tables_by_target(self) -> tuple[list[int], list[int]]:
        r = self.survey.references
        pairs = sorted(
            (t, table) for table in set(r.target[r.kind == LEA].tolist()) for t in self.distance_table(table)
        )
        return [p[0] for p in pairs], [p[1] for p in pairs]

    def _begins_text(self, address: int) -> bool:
        if self.string(address) is None:
            return False
        return self.image.read(address - 1, 1) == b"\0" or self.is_taken(address)

    def _distances(self, address: int) -> list[int]:
        """Return the addresses of read-only data that 4-byte distances at `address` lead to, one behind the other."""
        section = self.image.section_at(address)
        if (
            section is None
            or section.flags & 5
            or address % 4
            or not self.is_taken(address)
            or section.kind == "SHT_NOBITS"
        ):
            return []
        result: list[int] = []
        for place in range(address, address + self.extent(address) // 4 * 4, 4):
            target = address + int.from_bytes(self.image.read(place, 4), "little", signed=True)
            if address <= target < place + 4 or self.image.permissions_at(target) != "r--":
                break
            result.append(target)
        return result


def writable_at_run_time(image: Image, address: int) -> bool:
    """Return whether the program itself may change what stands at `address`."""
    return image.permissions_at(address) == "rw-"
