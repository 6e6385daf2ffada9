"""Hotpatches made by hand for small C programs: every named function comes to return another number.

The programs are compiled with `-fpatchable-function-entry=5`: five NOPs at each entry, which stubs displace easily.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from hotmend.model.addresses import BuildId, Extent, LinkAddress, page_ceil, page_floor
from hotmend.model.hotpatch import (
    GateTarget,
    Hotpatch,
    ImportTarget,
    NewFunction,
    OldTarget,
    Redirection,
    Relocation,
    RelocationKind,
    ReplacedFunction,
    Segment,
    ShadowTarget,
    Statistics,
)
from hotmend.model.verdict import Verdict

NOPS = b"\x90" * 5
_ENTRY_BYTES_MAX = 48
"""Room for what one function needs in a section of the shadow."""

FLAGS = ("-O1", "-fno-inline", "-fno-ipa-icf", "-fpatchable-function-entry=5", "-pthread")


def compile_target(source: Path, output: Path, *flags: str) -> Path:
    """Compile one C file."""
    subprocess.run(["gcc", *FLAGS, "-o", str(output), str(source), *flags], check=True)
    return output


def extent(start: int, size: int) -> Extent:
    """Return an extent of plain numbers."""
    return Extent(LinkAddress(start), size)


class _Builder:
    """Collects the bytes and relocations of a shadow."""

    def __init__(self, base: int, room: int) -> None:
        self.text, self.near, self.far, self.data = (base + n * room for n in range(4))
        self.bytes = {self.text: bytearray(), self.near: bytearray(), self.far: bytearray()}
        self.relocations: list[Relocation] = []

    def add(self, section: int, code: bytes) -> int:
        """Append code, 16-byte aligned; return its link address."""
        content = self.bytes[section]
        content.extend(bytes(-len(content) % 16))
        content.extend(code)
        return section + len(content) - len(code)

    def field(self, address: int, kind: RelocationKind, target: object, addend: int) -> None:
        """Add a relocation."""
        assert isinstance(target, OldTarget | ShadowTarget | GateTarget | ImportTarget)
        self.relocations.append(Relocation(LinkAddress(address), kind, target, addend, "stub"))

    def stubs(self, old: int, new: int) -> tuple[Extent, Extent]:
        """Add both stubs of an entry."""
        result = []
        back = OldTarget(LinkAddress(old + 5))
        goal = ShadowTarget(LinkAddress(new))
        near = b"\x80\x3d\0\0\0\0\0" + b"\x0f\x85\0\0\0\0" + NOPS + b"\xe9\0\0\0\0"
        at = self.add(self.near, near)
        self.field(at + 2, RelocationKind.PC32, GateTarget(), -5)
        self.field(at + 9, RelocationKind.PC32, goal, -4)
        self.field(at + len(near) - 4, RelocationKind.PC32, back, -4)
        result.append(extent(at, len(near)))
        far = b"\x50\x48\xb8" + bytes(8) + b"\x80\x38\0\x58" + b"\x0f\x85\0\0\0\0" + NOPS + b"\xe9\0\0\0\0"
        at = self.add(self.far, far)
        self.field(at + 3, RelocationKind.ABS64, GateTarget(), 0)
        self.field(at + 17, RelocationKind.PC32, goal, -4)
        self.field(at + len(far) - 4, RelocationKind.PC32, back, -4)
        result.append(extent(at, len(far)))
        return result[0], result[1]


def make_hotpatch(path: Path, answers: Mapping[str, int | str], name: str = "") -> Hotpatch:
    """Return a hotpatch of the image at `path`.

    Args:
        path: compiled with `compile_target`.
        answers: function -> the number it returns in the new build, or `import:NAME` to jump to an import.
        name: of the image.
    """
    with path.open("rb") as file:
        elf = ELFFile(file)
        table, notes = elf.get_section_by_name(".symtab"), elf.get_section_by_name(".note.gnu.build-id")
        assert isinstance(table, SymbolTableSection)
        assert notes is not None
        symbols = {s.name: (s["st_value"], s["st_size"]) for s in table.iter_symbols()}
        loads = [s for s in elf.iter_segments() if s["p_type"] == "PT_LOAD"]
        text = next(s for s in loads if s["p_flags"] & 1)
        code, base = text.data(), text["p_vaddr"]
        build_id = notes.data()[16:].hex()
    low = page_floor(loads[0]["p_vaddr"])
    high = page_ceil(max(s["p_vaddr"] + s["p_memsz"] for s in loads))
    builder = _Builder(low + 0x1000, page_ceil(_ENTRY_BYTES_MAX * len(answers)))
    functions, replaced, redirections = [], [], []
    for function, answer in answers.items():
        start, size = symbols[function]
        body = code[start - base : start - base + size]
        assert body.startswith(NOPS), function
        if isinstance(answer, int):
            new, length = builder.add(builder.text, b"\xb8" + answer.to_bytes(4, "little") + b"\xc3"), 6
        else:
            new, length = builder.add(builder.text, b"\xff\x25\2\0\0\0\x90\x90" + bytes(8)), 16
            imported = ImportTarget(answer.removeprefix("import:"), "", False)
            builder.field(new + 8, RelocationKind.ABS64, imported, 0)
        near, far = builder.stubs(start, new)
        functions.append(NewFunction(function, extent(new, length), extent(start, size)))
        replaced.append(ReplacedFunction(function, extent(start, size), hashlib.sha256(body).hexdigest()))
        redirections.append(Redirection(function, LinkAddress(start), LinkAddress(new), NOPS, near, far))
    sections = ((builder.text, ".text"), (builder.near, ".text.stub"), (builder.far, ".text.stub.far"))
    segments = [
        Segment(extent(at, len(builder.bytes[at])), "r-x", bytes(builder.bytes[at]), section)
        for at, section in sections
    ]
    segments.append(Segment(extent(builder.data, 64), "rw-", b"new data", ".data"))
    return Hotpatch(
        name=name or path.name,
        path=str(path),
        old_build_id=BuildId(build_id),
        new_build_id=BuildId("ab" * 20),
        old_extent=extent(low, high - low),
        new_extent=extent(low, max(high, page_ceil(builder.data + 64)) - low),
        segments=tuple(segments),
        relocations=tuple(sorted(builder.relocations, key=lambda r: r.address)),
        functions=tuple(functions),
        replaced=tuple(replaced),
        redirections=tuple(redirections),
        statistics=Statistics(0, len(answers), 0, 0, (), 0, 0),
        verdict=Verdict.HOTPATCH,
        cves=("CVE-2026-0001",),
        versions=("1", "2"),
        variables=(),
    )
