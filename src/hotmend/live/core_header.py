"""An ELF header in a shadow's first page, by which readers of core files know the shadow.

libdw (eu-stack, systemd-coredump) looks for ELF headers at the beginning of a core's segments. The page in front of the
shadow's own header, otherwise only a guard, has one: program headers for the runs of pages, the table of frame
descriptions (`PT_GNU_EH_FRAME`), and as many names of new functions as there is room for. Addresses count from there.
"""

from __future__ import annotations

import struct

from hotmend.live.gate import HeaderRecord
from hotmend.model.addresses import PAGE_BYTES

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_SYM = struct.Struct("<IBBHQQ")
_DYN = struct.Struct("<QQ")
_IDENT = b"\x7fELF\x02\x01\x01" + bytes(9)
_ET_DYN, _EM_X86_64 = 3, 62
_PT_LOAD, _PT_DYNAMIC, _PT_GNU_EH_FRAME = 1, 2, 0x6474E550
_FLAGS = {"r--": 4, "rw-": 6, "r-x": 5}
_DT_NULL, _DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SYMENT = 0, 4, 5, 6, 10, 11
_GLOBAL_FUNCTION = 0x12
_DYNAMIC_ENTRIES = 6
_HASH_WORDS = 5
_NAME_BYTES_MAX = 256
_REGIONS_MAX = 32


def core_header(record: HeaderRecord, table_bytes: int) -> bytes:
    """Return what stands in the first page; b"" where there are too many runs of pages for it.

    Args:
        record: header of the shadow.
        table_bytes: size of its sorted table of frame descriptions; 0 where it has none.
    """
    if len(record.regions) > _REGIONS_MAX:
        return b""
    headers = [_load(0, record.regions[0].end - record.start, "r--")]
    headers += [_load(r.start - record.start, r.end - r.start, r.permissions) for r in record.regions[1:]]
    if record.frames is not None and table_bytes:
        headers.append(_header(_PT_GNU_EH_FRAME, 4, record.frames.table - record.start, table_bytes, 4))
    at = _EHDR.size + _PHDR.size * (len(headers) + 1)
    dynamic = _names(record, at)
    headers.append(_header(_PT_DYNAMIC, 4, at, _DYN.size * _DYNAMIC_ENTRIES, 8))
    sizes = (_EHDR.size, _PHDR.size, len(headers), 0, 0, 0)
    return _EHDR.pack(_IDENT, _ET_DYN, _EM_X86_64, 1, 0, _EHDR.size, 0, 0, *sizes) + b"".join(headers) + dynamic


def _header(kind: int, flags: int, offset: int, size: int, align: int) -> bytes:
    return _PHDR.pack(kind, flags, offset, offset, offset, size, size, align)


def _load(offset: int, size: int, permissions: str) -> bytes:
    return _header(_PT_LOAD, _FLAGS[permissions], offset, size, PAGE_BYTES)


def _names(record: HeaderRecord, at: int) -> bytes:
    """Return the dynamic section for offset `at`, and behind it hash table, symbols and names."""
    room = PAGE_BYTES - at - _DYN.size * _DYNAMIC_ENTRIES - 4 * (_HASH_WORDS + 1) - _SYM.size - 1
    symbols, strings = bytearray(_SYM.size), bytearray(1)
    for function in record.functions:
        name = function.name.encode("utf-8", "replace")[:_NAME_BYTES_MAX].replace(b"\0", b"?") + b"\0"
        room -= _SYM.size + len(name)
        if room < 0:
            break
        # Any section number but 0 says that it is defined here.
        place = function.address - record.start
        symbols += _SYM.pack(len(strings), _GLOBAL_FUNCTION, 0, 1, place, function.size)
        strings += name
    count = len(symbols) // _SYM.size
    # One bucket without a chain: its only use is to say how many symbols there are.
    table = struct.pack(f"<{_HASH_WORDS + 1}I", 1, count, 0, 0, 0, 0)
    hashes = at + _DYN.size * _DYNAMIC_ENTRIES
    entries = (
        (_DT_HASH, hashes),
        (_DT_SYMTAB, hashes + len(table)),
        (_DT_STRTAB, hashes + len(table) + len(symbols)),
        (_DT_STRSZ, len(strings)),
        (_DT_SYMENT, _SYM.size),
        (_DT_NULL, 0),
    )
    return b"".join(_DYN.pack(*entry) for entry in entries) + table + bytes(symbols) + bytes(strings)
