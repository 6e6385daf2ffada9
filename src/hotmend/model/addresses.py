"""Number types that must not be mixed up.

A *link address* is what an ELF file says (`st_value`, `sh_addr`); a *load address* is where a byte stands
in a process; a *file offset* counts from the start of a file. All are bytes, unsigned, 64 bits wide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

LinkAddress = NewType("LinkAddress", int)
LoadAddress = NewType("LoadAddress", int)
FileOffset = NewType("FileOffset", int)

BuildId = NewType("BuildId", str)
"""The `.note.gnu.build-id` of an image as lower-case hexadecimal digits."""

PAGE_BYTES = 4096

JUMP_BYTES = 5
"""Length of `jmp rel32`, the instruction that redirects an entry."""


@dataclass(frozen=True, slots=True, order=True)
class Extent:
    """A half-open range `[start, start + size)` of link addresses."""

    start: LinkAddress
    size: int

    @property
    def end(self) -> LinkAddress:
        """The first link address behind the range."""
        return LinkAddress(self.start + self.size)

    def __contains__(self, address: object) -> bool:
        return isinstance(address, int) and self.start <= address < self.start + self.size


def page_floor(address: int) -> int:
    """Return the start of the page that holds `address`."""
    return address & -PAGE_BYTES


def page_ceil(address: int) -> int:
    """Return the first page boundary at or above `address`."""
    return -(-address // PAGE_BYTES) * PAGE_BYTES
