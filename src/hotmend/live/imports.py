"""Resolving an import in a running process as its dynamic linker would, from the process's memory alone.

The order is that of the link map; objects outside of the executable's and the image's own dependencies count only if
the symbol is defined in just one of them, and if that one stays. The dynamic linker would note that the image uses it,
so that dlclose does not take it away; nobody can note that later. An IFUNC's symbol value is a resolver, not a
function: its result is copied from a slot that the dynamic linker has already filled for the same symbol, or the import
is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hotmend.linux import procfs
from hotmend.linux.memory import ProcessMemory
from hotmend.linux.process import MappedImage
from hotmend.linux.procfs import Mapping
from hotmend.model.hotpatch import ImportTarget
from hotmend.model.verdict import Reason, refusal

_SYMBOL = struct.Struct("<IBBHQQ")
_RELA = struct.Struct("<QQq")
_NEEDED, _PLTRELSZ, _HASH, _STRTAB, _SYMTAB, _RELA_TABLE, _RELASZ = 1, 2, 4, 5, 6, 7, 8
_STRSZ, _SONAME, _DEBUG, _JMPREL = 10, 14, 21, 23
_GNU_HASH, _VERSYM, _VERDEF, _VERDEFNUM = 0x6FFFFEF5, 0x6FFFFFF0, 0x6FFFFFFC, 0x6FFFFFFD
_FLAGS_1, _NODELETE = 0x6FFFFFFB, 8
_VERNEED, _VERNEEDNUM = 0x6FFFFFFE, 0x6FFFFFFF
_POINTERS = frozenset({_HASH, _STRTAB, _SYMTAB, _RELA_TABLE, _JMPREL, _GNU_HASH, _VERSYM, _VERDEF, _VERNEED})
_GLOB_DAT, _JUMP_SLOT = 6, 7
_DEBUG_BYTES = 40
_STT_TLS, _STT_IFUNC = 6, 10
_ENTRIES_MAX, _MAPS_MAX, _STRING_BYTES_MAX, _TABLE_BYTES_MAX = 256, 4096, 4096, 64 << 20


@dataclass(frozen=True, slots=True)
class Symbol:
    """A definition. `value` is a load address."""

    value: int
    kind: int


@dataclass(slots=True)
class Library:
    """One object of the process's link map, read from memory.

    Attributes:
        name: as the dynamic linker loaded it; "" for the executable.
        bias: load address minus link address.
        tags: dynamic section; values of pointers are load addresses.
        needed: names of its dependencies.
    """

    memory: ProcessMemory
    name: str
    bias: int
    tags: dict[int, int]
    needed: tuple[str, ...] = ()
    _strings: bytes = field(default=b"", repr=False)
    _versions: dict[int, str] | None = field(default=None, repr=False)

    def strings(self) -> bytes:
        """Return the dynamic string table."""
        if not self._strings and self.tags.get(_STRSZ, 0) <= _TABLE_BYTES_MAX:
            self._strings = self.memory.try_read(self.tags.get(_STRTAB, 0), self.tags.get(_STRSZ, 0)) or b""
        return self._strings

    def string(self, offset: int) -> str:
        """Return one string of the table."""
        table = self.strings()
        end = table.find(b"\0", offset)
        return table[offset : end if end >= 0 else None].decode("utf-8", "replace")

    def soname(self) -> str:
        """Return the name others depend on it by."""
        return self.string(self.tags[_SONAME]) if _SONAME in self.tags else self.name.rsplit("/", 1)[-1]

    def symbol(self, index: int) -> tuple[str, int, int, int, int]:
        """Return name, info, other, section and value of a dynamic symbol."""
        raw = self.memory.try_read(self.tags.get(_SYMTAB, 0) + index * _SYMBOL.size, _SYMBOL.size)
        if raw is None:
            return "", 0, 0, 0, 0
        name, info, other, section, value, _ = _SYMBOL.unpack(raw)
        return self.string(name), info, other, section, value

    def version_of(self, index: int) -> tuple[str, bool] | None:
        """Return the version a symbol is defined with and whether it is hidden; None without versions."""
        if _VERSYM not in self.tags:
            return None
        raw = self.memory.try_read(self.tags[_VERSYM] + 2 * index, 2) or b"\0\0"
        number = int.from_bytes(raw, "little")
        if self._versions is None:
            self._versions = {**dict(self._read_needed_versions()), **dict(self._read_versions())}
        return self._versions.get(number & 0x7FFF, ""), number & 0x8000 != 0

    def _read_versions(self) -> Iterator[tuple[int, str]]:
        """Yield `(index, name)` of the versions this object defines; the base version (its own name) is ""."""
        position = self.tags.get(_VERDEF, 0)
        for _ in range(min(self.tags.get(_VERDEFNUM, 0), _ENTRIES_MAX * 16)):
            raw = self.memory.try_read(position, 20)
            if raw is None:
                return
            _, flags, index, _, _, auxiliary, following = struct.unpack("<HHHHIII", raw)
            name = self.memory.try_read(position + auxiliary, 4) or b"\0\0\0\0"
            yield index, "" if flags & 1 else self.string(int.from_bytes(name, "little"))
            if not following:
                return
            position += following

    def _read_needed_versions(self) -> Iterator[tuple[int, str]]:
        """Yield `(index, name)` of the versions this object needs: a copy of another's variable is defined with one."""
        position = self.tags.get(_VERNEED, 0)
        for _ in range(min(self.tags.get(_VERNEEDNUM, 0), _ENTRIES_MAX)):
            raw = self.memory.try_read(position, 16)
            if raw is None:
                return
            _, count, _, auxiliary, following = struct.unpack("<HHIII", raw)
            at = position + auxiliary
            for _ in range(min(count, _ENTRIES_MAX * 16)):
                raw = self.memory.try_read(at, 16)
                if raw is None:
                    return
                _, _, index, name, further = struct.unpack("<IHHII", raw)
                yield index & 0x7FFF, self.string(name)
                if not further:
                    break
                at += further
            if not following:
                return
            position += following

    def candidates(self, name: str) -> Iterator[int]:
        """Yield indices of dynamic symbols that may be called `name`."""
        if _GNU_HASH in self.tags:
            yield from self._gnu_candidates(name)
        elif _HASH in self.tags:
            count = int.from_bytes(self.memory.try_read(self.tags[_HASH] + 4, 4) or b"", "little")
            yield from range(min(count, _TABLE_BYTES_MAX // _SYMBOL.size))

    def _gnu_candidates(self, name: str) -> Iterator[int]:
        """Walk the chain of one GNU hash bucket."""
        wanted = 5381
        for byte in name.encode():
            wanted = (wanted * 33 + byte) & 0xFFFFFFFF
        base = self.tags[_GNU_HASH]
        buckets, first, bloom, _ = struct.unpack("<4I", self.memory.try_read(base, 16) or bytes(16))
        if not buckets:
            return
        table = base + 16 + 8 * bloom
        index = int.from_bytes(self.memory.try_read(table + 4 * (wanted % buckets), 4) or b"", "little")
        while index >= first > 0:
            raw = self.memory.try_read(table + 4 * buckets + 4 * (index - first), 4)
            if raw is None:
                return
            found = int.from_bytes(raw, "little")
            if found | 1 == wanted | 1:
                yield index
            if found & 1:
                return
            index += 1

    def lookup(self, name: str, version: str) -> Symbol | None:
        """Return the definition of `name` that a reference to `version` binds to."""
        for index in self.candidates(name):
            found, info, other, section, value = self.symbol(index)
            kind = info & 15
            if found != name or info >> 4 not in (1, 2, 10) or other & 3 in (1, 2):
                continue
            if (section == 0 and value == 0) or (section == 0 and kind == _STT_IFUNC):
                continue
            defined = self.version_of(index) if section else None
            if section and defined is not None:
                if version and defined[0] != version and (defined[0] or defined[1]):
                    continue  # a definition without a version stands for all: of the executable, of a preloaded malloc
                if not version and defined[1]:
                    continue
            elif not section and not value:
                continue
            return Symbol(value if section == 0xFFF1 else self.bias + value, kind)
        return None

    def slots(self, name: str = "") -> Iterator[int]:
        """Yield the values of the slots the dynamic linker filled for the symbol `name` in this object; "": for all."""
        tables = ((_RELA_TABLE, _RELASZ), (_JMPREL, _PLTRELSZ))
        for start, size in tables:
            length = min(self.tags.get(size, 0), _TABLE_BYTES_MAX)
            raw = self.memory.try_read(self.tags.get(start, 0), length) or b""
            for offset, info, _ in _RELA.iter_unpack(raw[: len(raw) // _RELA.size * _RELA.size]):
                if info & 0xFFFFFFFF in (_GLOB_DAT, _JUMP_SLOT) and name in ("", self.symbol(info >> 32)[0]):
                    yield int.from_bytes(self.memory.try_read(self.bias + offset, 8) or b"", "little")


def _read_dynamic(memory: ProcessMemory, address: int, bias: int) -> dict[int, int]:
    """Return the dynamic section at a load address; pointers that the linker left relative are made load addresses."""
    tags: dict[int, int] = {}
    needed = 0
    for index in range(_ENTRIES_MAX):
        raw = memory.try_read(address + 16 * index, 16)
        if raw is None:
            break
        tag, value = struct.unpack("<QQ", raw)
        if tag == 0:
            break
        if tag == _NEEDED:
            tags[-1 - needed] = value
            needed += 1
            continue
        tags[tag] = value + bias if tag in _POINTERS and value < bias else value
    return tags


def _read_string(memory: ProcessMemory, address: int) -> str:
    """Return the NUL-terminated string at a load address."""
    text = b""
    while len(text) < _STRING_BYTES_MAX:
        size = min(256, 4096 - address % 4096)
        part = memory.try_read(address, size)
        if part is None:
            break
        head, end, _ = part.partition(b"\0")
        text += head
        if end:
            break
        address += size
    return text.decode("utf-8", "replace")


def read_link_map(memory: ProcessMemory, executable: MappedImage) -> tuple[Library, ...]:
    """Return the objects of the process in the dynamic linker's order; () for a static executable."""
    tags = _read_dynamic(memory, executable.dynamic, executable.bias) if executable.dynamic else {}
    debug = memory.try_read(tags.get(_DEBUG, 0), _DEBUG_BYTES)
    if debug is None or not tags.get(_DEBUG):
        return ()
    node = int.from_bytes(debug[8:16], "little")
    libraries: list[Library] = []
    while node and len(libraries) < _MAPS_MAX:
        raw = memory.try_read(node, 40)
        if raw is None:
            break
        bias, name, dynamic, node, _ = struct.unpack("<5Q", raw)
        text = _read_string(memory, name)
        if text.startswith("linux-vdso"):
            continue
        library = Library(memory, text, bias, _read_dynamic(memory, dynamic, bias))
        library.needed = tuple(library.string(value) for tag, value in sorted(library.tags.items()) if tag < 0)
        libraries.append(library)
    return tuple(libraries)


def linker_at_rest(memory: ProcessMemory, images: Sequence[MappedImage]) -> bool:
    """Tell whether the dynamic linker has loaded and relocated all that it was asked for (`RT_CONSISTENT`).

    A static executable has none: it is always at rest.
    """
    for image in images:
        tags = _read_dynamic(memory, image.dynamic, image.bias) if image.dynamic else {}
        if _DEBUG in tags:
            debug = memory.try_read(tags[_DEBUG], _DEBUG_BYTES) if tags[_DEBUG] else None
            return debug is not None and debug[8:16] != bytes(8) and debug[24:28] == bytes(4)
    return True


def _closure(root: Library, libraries: Sequence[Library]) -> set[int]:
    """Return the `id` of an object and of all that it needs."""
    names = {library.soname(): library for library in reversed(libraries)}
    seen, queue = {id(root)}, [root]
    while queue:
        for name in queue.pop().needed:
            library = names.get(name)
            if library is not None and id(library) not in seen:
                seen.add(id(library))
                queue.append(library)
    return seen


def scopes(libraries: Sequence[Library], bias: int) -> tuple[tuple[Library, ...], tuple[Library, ...]]:
    """Return the objects an image (by its bias) surely sees, in order, and all others.

    Sure are: the executable with its dependencies, what was loaded between them (LD_PRELOAD), and the image's own
    dependencies. The others may be visible (RTLD_GLOBAL) or not.
    """
    if not libraries:
        return (), ()
    start = _closure(libraries[0], libraries)
    last = max(index for index, library in enumerate(libraries) if id(library) in start)
    own = next((library for library in libraries if library.bias == bias), None)
    local = _closure(own, libraries) if own is not None else set()
    head = libraries[: last + 1]
    tail = [library for library in libraries[last + 1 :] if id(library) in local]
    others = [library for library in libraries[last + 1 :] if id(library) not in local]
    return (*head, *tail), tuple(others)


def resolve(
    wanted: ImportTarget, libraries: Sequence[Library], image_bias: int, maps: tuple[Mapping, ...]
) -> int | Reason:
    """Return the load address an import binds to (0 for an unresolved weak one), or why it cannot be known."""
    text = f"{wanted.name}@{wanted.version}" if wanted.version else wanted.name
    sure, others = scopes(libraries, image_bias)
    found = next((s for library in sure if (s := library.lookup(wanted.name, wanted.version))), None)
    if found is None:
        several = [(library, s) for library in others if (s := library.lookup(wanted.name, wanted.version))]
        if len(several) > 1:
            return refusal("import-ambiguous", f"several loaded libraries export {text}; which one counts is unknown")
        if several:
            (library, found), *_ = several
            if id(library) not in _staying(libraries, others, image_bias, maps):
                sentence = (
                    f"the new code needs {text} of {library.name}, which the process may close: nothing keeps it for "
                    "the image that is to use it; restart it"
                )
                return refusal("import-may-go", sentence, text)
    if found is None:
        if wanted.weak:
            return 0
        return refusal(
            "import-missing", f"the new code needs {text}, which no image of the process exports; restart it", text
        )
    if found.kind == _STT_TLS:
        return refusal("import-is-tls", f"the new code needs {text}, a thread-local variable of another image", text)
    if found.kind != _STT_IFUNC:
        return found.value
    return _resolved_ifunc(wanted.name, text, found.value, libraries, maps)


def _staying(
    libraries: Sequence[Library], others: Sequence[Library], image_bias: int, maps: tuple[Mapping, ...]
) -> set[int]:
    """Return the `id` of those of `others` that stay for as long as an image (by its bias) does.

    They cannot be closed at all (DF_1_NODELETE), or the dynamic linker has bound a slot of the image to them, and keeps
    them and what they need for it.
    """
    own = next((library for library in libraries if library.bias == image_bias), None)
    bound = {_file(maps, value) for value in own.slots()} if own is not None else set()
    kept = [x for x in others if x.tags.get(_FLAGS_1, 0) & _NODELETE or _file(maps, x.tags.get(_STRTAB, 0)) in bound]
    return {id(x) for x in others} & set().union(*(_closure(root, libraries) for root in kept))


def _file(maps: tuple[Mapping, ...], address: int) -> tuple[str, int]:
    """Return which file is mapped at a load address; one that is none's own where none is."""
    mapping = procfs.find_mapping(maps, address)
    return (mapping.device, mapping.inode) if mapping is not None and mapping.inode else ("", address)


def _resolved_ifunc(
    name: str, text: str, resolver: int, libraries: Sequence[Library], maps: tuple[Mapping, ...]
) -> int | Reason:
    """Return the function an IFUNC was resolved to, from a slot that some image already uses."""
    home = procfs.find_mapping(maps, resolver)
    for library in libraries:
        for value in library.slots(name):
            mapping = procfs.find_mapping(maps, value)
            # A slot that was never called through still points back into its own image's PLT.
            if mapping is not None and home is not None and mapping.executable and mapping.inode == home.inode:
                return value
    return refusal(
        "import-unresolved-ifunc",
        f"the new code needs {text}, which the C library chooses at run time, and no image has used it yet",
        text,
    )
