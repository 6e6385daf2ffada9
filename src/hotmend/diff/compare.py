"""Compare the contents of corresponding objects, by kind, under the map.

Raw bytes are not enough: jump tables hold distances and tables hold addresses, which differ in every build.
A changed string or table makes its users changed; a changed initial value of a variable needs a baseline,
because the process has long since worked on from the old one.
"""

from __future__ import annotations

from collections import deque

from hotmend.diff.correspond import Correspondence
from hotmend.diff.cosmetic import same_but_for_versions
from hotmend.diff.finding import Finding
from hotmend.diff.inside import tables_around
from hotmend.diff.objects import SHORT_TEXT, Objects, writable_at_run_time
from hotmend.image.image import Image
from hotmend.model.verdict import note, refusal

SKIPPED = (".got", ".plt", ".eh_frame", ".gcc_except_table", ".dynamic", ".init_array", ".fini_array", ".dyn", ".gnu",
           ".rela", ".hash", ".note", ".interp", ".tm_clone")  # fmt: skip
"""Beginnings of the names of sections that no program keeps data in, or that are compared otherwise."""

_ALIGNMENTS = (2, 4, 8, 16, 32, 64)

_CONSTANTS_MAX = 32
"""Bytes of operands that may stand between one object whose address is taken and the next."""


