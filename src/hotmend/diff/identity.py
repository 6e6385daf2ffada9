"""What makes an added variable known again in a later hotpatch of the same baseline.

The two hotpatches come from two new builds, whose addresses have nothing to do with each other. What they share is the
baseline. A variable is marked by its name, where the new build tells it, and by where new code refers to it: the code's
bytes without its references, the old function that it replaces, and the number of the reference. The same code for the
same old function refers to the same things in the same order.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections.abc import Mapping

from hotmend.diff.closure import Selection
from hotmend.diff.correspond import Correspondence
from hotmend.image.image import Image
from hotmend.model.addresses import Extent, LinkAddress
from hotmend.model.hotpatch import AddedVariable, Mark, Port

_HASH_DIGITS = 16
_COMPILERS_NUMBER = re.compile(r"\.\d+$")


def identify(c: Correspondence, selection: Selection, places: Mapping[int, int]) -> tuple[AddedVariable, ...]:
    """Return the added variables of a shadow, with their marks.

    Args:
        c: the correspondence.
        selection: which codes are in the shadow.
        places: link addresses that new code refers to as variables of its own, and how many bytes each may take.
            Those that overlap are parts of one.
    """
    extents = _joined(_without_mapped(c, places))
    starts = [int(extent.start) for extent in extents]
    marks: list[dict[str, int]] = [_names(c.new.image, extent) for extent in extents]
    r = c.new.references
    for j in sorted(selection.shadow) if extents else ():
        low, high = int(r.first[j]), int(r.first[j + 1])
        key, told = "", set()
        for number, target in enumerate(r.target[low:high].tolist()):
            at = bisect_right(starts, target) - 1
            if target not in places or at in told:
                continue
            told.add(at)
            key = key or _code_key(c, selection, j)
            marks[at][f"use:{key}:{number}"] = target - starts[at]
    image = c.new.image
    return tuple(
        AddedVariable(
            image.names.get(extent.start, f"data_{extent.start:x}"),
            extent,
            _contents_sha256(image, extent),
            tuple(Mark(text, offset) for text, offset in sorted(found.items())),
        )
        for extent, found in zip(extents, marks, strict=True)
    )


def identify_ports(c: Correspondence, selection: Selection, ports: Mapping[int, LinkAddress]) -> tuple[Port, ...]:
    """Return the ports of a shadow, with their marks.

    Args:
        c: the correspondence.
        selection: which codes are in the shadow.
        ports: start of each function whose address is handed out -> its port.
    """
    r = c.new.references
    marks: dict[int, set[str]] = {start: set() for start in ports}
    for j in sorted(selection.shadow) if ports else ():
        low, high = int(r.first[j]), int(r.first[j + 1])
        for number, target in enumerate(r.target[low:high].tolist()):
            if target in marks:
                marks[target].add(f"use:{_code_key(c, selection, j)}:{number}")
    result = []
    for start, address in sorted(ports.items(), key=lambda port: port[1]):
        j = c.new.at[start]
        code = c.new.codes[j]
        told = {*marks[start], f"code:{_code_key(c, selection, j)}"}
        if code.name:
            told.add(f"name:{_COMPILERS_NUMBER.sub('', code.name)}")
        result.append(Port(code.label, address, code.start, tuple(Mark(text, 0) for text in sorted(told))))
    return tuple(result)


def _without_mapped(c: Correspondence, places: Mapping[int, int]) -> dict[int, int]:
    """Return the places, each up to the next variable of the old build at most: nothing added lies there."""
    if not places:
        return {}
    mapped = [*sorted(c.to_old), max(start + size for start, size in places.items())]
    return {start: max(1, min(size, mapped[bisect_right(mapped, start)] - start)) for start, size in places.items()}


def _joined(places: Mapping[int, int]) -> list[Extent]:
    """Return the places, those that overlap as one, sorted."""
    result: list[Extent] = []
    for start, size in sorted(places.items()):
        if result and start < result[-1].end:
            first = result.pop()
            result.append(Extent(first.start, max(int(first.end), start + size) - first.start))
        else:
            result.append(Extent(LinkAddress(start), size))
    return result


def _names(image: Image, extent: Extent) -> dict[str, int]:
    """Return the names of a variable as marks, without the number that a compiler puts behind a static one."""
    found = ((name, at - extent.start) for at, name in image.names.items() if at in extent)
    return {f"name:{_COMPILERS_NUMBER.sub('', name)}": offset for name, offset in found}


def _code_key(c: Correspondence, selection: Selection, j: int) -> str:
    """Return what says which code of the shadow it is, whatever build it stands in."""
    i = selection.origin.get(j, -1)
    place = f"{c.old.codes[i].start:x}" if i >= 0 else "added"
    return hashlib.sha256(place.encode() + b"\0" + c.new.keys[j]).hexdigest()[:_HASH_DIGITS]


def _contents_sha256(image: Image, extent: Extent) -> str:
    """Return the digest of what a variable holds at first; words that the dynamic linker changes count as zeros."""
    section = image.section_at(extent.start)
    content = bytearray(extent.size)
    if section is not None and section.kind != "SHT_NOBITS":
        content[:] = image.read(extent.start, extent.size)
        for word in (*image.pointers, *image.slots):
            at = word - extent.start
            if -8 < at < extent.size:
                content[max(at, 0) : at + 8] = bytes(min(at + 8, extent.size) - max(at, 0))
    return hashlib.sha256(bytes(content).rstrip(b"\0")).hexdigest()
