"""All processes at once: who each is, which images it maps at which build, and what stands at their paths now.

The same facts as in `process`, for hundreds of processes in one go. Identity is still read from each process's own
memory; what is the same for many is worked out once: equal first bytes of an image say the same, and a path in one
mount namespace is one file.

A path is the kernel's for the whole mount namespace, whatever root a process has given itself (chroot(2), as haproxy
and others do): it is opened under the root of any process of that namespace from which it can be reached.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from hotmend.linux import procfs, sys
from hotmend.linux.process import ProgramHeader, code_places, file_build_id, parse_build_id, read_program_headers
from hotmend.model.addresses import PAGE_BYTES, BuildId, page_floor
from hotmend.model.errors import HotmendError, PermissionRefusedError

_HEAD_BYTES: Final = 1024
_PT_LOAD, _PT_NOTE = 1, 4
_AUXILIARY, _AT_PHDR, _AT_EXECFN = struct.Struct("<QQ"), 3, 31
_MAPS_BYTES_MAX: Final = 1 << 28
_TEXT_BYTES_MAX: Final = 1 << 16
_NOTE_BYTES_MAX: Final = 1 << 16

_FIRST = re.compile(rb"^([0-9a-f]+)-[0-9a-f]+ r... 0+ (\S+ [1-9]\d*) +(.+)$", re.MULTILINE)
_RUNNABLE = re.compile(rb"^([0-9a-f]+)-\S+ ..x. ([0-9a-f]+) (\S+ [1-9]\d*) ", re.MULTILINE)
_HIDDEN = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) r-.p 0+ 00:00 0 *$", re.MULTILINE)
_VERSION_PART = re.compile(r"\.\d+$")


@dataclass(frozen=True, slots=True)
class SeenImage:
    """An ELF image that a process maps.

    Attributes:
        path: as the kernel prints it for the process, without ` (deleted)`.
        build_id: from memory; "" where the image has none.
        bias: load address minus link address, in bytes.
        deleted: the mapped file is no longer at that path.
        disk_path: where the file of that name is now; another path where a library's file has the next version's name;
            "" where nobody's root leads there, so that it is not known.
        disk_build_id: build-id of what is there; "" where it has none, None where there is no readable ELF file.
    """

    path: str
    build_id: BuildId
    bias: int
    deleted: bool
    disk_path: str
    disk_build_id: BuildId | None


@dataclass(frozen=True, slots=True)
class SeenProcess:
    """A process.

    Attributes:
        pid, comm, start_time_ticks: which.
        cgroup: what /proc/PID/cgroup says; "" where it cannot be read.
        namespaces: whether its process numbers, and its mounts, are those of this process.
        images: lowest address first.
        hidden: anonymous ranges that it may read and not write: what hotmend places is among them.
    """

    pid: int
    comm: str
    start_time_ticks: int
    cgroup: str
    namespaces: tuple[bool, bool]
    images: tuple[SeenImage, ...]
    hidden: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Census:
    """What was seen.

    Attributes:
        processes: those that map an image, sorted by pid.
        unseen: pids that this user may not look at.
    """

    processes: tuple[SeenProcess, ...]
    unseen: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Head:
    """What an image's first bytes say: link address of its first page, where notes are, build-id if they hold it.

    `code` is from `code_places`.
    """

    address: int
    notes: tuple[ProgramHeader, ...]
    build_id: BuildId
    code: tuple[int, ...]


class _Taker:
    """One census. What it remembers holds for the moment it takes, no longer."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._heads: dict[bytes, _Head | None] = {}
        self._files: dict[str, dict[str, tuple[str, BuildId | None]]] = {}
        self._mounts, self._numbers = procfs.namespace(os.getpid(), "mnt"), procfs.namespace(os.getpid(), "pid")
        self._mounts_of = {pid: procfs.namespace(pid, "mnt") for pid in pids}
        self._roots: dict[str, dict[str, str]] = {self._mounts: {"": ""}}
        self._held: list[int] = []
        for pid, mounts in self._mounts_of.items():
            if mounts and mounts != self._mounts:
                self._hold(pid, self._roots.setdefault(mounts, {}))

    def __enter__(self) -> _Taker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for descriptor in self._held:
            os.close(descriptor)

    def _hold(self, pid: int, roots: dict[str, str]) -> None:
        """Keep the root of a process, if it is a further one: the process may end before it is needed."""
        try:
            root = os.readlink(f"/proc/{pid}/root").rstrip("/")
            if root not in roots:
                self._held.append(os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
                roots[root] = f"/proc/self/fd/{self._held[-1]}"
        except OSError:
            return

    def process(self, pid: int) -> SeenProcess | None:
        """Return a process; None where it maps no image, as threads of the kernel do not.

        Raises:
            ProcessGoneError, PermissionRefusedError: as they say.
        """
        stat = procfs.read_stat(pid)
        maps = procfs.read_bytes(pid, "maps", _MAPS_BYTES_MAX)
        runnable: dict[bytes, set[int]] = {}
        for place, offset, file in _RUNNABLE.findall(maps):
            runnable.setdefault(file, set()).add(int(place, 16) - int(offset, 16))
        firsts = [(int(m[1], 16), m[3], runnable[m[2]]) for m in _FIRST.finditer(maps) if m[2] in runnable]
        if not firsts:
            return None
        mounts, numbers = self._mounts_of[pid], procfs.namespace(pid, "pid")
        files = self._files.setdefault(mounts, {})
        images = []
        heads = self._read_heads(pid, [start for start, _, _ in firsts])
        for (start, raw, code), head in zip(firsts, heads, strict=True):
            if head is None or not any(start + place in code for place in head.code):
                continue
            printed = raw.replace(b"\\012", b"\n").decode("utf-8", "surrogateescape")
            path = printed.removesuffix(procfs.DELETED)
            if path == "/":
                path = _executed(pid, start) or path
            if path not in files:
                place, there = _on_disk(self._roots.get(mounts, {}), path)
                files[path] = procfs.legible(place), there
            bias = start - head.address
            build_id = head.build_id or _noted(pid, bias, head.notes)
            images.append(SeenImage(procfs.legible(path), build_id, bias, printed != path, *files[path]))
        hidden = tuple((int(low, 16), int(high, 16)) for low, high in _HIDDEN.findall(maps))
        own = (numbers == self._numbers, mounts == self._mounts)
        return SeenProcess(pid, stat.comm, stat.start_time_ticks, _cgroup(pid), own, tuple(images), hidden)

    def _read_heads(self, pid: int, starts: Sequence[int]) -> list[_Head | None]:
        """Return what stands at each address, all read at once."""
        try:
            content = bytes(sys.read_ranges(pid, [(start, _HEAD_BYTES) for start in starts]))
        except OSError:
            return [self._head(_try_read(pid, start, _HEAD_BYTES)) for start in starts]
        return [self._head(content[at : at + _HEAD_BYTES]) for at in range(0, len(content), _HEAD_BYTES)]

    def _head(self, content: bytes | None) -> _Head | None:
        if content is None:
            return None
        if content not in self._heads:
            self._heads[content] = _parse_head(content)
        return self._heads[content]


def _parse_head(content: bytes) -> _Head | None:
    """Return what an image's first bytes say; None where they are none."""

    def read(offset: int, size: int) -> bytes | None:
        part = content[offset : offset + size]
        return part if len(part) == size else None

    headers = read_program_headers(read, 0)
    first = next((h for h in headers if h.kind == _PT_LOAD and h.offset == 0), None)
    if first is None:
        return None
    notes = tuple(h for h in headers if h.kind == _PT_NOTE and h.file_size <= _NOTE_BYTES_MAX)
    base = page_floor(first.address)
    held = (read(note.address - base, note.file_size) for note in notes if note.address >= base)
    found = (parse_build_id(content) for content in held if content)
    build_id = next((build_id for build_id in found if build_id), BuildId(""))
    return _Head(base, notes, build_id, code_places(headers))


def _noted(pid: int, bias: int, notes: Sequence[ProgramHeader]) -> BuildId:
    """Return the build-id of an image whose first bytes do not hold it."""
    for note in notes:
        if found := parse_build_id(_try_read(pid, note.address + bias, note.file_size) or b""):
            return found
    return BuildId("")


def _try_read(pid: int, address: int, size: int) -> bytes | None:
    try:
        return bytes(sys.read_ranges(pid, [(address, size)]))
    except OSError:
        return None


def _executed(pid: int, start: int) -> str:
    """Return the name by which a process's program was started, if its image is the one at `start`; else "".

    A file that is a mount of its own, as the service manager's ExecPaths= makes them, has lost its name once it is
    replaced on the disk.
    """
    try:
        words = procfs.read_bytes(pid, "auxv", _TEXT_BYTES_MAX)
    except HotmendError:
        return ""
    facts = dict(_AUXILIARY.iter_unpack(words[: len(words) // _AUXILIARY.size * _AUXILIARY.size]))
    headers, name = facts.get(_AT_PHDR, 0), facts.get(_AT_EXECFN, 0)
    if not start <= headers < start + PAGE_BYTES or not name:
        return ""
    text = (_try_read(pid, name, PAGE_BYTES - name % PAGE_BYTES) or b"").partition(b"\0")[0]
    path = text.decode("utf-8", "surrogateescape")
    return path if path.startswith("/") else ""


def _on_disk(roots: Mapping[str, str], path: str) -> tuple[str, BuildId | None]:
    """Return the file that has a path's name now, and its build-id; "" and None where no root leads there.

    Libraries change their file's name with their version, `libexpat.so.1.8.10`: what programs ask for is the shorter
    name that leads to it.

    Args:
        roots: path of a root in the mount namespace, and where it can be opened from here.
        path: of the file, in the mount namespace.
    """
    above = next((root for root in sorted(roots, key=len) if path.startswith(f"{root}/")), None)
    if above is None:
        return "", None
    while True:
        found = file_build_id(Path(path.removeprefix(above)), Path(roots[above] or "/"))
        shorter = _VERSION_PART.sub("", path)
        if found is not None or shorter == path or ".so" not in shorter:
            return path, found
        path = shorter


def _cgroup(pid: int) -> str:
    try:
        return procfs.control_group(pid)
    except HotmendError:
        return ""


def take_census() -> Census:
    """Look at every process. Those that end meanwhile are left out."""
    pids = procfs.list_processes()
    found: list[SeenProcess] = []
    unseen: list[int] = []
    with _Taker(pids) as taker:
        for pid in pids:
            try:
                process = taker.process(pid)
            except PermissionRefusedError:
                unseen.append(pid)
            except HotmendError:
                continue
            else:
                if process is not None:
                    found.append(process)
    return Census(tuple(found), tuple(unseen))