class Contents:
    """Which corresponding objects are equal."""

    def __init__(self, c: Correspondence, old: Objects, new: Objects) -> None:
        self.c, self.old, self.new = c, old, new
        self.changed: set[int] = set()
        """New addresses of read-only objects whose contents changed."""
        self.findings: list[Finding] = []
        self.cosmetic: list[str] = []
        """Texts that differ in nothing but versions, dates and line numbers; the process keeps the old ones."""
        self._equal: dict[tuple[int, int], bool] = {}

    def equal(self, x: int, y: int) -> bool:
        """Return whether the objects at old `x` and new `y` hold the same under the map."""
        key = (x, y)
        if key not in self._equal:
            self._equal[key] = self._compare(x, y)
        return self._equal[key]

    def _compare(self, x: int, y: int) -> bool:
        old, new = self.old, self.new
        size = min(old.extent(x), new.extent(y))
        if old.is_taken(x) == new.is_taken(y) and new.extent(y) > size and not self.same_tail(x, y, size):
            return False
        if old.text_table(x) and new.text_table(y):
            return self._same_texts(x, y)
        if old.distance_table(x) and new.distance_table(y):
            return self._same_places(x, y)
        fixed = not old.words_in(x, size) and not new.words_in(y, size)
        if fixed and old.image.read(x, size) == new.image.read(y, size):
            return True
        old_table, new_table = old.jump_table(x), new.jump_table(y)
        if old_table and new_table:
            return self._same_jumps(old_table, new_table)
        text = old.string(x)
        if text is not None and not old.words_in(x, len(text)):
            return self._same_text(x, text, new.string(y)) and self._same_rest(x, y, len(text), size)
        return self._same_words(x, y, size)

    def _same_texts(self, x: int, y: int) -> bool:
        a, b = self.old.text_table(x), self.new.text_table(y)
        return len(a) == len(b) and all(self.equal(s, t) for s, t in zip(a, b, strict=True))

    def _same_rest(self, x: int, y: int, text_size: int, size: int) -> bool:
        """Compare what follows a text up to the next address that anything refers to.

        A table of small numbers may look like a text, and so does an array or a list of texts that is reached by its
        first: what no reference leads to belongs to what stands before it.
        """
        room = min(self.old.room_to_bound(x + text_size), self.new.room_to_bound(y + text_size))
        size = min(size, text_size + room)
        rest, other = self.old.image.read(x, size)[text_size:], self.new.image.read(y, size)[text_size:]
        return rest == other or self._same_words(x + text_size, y + text_size, max(size - text_size, 0))

    def _same_places(self, x: int, y: int) -> bool:
        """Return whether two tables of distances lead to the same data; whether that changed is asked for itself."""
        a, b = self.old.distance_table(x), self.new.distance_table(y)
        return len(a) == len(b) and all(self._is_place(s, t) for s, t in zip(a, b, strict=True))

    def _is_place(self, x: int, y: int) -> bool:
        mapped = self.c.to_old.get(y) or self.c.neighbours(y)
        return mapped is not None and mapped.old == x

    def _same_text(self, x: int, text: bytes, other: bytes | None) -> bool:
        if other is not None and same_but_for_versions(text, other):
            self.cosmetic.append(f"{x:#x} {text[:-1].decode('utf-8', 'replace')!r}")
            return True
        return text == other

    def same_tail(self, x: int, y: int, size: int) -> bool:
        """The new object seems longer: harmless if it is a string, a table of jumps, or the same bytes follow."""
        extent = self.new.extent(y)
        if self.new.jump_table(y) or self._surely_text(x, y, extent):
            return True
        if self.new.words_in(y + size, extent - size):
            return False
        tail = bytearray(self.new.image.read(y + size, extent - size))
        for start, n in self.new.operands_in(y + size, extent - size):
            tail[start - y - size : start - y - size + n] = bytes(n)
        if not any(tail) and self._is_padding(x, y, size):
            return True
        # A word that the dynamic linker fills is zeros in the file.
        same_bytes = tail == self.old.image.read(x + size, extent - size)
        return same_bytes and not self.old.words_in(x + size, extent - size)

    def _is_padding(self, x: int, y: int, size: int) -> bool:
        """Return whether zeros behind the new object only stand there because of the next one's alignment.

        A zero may as well be what ends a list, and its absence the defect that an update mends. At a section's end
        nothing is padding. Behind constants that are operands, which have been blanked, stand others of the kind.
        """
        new, end, next_y = self.new, y + size, y + self.new.extent(y)
        if not new.is_taken(y):
            return False
        operands = [start for start, n in new.operands_in(y + 1, next_y - y - 1) if start + n >= end]
        first = max(end, min(operands, default=next_y))
        another = self.c.to_new.get(x + size) != first
        if first > end and (
            _ends_section(new.image, first) or not _aligned_anew(x + size, end, first, another=another)
        ):
            return False
        return next_y - first < _CONSTANTS_MAX

    def _surely_text(self, x: int, y: int, extent: int) -> bool:
        """Return whether a text stands at `x`, and no table of numbers that are small enough to look like one."""
        text = self.old.string(x)
        if text is None:
            return False
        return len(text) > SHORT_TEXT or len(text) == self.old.extent(x) or self.new.only_texts(y, extent)

    def _same_jumps(self, old_table: list[int], new_table: list[int]) -> bool:
        c = self.c
        for a, b in zip(old_table, new_table, strict=False):
            i, j = c.old.holder(a), c.new.holder(b)
            if c.partner(i) != j:
                return False
            # Within a changed function the branches move; one that stays takes the old ones.
            stays = i in c.same or i in c.cosmetic
            if stays and a - c.old.codes[i].start != b - c.new.codes[j].start:
                return False
        return len(new_table) <= len(old_table)

    def _same_words(self, x: int, y: int, size: int) -> bool:
        old_words = [w - x for w in self.old.words_in(x, size)]
        if old_words != [w - y for w in self.new.words_in(y, size)]:
            return False
        a, b = self.without_operands(x, y, size)
        for offset in old_words:
            if not self.same_word(x + offset, y + offset):
                return False
            a[offset : offset + 8] = b[offset : offset + 8] = bytes(min(8, size - offset))
        return a == b

    def without_operands(self, x: int, y: int, size: int) -> tuple[bytearray, bytearray]:
        """Read both objects, with what is only accessed as an operand blanked: that is compared by itself."""
        a, b = bytearray(self.old.image.read(x, size)), bytearray(self.new.image.read(y, size))
        operands = [(start - x, n) for start, n in self.old.operands_in(x + 1, size - 1)]
        operands += [(start - y, n) for start, n in self.new.operands_in(y + 1, size - 1)]
        for start, n in operands:
            end = min(start + n, size)
            a[start:end] = b[start:end] = bytes(max(end - start, 0))
        return a, b

    def same_word(self, x: int, y: int) -> bool:
        """Return whether two words that the dynamic linker changes lead to the same thing."""
        old_slot, new_slot = self.old.image.slots.get(x), self.new.image.slots.get(y)
        if old_slot is not None and new_slot is not None:
            return old_slot.identity == new_slot.identity
        if old_slot is not None or new_slot is not None:
            return False
        a, b = self.old.image.pointers[x], self.new.image.pointers[y]
        mapped = self.c.to_old.get(b)
        if mapped is not None:
            return mapped.old == a
        i, j = self.c.old.holder(a), self.c.new.holder(b)
        if i >= 0 and self.c.partner(i) >= 0:
            # Functions that changed places leave the number in the table as it was: what counts is the function.
            return self.c.partner(i) == j and a - self.c.old.codes[i].start == b - self.c.new.codes[j].start
        near = self.c.neighbours(b)
        return near is not None and near.old == a


