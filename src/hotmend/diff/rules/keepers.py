"""Who may keep the address of a table that changed: who stores it, hands it to others, or gets it for a result.

What keeps it in the process has the old table, whatever new code would give out from now on: an object that was made
with a table of its methods, a list in which a table was registered. Code of the image is followed from function to
function; a function of another image that is not known to look at its arguments only, and a caller that is not known,
count as keeping it.
"""

from __future__ import annotations

from typing import Final

from hotmend.diff.align import Aligned
from hotmend.diff.compare import Contents
from hotmend.diff.objects import SHORT_TEXT, Objects
from hotmend.diff.rules.dealings import callee_name
from hotmend.image.body import calls_by_instruction, tail_calls
from hotmend.image.escape import RESULT, Escapes, escapes, takers

_NUMBER_BYTES: Final = 4
_LEVELS: Final = 6
"""How many functions an address is followed through; behind that it counts as kept."""

_LOOK: Final = frozenset({
    "__errno_location", "__explicit_bzero_chk", "__fprintf_chk", "__fwrite_chk", "__memset_chk", "__printf_chk",
    "__snprintf_chk", "__sprintf_chk", "__stack_chk_fail", "__strcat_chk", "__strcpy_chk", "__strncat_chk",
    "__strncpy_chk", "__syslog_chk", "__vfprintf_chk", "__vsnprintf_chk", "_exit", "abort", "atoi", "atol", "bcmp",
    "bsearch", "calloc", "close", "exit", "explicit_bzero", "fprintf", "fputs", "free", "fwrite", "getenv", "getopt",
    "getopt_long", "getopt_long_only", "index", "lfind", "malloc", "memchr", "memcmp", "memmem", "memrchr", "memset",
    "open", "open64", "printf", "puts", "read", "realloc", "recv", "regexec", "send", "sendto", "snprintf", "sprintf",
    "strcasecmp", "strcat", "strchr", "strcmp", "strcpy", "strcspn", "strdup", "strlen", "strncasecmp", "strncat",
    "strncmp", "strncpy", "strndup", "strnlen", "strpbrk", "strrchr", "strspn", "strstr", "strtol", "strtoll",
    "strtoul", "strtoull", "syslog", "vfprintf", "vsnprintf", "write", "writev",
})  # fmt: skip
"""Functions of the C library that only look at what they are handed, or write there."""


