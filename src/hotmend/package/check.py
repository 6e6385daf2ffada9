"""The rules a Hotpatch must keep. Writer and reader both apply them, so that nothing else is ever in a file."""

from __future__ import annotations

import string
from bisect import bisect_right
from collections.abc import Iterable

from hotmend.model.addresses import JUMP_BYTES, Extent, LinkAddress, page_ceil, page_floor
from hotmend.model.errors import InputError
from hotmend.model.hotpatch import Hotpatch, ImportTarget, Mark, OldTarget, Segment, ShadowTarget
from hotmend.package import format as fmt

_TABLE_HEAD_BYTES, _DESCRIPTION_BYTES_MIN = 12, 17
_HEX = frozenset(string.digits + "abcdef")


def check_hotpatch(hotpatch: Hotpatch) -> None:
    """Raise InputError with the first rule that `hotpatch` breaks."""
    _check_identity(hotpatch)
    _check_counts(hotpatch)
    _check_segments(hotpatch)
    _check_relocations(hotpatch)
    _check_functions(hotpatch)
    _check_redirections(hotpatch)
    _check_unwinding(hotpatch)
    _check_variables(hotpatch)
    _check_ports(hotpatch)
    lazy = hotpatch.lazy
    for text in lazy.evidence if lazy is not None else ():
        _check_text(text, "evidence", limit=fmt.SENTENCE_BYTES_MAX)
    for reason in (*hotpatch.reasons, *(lazy.obstacles if lazy is not None else ())):
        _check_text(reason.code, "reason code")
        for text in (reason.sentence, *reason.subjects):
            _check_text(text, "reason", limit=fmt.SENTENCE_BYTES_MAX)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InputError(f"hotpatch: {message}")