def compare_contents(c: Correspondence, old: Objects, new: Objects) -> Contents:
    """Compare every mapped object; fill `changed`, and `findings` where a baseline is needed."""
    contents = Contents(c, old, new)
    queue: deque[int] = deque()
    values: dict[str, set[int]] = {}
    for y, mapped in list(c.to_old.items()):
        section = c.new.image.section_at(y)
        if section is None or section.flags & 4 or section.kind == "SHT_NOBITS":
            continue
        linked = section.name.startswith(".got") and y in c.new.image.pointers  # a symbol that is bound in the image
        if section.name.startswith(SKIPPED) and not linked:
            continue
        if y in c.new.image.slots and not contents.new.is_taken(y):
            continue
        if contents.equal(mapped.old, y):
            continue
        if writable_at_run_time(c.new.image, y):
            values[f"{_name(c, y)} at {y:#x}"] = _reachers(new, y)
            continue
        for changed in {y, *tables_around(c, old, new, mapped.old, y)} - contents.changed:
            contents.changed.add(changed)
            queue.append(changed)
    _spread(contents, queue, values)
    if contents.cosmetic:
        reason = note(
            "version-text-kept",
            "texts that differ only in versions, dates or line numbers stay as they are until the next restart",
            *sorted(contents.cosmetic)[:20],
        )
        contents.findings.append(Finding(reason))
    if values:
        reason = refusal(
            "initial-value-changed",
            "the initial value of writable data changed; running processes hold the old one",
            *sorted(values)[:20],
        )
        known = all(values.values())
        contents.findings.append(Finding(reason, frozenset().union(*values.values()) if known else None))
    return contents


def _spread(contents: Contents, queue: deque[int], values: dict[str, set[int]]) -> None:
    """A table that points to a changed object is a changed object itself."""
    new = contents.new
    while queue:
        y = queue.popleft()
        for table in new.distance_tables_to(y, new.extent(y)):
            if table not in contents.changed:
                contents.changed.add(table)
                queue.append(table)
        for word in new.words_to(y, 1):
            if writable_at_run_time(new.image, word):
                holder = new.container(word)
                values[f"pointer at {word:#x} to {y:#x}"] = _reachers(new, holder) | _reachers(new, y)
                continue
            holder = new.container(word)
            if holder not in contents.changed:
                contents.changed.add(holder)
                queue.append(holder)


def _aligned_anew(next_x: int, end_y: int, next_y: int, *, another: bool) -> bool:
    """Return whether the next object only stands further off in the new build because its alignment wants it there.

    Args:
        next_x: where the next object begins in the old build, right behind this one.
        end_y: where this object ends in the new build if it is as long as the old one.
        next_y: where the next object begins in the new build.
        another: it is not the one that follows in the old build, whose place says nothing of its alignment.
    """
    return any((another or next_x % a == 0) and next_y % a == 0 and -(-end_y // a) * a == next_y for a in _ALIGNMENTS)


def _ends_section(image: Image, address: int) -> bool:
    section = image.section_at(address - 1)
    return section is not None and section.address + section.size == address


def _reachers(new: Objects, y: int) -> set[int]:
    """Return the codes that refer to an object, or to a table that leads to it."""
    result: set[int] = set()
    seen = {y}
    queue = deque([y])
    while queue:
        start = queue.popleft()
        result |= new.users(start, max(new.extent(start), 1))
        for holder in map(new.container, new.words_to(start, max(new.extent(start), 1))):
            if holder not in seen:
                seen.add(holder)
                queue.append(holder)
    return result


def _name(c: Correspondence, y: int) -> str:
    return c.new.image.names.get(y, "data")