class Keepers:
    """Answers for one pair of images."""

    def __init__(self, contents: Contents, aligned: Aligned) -> None:
        self._contents, self._aligned = contents, aligned
        self._c, self._objects = contents.c, contents.new
        self._exported = self._c.new.image.exported_addresses
        self._kept: dict[tuple[int, int], bool] = {}
        """(code, register that holds the pointer at its entry, or RESULT) -> whether somebody keeps it."""
        self._more: dict[int, bool] = {}

    def keep(self, j: int, y: int, size: int) -> bool:
        """Return whether the address of changed table `y`, of `size` bytes, may be kept once new code `j` took it."""
        if not self._is_more_than_texts(y):
            return False
        body = self._aligned.new(j)
        reads = any(self._is_more_than_texts(t) for t in self._changed_targets(y, size))
        starts = list(takers(body, y, size, reads=reads))
        return bool(starts) and self._goes_on(j, escapes(body, starts, reads=reads), _LEVELS)

    def lists_texts(self, y: int) -> bool:
        """Return whether a table has numbers and texts alone, as lists of messages and their numbers do."""
        image, new = self._objects.image, self._objects
        targets = [image.pointers.get(word, -1) for word in new.words_in(y, new.extent(y))]
        return bool(targets) and all(new.string(target) is not None for target in targets)

    def grows(self, y: int) -> bool:
        """Return whether a number in a changed table, or in one that it leads to, may be larger than before."""
        seen: set[int] = set()
        left = [y]
        while left:
            table = left.pop()
            if table in seen or _is_text(self._objects, table):
                continue
            seen.add(table)
            if self._has_grown(table):
                return True
            left += self._changed_targets(table, self._objects.extent(table))
        return False

    def _has_grown(self, y: int) -> bool:
        old, new, mapped = self._contents.old, self._objects, self._c.to_old.get(y)
        if mapped is None or old.extent(mapped.old) != new.extent(y):
            return True
        size = new.extent(y)
        a, b = old.image.read(mapped.old, size), new.image.read(y, size)
        addresses = {word - y + n for word in new.words_in(y, size) for n in range(8)}
        # However wide a number is, one of its bytes is larger then.
        return any(after > before for n, (before, after) in enumerate(zip(a, b, strict=True)) if n not in addresses)

    def _goes_on(self, j: int, found: Escapes, levels: int) -> bool:
        if found.stored or (found.returned and self._result_kept(j, levels)):
            return True
        return any(
            self._argument_kept(j, n, register, levels, meant=(n, register) in found.meant)
            for n, register in sorted(found.handed)
        )

    def _argument_kept(self, j: int, n: int, register: int, levels: int, *, meant: bool) -> bool:
        """Return whether what is called by instruction `n` of a code may keep what a register holds."""
        c, i = self._c, self._aligned.new(j).instructions[n]
        target = int(i.ip_rel_memory_address if i.is_ip_rel_memory_operand else i.near_branch_target)
        callee = c.new.at.get(self._linked(target), -1)
        if callee < 0:
            return meant and callee_name(c.new, c.new_plt, target) not in _LOOK
        key = (callee, register)
        if key not in self._kept:
            self._kept[key] = False  # for functions that call each other
            found = escapes(self._aligned.new(callee), [(0, register)])
            self._kept[key] = levels == 0 or self._goes_on(callee, found, levels - 1)
        return self._kept[key]

    def _linked(self, target: int) -> int:
        """Return what a call goes to, also through a slot of the linker that leads to the image itself."""
        image = self._c.new.image
        word = self._c.new_plt.get(target, target)
        slot = image.slots.get(word)
        symbol = image.own(slot) if slot is not None else None
        return int(symbol.value) if symbol is not None else image.pointers.get(word, target)

    def _result_kept(self, j: int, levels: int) -> bool:
        """Return whether somebody may keep what a code returns."""
        key = (j, RESULT)
        if key not in self._kept:
            self._kept[key] = False
            self._kept[key] = (
                levels == 0 or self._c.new.codes[j].start in self._exported or self._callers_keep(j, levels - 1)
            )
        return self._kept[key]

    def _callers_keep(self, j: int, levels: int) -> bool:
        start = self._c.new.codes[j].start
        for owner in sorted({owner for owner, _ in self._objects.references_to(start)}):
            body = self._aligned.new(owner)
            if start in tail_calls(body).values() and self._result_kept(owner, levels):
                return True
            after = [(n + 1, RESULT) for n, target in calls_by_instruction(body).items() if target == start]
            if self._goes_on(owner, escapes(body, after), levels):
                return True
        return False

    def _is_more_than_texts(self, y: int) -> bool:
        """Return whether a changed object differs in more than texts and their addresses: an old text does no harm."""
        if y not in self._more:
            self._more[y] = False  # for tables that lead to each other
            self._more[y] = self._differs(y)
        return self._more[y]

    def _differs(self, y: int) -> bool:
        contents, old, new = self._contents, self._contents.old, self._objects
        mapped = self._c.to_old.get(y)
        if _is_text(new, y) or new.jump_table(y) or new.text_table(y):
            return False
        if mapped is None:
            return True
        x = mapped.old
        size = min(old.extent(x), new.extent(y))
        words = [w - y for w in new.words_in(y, size)]
        if [w - x for w in old.words_in(x, size)] != words or self._goes_on_otherwise(x, y, size):
            return True
        a, b = contents.without_operands(x, y, size)
        for offset in words:
            if not contents.same_word(x + offset, y + offset) and not self._both_texts(x + offset, y + offset):
                return True
            a[offset : offset + 8] = b[offset : offset + 8] = bytes(min(8, size - offset))
        return a != b or any(self._is_more_than_texts(t) for t in self._changed_targets(y, size))

    def _goes_on_otherwise(self, x: int, y: int, size: int) -> bool:
        """Return whether the new table is longer; constants that code reads by themselves are none of its rows."""
        extent = self._objects.extent(y)
        if extent <= size or self._contents.same_tail(x, y, size):
            return False
        tail = bytearray(self._objects.image.read(y + size, extent - size))
        operands = self._objects.operands_in(y + size, extent - size)
        for start, n in operands:
            tail[start - y - size : start - y - size + n] = bytes(n)
        return not operands or any(tail)

    def _changed_targets(self, y: int, size: int) -> list[int]:
        pointers = self._objects.image.pointers
        targets = (pointers.get(word, -1) for word in self._objects.words_in(y, size))
        return [target for target in targets if target in self._contents.changed]

    def _both_texts(self, x: int, y: int) -> bool:
        old, new = self._contents.old, self._objects
        a, b = old.image.pointers.get(x), new.image.pointers.get(y)
        return a is not None and b is not None and old.string(a) is not None and new.string(b) is not None


def _is_text(objects: Objects, y: int) -> bool:
    """Return whether a text and nothing else stands at an address; a short one may as well be a number, if aligned."""
    text, extent = objects.string(y), objects.extent(y)
    if text is None or len(text) > SHORT_TEXT or len(text) == extent > 1:
        return text is not None
    return y % _NUMBER_BYTES != 0 and not any(objects.image.read(y, extent)[len(text) :])