def _check_text(text: str, what: str, *, limit: int = fmt.NAME_BYTES_MAX, empty: bool = True) -> None:
    """Names end up on terminals and in ELF string tables: no control characters, no lone surrogates."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InputError(f"hotpatch: {what} is not text") from None
    _require(size <= limit, f"{what} of {size} bytes is longer than {limit}")
    _require(empty or size > 0, f"{what} is empty")
    clean = text.isprintable() or not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in text)
    _require(clean, f"{what} {text[:40]!r} has control characters")


def _check_hex(text: str, what: str, digits_max: int) -> None:
    _require(0 < len(text) <= digits_max and len(text) % 2 == 0, f"{what} has {len(text)} digits")
    _require(_HEX.issuperset(text), f"{what} is not hexadecimal")


def _check_extent(extent: Extent, what: str) -> None:
    _require(
        0 <= extent.start < fmt.ADDRESS_MAX and 0 <= extent.size <= fmt.ADDRESS_MAX - extent.start,
        f"{what} is outside the address space",
    )


def _check_identity(hotpatch: Hotpatch) -> None:
    _check_text(hotpatch.name, "name", empty=False)
    for text in (hotpatch.path, hotpatch.package, *hotpatch.versions, *hotpatch.cves):
        _check_text(text, "path, package, version or CVE")
    for build_id in (hotpatch.old_build_id, hotpatch.new_build_id):
        _check_hex(build_id, "build-id", 2 * fmt.BUILD_ID_BYTES_MAX)
    _check_extent(hotpatch.old_extent, "old image")
    _check_extent(hotpatch.new_extent, "new image")


def _check_counts(hotpatch: Hotpatch) -> None:
    for count, limit, what in (
        (len(hotpatch.segments), fmt.SEGMENTS_MAX, "segments"),
        (len(hotpatch.relocations), fmt.RELOCATIONS_MAX, "relocations"),
        (len(hotpatch.functions), fmt.FUNCTIONS_MAX, "functions"),
        (len(hotpatch.replaced), fmt.FUNCTIONS_MAX, "replaced functions"),
        (len(hotpatch.redirections), fmt.FUNCTIONS_MAX, "redirections"),
        (len(hotpatch.variables or ()), fmt.FUNCTIONS_MAX, "variables"),
        (len(hotpatch.ports), fmt.FUNCTIONS_MAX, "ports"),
        (len(hotpatch.compared), fmt.FUNCTIONS_MAX, "compared objects"),
        (len(hotpatch.reasons), fmt.REASONS_MAX, "reasons"),
        (len(hotpatch.lazy.obstacles) if hotpatch.lazy else 0, fmt.REASONS_MAX, "obstacles"),
        (len(hotpatch.lazy.evidence) if hotpatch.lazy else 0, fmt.REASONS_MAX, "pieces of evidence"),
        (len(hotpatch.cves), fmt.CVES_MAX, "CVEs"),
    ):
        _require(count <= limit, f"{count} {what} are more than {limit}")
    counts = hotpatch.statistics
    numbers = [counts.identical, counts.changed, counts.added, counts.removed]
    numbers += [counts.reconstructed, counts.reconstructible, counts.cosmetic, hotpatch.update_bytes]
    numbers += [number for _, number in counts.references]
    _require(all(0 <= n <= fmt.COUNT_MAX for n in numbers), "a count is out of range")
    for evidence, _ in counts.references:
        _check_text(evidence, "evidence", empty=False)


def _check_segments(hotpatch: Hotpatch) -> None:
    previous: Segment | None = None
    for segment in hotpatch.segments:
        extent = segment.extent
        _check_extent(extent, "segment")
        _check_text(segment.section, "section name", empty=False)
        _require(extent.size > 0, f"segment at {extent.start:#x} is empty")
        _require(len(segment.content) <= extent.size, f"segment at {extent.start:#x} holds too much")
        _require(segment.permissions in fmt.PERMISSION_FLAGS, "segment permissions are unknown")
        if previous is not None:
            end = previous.extent.end
            _require(end <= extent.start, f"segments overlap or are not sorted at {extent.start:#x}")
            shares_page = page_ceil(end) > page_floor(extent.start)
            same = previous.permissions == segment.permissions
            _require(same or not shares_page, f"page at {page_floor(extent.start):#x} has two permissions")
        previous = segment
    if previous is not None:
        span = previous.extent.end - hotpatch.segments[0].extent.start
        _require(span <= fmt.SPAN_BYTES_MAX, f"shadow spans {span} bytes")


def _check_relocations(hotpatch: Hotpatch) -> None:
    segments = iter(hotpatch.segments)
    segment = next(segments, None)
    previous_end = 0
    for relocation in hotpatch.relocations:
        address = relocation.address
        end = address + fmt.RELOCATION_BYTES[relocation.kind]
        _require(previous_end <= address, f"relocations overlap or are not sorted at {address:#x}")
        previous_end = end
        while segment is not None and segment.extent.end <= address:
            segment = next(segments, None)
        inside = segment is not None and (
            segment.extent.start <= address and end <= segment.extent.start + len(segment.content)
        )
        _require(inside, f"relocation at {address:#x} lies outside the segments' content")
        _require(-fmt.COUNT_MAX <= relocation.addend <= fmt.COUNT_MAX, "an addend is out of range")
        _require(0 <= relocation.votes <= fmt.COUNT_MAX, "a number of votes is out of range")
    for evidence in {relocation.evidence for relocation in hotpatch.relocations}:
        _check_text(evidence, "evidence", empty=False)
    for target in {relocation.target for relocation in hotpatch.relocations}:
        if isinstance(target, ImportTarget):
            _check_text(target.name, "import", empty=False)
            _check_text(target.version, "symbol version")
            _require("@" not in target.name + target.version, f"import {target.name!r} has an @")
        elif isinstance(target, OldTarget | ShadowTarget):
            _require(0 <= target.address <= fmt.ADDRESS_MAX, "a target is outside the address space")


def _check_functions(hotpatch: Hotpatch) -> None:
    _require_executable(hotpatch, ((f.name, f.new) for f in hotpatch.functions))
    for function in hotpatch.functions:
        _check_text(function.name, "function name", empty=False)
        _check_extent(function.old, f"old {function.name}")
    for replaced in hotpatch.replaced:
        _check_text(replaced.name, "function name", empty=False)
        _check_extent(replaced.old, f"old {replaced.name}")
        _check_hex(replaced.sha256, "sha256", 64)


def _check_redirections(hotpatch: Hotpatch) -> None:
    for redirection in hotpatch.redirections:
        _check_text(redirection.name, "function name", empty=False)
        _check_extent(Extent(redirection.old, len(redirection.entry)), "entry")
        _require(5 <= len(redirection.entry) <= fmt.ENTRY_BYTES_MAX, "entry bytes do not hold a jump")
    by_stub = [(f"stub of {r.name}", e) for r in hotpatch.redirections for e in (r.near_stub, r.far_stub)]
    _require_executable(hotpatch, sorted(by_stub, key=lambda pair: pair[1].start))
    by_new = [(r.name, Extent(r.new, 1)) for r in hotpatch.redirections]
    _require_executable(hotpatch, sorted(by_new, key=lambda pair: pair[1].start))


def _check_unwinding(hotpatch: Hotpatch) -> None:
    """The table is in the file, sorted, and every description it names is too."""
    if hotpatch.unwinding is None:
        return
    extent = hotpatch.unwinding.extent
    _check_extent(extent, "table of frames")
    _require(extent.size >= _TABLE_HEAD_BYTES, "the table of frames is too short")
    table = _content(hotpatch, extent)
    _require(table[:4] == b"\x01\x1b\x03\x3b", "the table of frames is in another encoding")
    count = int.from_bytes(table[8:12], "little")
    _require(extent.size == _TABLE_HEAD_BYTES + 8 * count and count > 0, "the table of frames has another size")
    previous = -fmt.COUNT_MAX
    for at in range(_TABLE_HEAD_BYTES, extent.size, 8):
        start = int.from_bytes(table[at : at + 4], "little", signed=True)
        _require(previous < start, "the table of frames is not sorted")
        previous = start
        description = extent.start + int.from_bytes(table[at + 4 : at + 8], "little", signed=True)
        _content(hotpatch, Extent(LinkAddress(description), _DESCRIPTION_BYTES_MIN))


def _check_variables(hotpatch: Hotpatch) -> None:
    """Each lies in one segment that may be written to; none overlaps another."""
    segments = iter(hotpatch.segments)
    segment = next(segments, None)
    previous = 0
    for variable in hotpatch.variables or ():
        extent = variable.extent
        _check_text(variable.name, "variable name", empty=False)
        _check_extent(extent, variable.name)
        _check_hex(variable.sha256, "sha256", 64)
        _require(extent.size > 0 and previous <= extent.start, f"variables are not in order at {extent.start:#x}")
        previous = extent.end
        while segment is not None and segment.extent.end <= extent.start:
            segment = next(segments, None)
        inside = segment is not None and segment.extent.start <= extent.start and extent.end <= segment.extent.end
        _require(inside, f"{variable.name} is not in the hotpatch")
        _require(segment is not None and segment.permissions == "rw-", f"{variable.name} cannot be written to")
        _check_marks(variable.marks, extent.size, variable.name)


def _check_ports(hotpatch: Hotpatch) -> None:
    for name in hotpatch.compared:
        _check_text(name, "object name", empty=False)
    for port in hotpatch.ports:
        _check_text(port.name, "function name", empty=False)
        _check_marks(port.marks, 1, port.name)
    _require_executable(hotpatch, ((f"port of {p.name}", Extent(p.address, JUMP_BYTES)) for p in hotpatch.ports))
    functions = sorted((p.function, p.name) for p in hotpatch.ports)
    _require_executable(hotpatch, ((name, Extent(function, 1)) for function, name in functions))


def _check_marks(marks: tuple[Mark, ...], size: int, name: str) -> None:
    _require(len(marks) <= fmt.MARKS_MAX, f"{name} has too many marks")
    for mark in marks:
        _check_text(mark.text, "mark", empty=False)
        _require(0 <= mark.offset < size, f"a mark is outside of {name}")


def _content(hotpatch: Hotpatch, extent: Extent) -> bytes:
    """Return bytes of the hotpatch; require that they are there and may be read."""
    at = bisect_right(hotpatch.segments, extent.start, key=lambda s: s.extent.start) - 1
    _require(at >= 0, f"nothing is at {extent.start:#x}")
    segment = hotpatch.segments[at]
    offset = extent.start - segment.extent.start
    content = segment.content[offset : offset + extent.size]
    _require(len(content) == extent.size, f"unwinding data at {extent.start:#x} is not in the file")
    return content


def _require_executable(hotpatch: Hotpatch, extents: Iterable[tuple[str, Extent]]) -> None:
    """Each extent, in the order of addresses, is not empty and lies in the content of one executable segment."""
    segments = iter(hotpatch.segments)
    segment = next(segments, None)
    previous = -1
    for name, extent in extents:
        _check_extent(extent, name)
        _require(previous <= extent.start, f"{name} at {extent.start:#x} is not in order")
        previous = extent.start
        while segment is not None and segment.extent.end <= extent.start:
            segment = next(segments, None)
        inside = (
            segment is not None
            and segment.permissions == "r-x"
            and segment.extent.start <= extent.start
            and extent.end <= segment.extent.start + len(segment.content)
            and extent.size > 0
        )
        _require(inside, f"{name} at {extent.start:#x} is not in the hotpatch's code")
