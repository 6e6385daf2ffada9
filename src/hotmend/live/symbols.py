"""What debuggers, profilers and unwinders are told of new code: they know files, and a shadow is none.

A *symbol file* is a small ELF file with the shadow's own addresses: symbols of new functions and stubs, and their
frame descriptions; no code, which memory has. gdb takes it with `add-symbol-file`, libdw as one more module. perf reads
a list of names by address (`perf-PID.map`). All of it comes from the process's memory, or from a core file.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from hotmend.linux.memory import ProcessMemory
from hotmend.linux.process import MappedImage
from hotmend.linux.procfs import Mapping
from hotmend.linux.unwind import Unwinder
from hotmend.live.frames import Read, read_descriptions, section_of
from hotmend.live.gate import FunctionRecord, HeaderRecord, find_shadows
from hotmend.model.addresses import JUMP_BYTES, PAGE_BYTES

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_SHDR = struct.Struct("<IIQQQQIIQQ")
_SYM = struct.Struct("<IBBHQQ")
_IDENT = b"\x7fELF\x02\x01\x01" + bytes(9)
_ET_EXEC, _EM_X86_64, _PT_LOAD = 2, 62, 1
_PROGBITS, _SYMTAB, _STRTAB, _NOBITS = 1, 2, 3, 8
_ALLOC, _EXECUTE = 2, 4
_LOCAL_FUNCTION = 2
_ALIGN = 8


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    kind: int
    flags: int
    address: int
    size: int
    content: bytes = b""
    link: int = 0
    info: int = 0
    entry_bytes: int = 0


@dataclass(slots=True)
class _Strings:
    content: bytearray = field(default_factory=lambda: bytearray(1))

    def add(self, text: str) -> int:
        offset = len(self.content)
        self.content += text.encode("utf-8", "replace") + b"\0"
        return offset


def functions_of(record: HeaderRecord) -> list[FunctionRecord]:
    """Return new functions, stubs and ports of a shadow by load address; one of several at an address is enough."""
    own = (p for p in record.ports if record.start <= p.address < record.end)
    named = {p.address: FunctionRecord(f"port.{p.name}", p.address, JUMP_BYTES) for p in own}
    named |= {e.stub: FunctionRecord(f"stub.{e.name}", e.stub, e.stub_size) for e in record.entries}
    named |= {f.address: f for f in record.functions}
    return [named[address] for address in sorted(named)]


def symbol_file(record: HeaderRecord, read: Read) -> bytes:
    """Return the symbol file of a shadow.

    Args:
        record: its header.
        read: reads the process's memory.
    """
    code = [region for region in record.regions if region.permissions == "r-x"]
    sections = [
        _Section(f".text.{n}" if n else ".text", _NOBITS, _ALLOC | _EXECUTE, r.start, r.end - r.start)
        for n, r in enumerate(code)
    ]
    strings, symbols = _Strings(), bytearray(_SYM.size)
    for function in functions_of(record):
        number = next((n for n, r in enumerate(code) if r.start <= function.address < r.end), None)
        if number is not None:
            name = strings.add(function.name)
            symbols += _SYM.pack(name, _LOCAL_FUNCTION, 0, 1 + number, function.address, function.size)
    if record.frames is not None:
        frames = section_of(read_descriptions(read, record.frames.table), record.frames.table)
        sections.append(_Section(".eh_frame", _PROGBITS, _ALLOC, record.frames.table, len(frames), frames))
    count, table = len(symbols) // _SYM.size, len(sections) + 1
    sections.append(_Section(".symtab", _SYMTAB, 0, 0, len(symbols), bytes(symbols), table + 1, count, _SYM.size))
    sections.append(_Section(".strtab", _STRTAB, 0, 0, len(strings.content), bytes(strings.content)))
    return _file(sections, [(r.start, r.end) for r in code])


def _file(sections: list[_Section], loads: Sequence[tuple[int, int]]) -> bytes:
    """Return the ELF file: header, program headers, contents, section headers."""
    names = _Strings()
    offsets = [names.add(section.name) for section in sections]
    own = names.add(".shstrtab")
    sections = [*sections, _Section(".shstrtab", _STRTAB, 0, 0, len(names.content), bytes(names.content))]
    data, headers = bytearray(_EHDR.size + _PHDR.size * len(loads)), [bytes(_SHDR.size)]
    for name, s in zip([*offsets, own], sections, strict=True):
        data += bytes(-len(data) % _ALIGN)
        row = (name, s.kind, s.flags, s.address, len(data), s.size, s.link, s.info, _ALIGN, s.entry_bytes)
        headers.append(_SHDR.pack(*row))
        data += s.content
    data += bytes(-len(data) % _ALIGN)
    sizes = (_EHDR.size, _PHDR.size, len(loads), _SHDR.size, len(headers), len(headers) - 1)
    entry = loads[0][0] if loads else 0
    _EHDR.pack_into(data, 0, _IDENT, _ET_EXEC, _EM_X86_64, 1, entry, _EHDR.size, len(data), 0, *sizes)
    for number, (start, end) in enumerate(loads):
        place = _EHDR.size + number * _PHDR.size
        _PHDR.pack_into(data, place, _PT_LOAD, 5, 0, start, start, 0, end - start, PAGE_BYTES)
    return bytes(data) + b"".join(headers)


def unwinder_of(memory: ProcessMemory, images: tuple[MappedImage, ...], maps: tuple[Mapping, ...]) -> Unwinder:
    """Return an unwinder that knows the complete shadows of a process; the caller closes it."""
    unwinder = Unwinder(memory.pid, images, maps)
    add_shadows(unwinder, memory, [shadow.record for shadow in find_shadows(memory, maps) if shadow.placed])
    return unwinder


def add_shadows(unwinder: Unwinder, memory: ProcessMemory, records: Sequence[HeaderRecord]) -> None:
    """Tell an unwinder of complete shadows, and let it read their descriptions."""
    if records:
        unwinder.add([symbol_file(record, memory.try_read) for record in records])
        unwinder.warm(function.address for record in records for function in record.functions[:1])


def perf_map(records: Sequence[HeaderRecord]) -> str:
    """Return the list of names that perf reads: start and size in hexadecimal, and the name."""
    lines = [(f.address, f.size, f.name) for record in records for f in functions_of(record)]
    return "".join(f"{start:x} {size:x} {name}\n" for start, size, name in sorted(lines))


def gdb_script(files: Sequence[tuple[str, HeaderRecord]]) -> str:
    """Return gdb commands that load symbol files, given by path."""
    lines = []
    for path, r in files:
        lines.append(f"# {r.name}, hotpatch {r.hotpatch_id}; with the debug file of build {r.new_build_id}:")
        lines.append(f"# add-symbol-file DEBUG-FILE -o {r.shadow_bias % 2**64:#x}")
        lines.append('add-symbol-file "' + path.replace("\\", "\\\\").replace('"', '\\"') + '"')
    return "".join(line + "\n" for line in lines)
