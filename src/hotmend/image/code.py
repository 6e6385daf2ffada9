"""Where the code of an image is: functions, code without frame information, and the linkage tables."""

from __future__ import annotations

import re
from dataclasses import dataclass

from iced_x86 import Decoder, Mnemonic

from hotmend.image.image import Image
from hotmend.model.addresses import LinkAddress

_PADDING = re.compile(
    rb"(?:\x90|\xcc|\x00|\x66{0,10}(?:\x90|\x2e?\x0f\x1f(?:\x00|\x40\x00|\x44\x00\x00|\x80\x00{4}|\x84\x00{5})"
    rb"|\x2e\x66\x0f\x1f\x84\x00{5}))*"
)
"""Instructions without effect that compilers and assemblers put between functions."""


@dataclass(frozen=True, slots=True)
class Code:
    """A run of code: a function, or (`gap`) code that no frame description covers.

    Attributes:
        start, size: link address and bytes; trailing padding of gaps is cut off.
        name: where known, else "".
        gap: not covered by a frame description.
        lsda: has a language specific area (C++ cleanups and handlers).
    """

    start: LinkAddress
    size: int
    name: str
    gap: bool
    lsda: bool

    @property
    def end(self) -> LinkAddress:
        """First link address behind it."""
        return LinkAddress(self.start + self.size)

    @property
    def label(self) -> str:
        """Its name, or one made from the address."""
        return self.name or f"sub_{self.start:x}"


def plt_sections(image: Image) -> tuple[tuple[int, int], ...]:
    """Return the extents of the procedure linkage tables."""
    return tuple((s.address, s.address + s.size) for s in image.allocated if s.name.startswith((".plt", ".iplt")))


def plt_stubs(image: Image) -> dict[int, int]:
    """Return the address of each PLT stub -> the GOT slot it jumps through."""
    result: dict[int, int] = {}
    for low, high in plt_sections(image):
        step = 8 if image.read(low, 2) == b"\xff\x25" and image.read(low + 6, 2) == b"\x66\x90" else 16
        for stub in range(low, high, step):
            text = image.read(stub, step)
            for prefix in (b"\xff\x25", b"\xf2\xff\x25", b"\xf3\x0f\x1e\xfa\xff\x25", b"\xf3\x0f\x1e\xfa\xf2\xff\x25"):
                if text.startswith(prefix):
                    n = len(prefix)
                    result[stub] = stub + n + 4 + int.from_bytes(text[n : n + 4], "little", signed=True)
    return result


def codes_of(image: Image) -> tuple[Code, ...]:
    """Return all code of `image`, sorted: what frame descriptions cover, and the gaps between."""
    plt = plt_sections(image)
    functions = [f for f in image.frames if not any(low < f.extent.end and f.extent.start < high for low, high in plt)]
    result = [
        Code(f.extent.start, f.extent.size, image.names.get(f.extent.start, ""), False, f.lsda) for f in functions
    ]
    covered = sorted([(f.extent.start, int(f.extent.end)) for f in functions] + list(plt))
    for s in image.allocated:
        if not s.flags & 4:
            continue
        at = int(s.address)
        for low, high in [c for c in covered if c[1] > s.address and c[0] < s.address + s.size] + [
            (s.address + s.size, s.address + s.size)
        ]:
            gap = _trim(image, at, low)
            if gap is not None:
                result.append(Code(LinkAddress(gap[0]), gap[1], image.names.get(gap[0], ""), True, False))
            at = max(at, high)
    return tuple(sorted(result, key=lambda c: c.start))


def padding_length(text: bytes) -> int:
    """Return how many of the first bytes of `text` are padding that compilers put between functions."""
    match = _PADDING.match(text)
    return match.end() if match else 0


def _trim(image: Image, low: int, high: int) -> tuple[int, int] | None:
    """Cut padding off both ends of `[low, high)`; None where nothing is left."""
    if high <= low:
        return None
    text = image.read(low, high - low)
    lead = padding_length(text)
    end = _end_of_code(text[lead:])
    return (low + lead, end) if end else None


def _end_of_code(text: bytes) -> int:
    """Return where the padding at the end of `text` begins; data that cannot be decoded is not padding."""
    end = 0
    for i in Decoder(64, text, ip=0):
        if i.is_invalid:
            return max(end, len(text.rstrip(b"\x00\xcc\x90")))
        zeros = not any(text[i.ip : i.next_ip])
        if not zeros and i.mnemonic not in (Mnemonic.NOP, Mnemonic.INT3):
            end = i.next_ip
    return end
