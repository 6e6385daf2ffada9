"""Which running processes map which ELF image, at which build-id, and where.

Identity is read from the memory of the mapping, never from the file at the mapped path: that file may have been
replaced by an update, deleted, or belong to another mount namespace. The file that stands at the path *now* (seen
through /proc/PID/root) is the second fact: where its build-id differs, the process runs older code.
"""

from __future__ import annotations

import functools
import os
import re
import stat as modes
import struct
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path

from hotmend.linux import procfs, sys
from hotmend.linux.memory import ProcessMemory
from hotmend.linux.procfs import Mapping
from hotmend.model.addresses import PAGE_BYTES, BuildId, page_ceil, page_floor
from hotmend.model.errors import HotmendError

_HEADER = struct.Struct("<4sBB10xHHIQQQIHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_PT_LOAD, _PT_DYNAMIC, _PT_NOTE = 1, 2, 4
_EM_X86_64 = 62
_PF_X = 1
_NT_GNU_BUILD_ID = 3
_PROGRAM_HEADERS_MAX = 128
_NOTE_BYTES_MAX = 1 << 16
_CACHE_MAX = 4096
_HERE = Path("/")

Read = Callable[[int, int], bytes | None]
"""Read `(offset or address, bytes)`; None where they are not all there."""


@dataclass(frozen=True, slots=True)
class ProgramHeader:
    """One entry of the program header table; link addresses and sizes in bytes."""

    kind: int
    offset: int
    address: int
    file_size: int
    memory_size: int
    executable: bool = False


@dataclass(frozen=True, slots=True)
class MappedImage:
    """An ELF image as one process has it in memory.

    Attributes:
        pid: process.
        comm: name of the process.
        path: as the kernel prints it for the process, without ` (deleted)`.
        build_id: from memory; "" where the image has none.
        bias: load address minus link address, in bytes.
        start, end: load addresses of its first and behind its last PT_LOAD page.
        deleted: whether the mapped file is no longer at that path.
        disk_build_id: build-id of the file now at the path in the process's mount namespace; None where there
            is no readable ELF file any more.
        dynamic: load address of its dynamic section; 0 where it has none.
    """

    pid: int
    comm: str
    path: str
    build_id: BuildId
    bias: int
    start: int
    end: int
    deleted: bool
    disk_build_id: BuildId | None
    dynamic: int

    @property
    def outdated(self) -> bool:
        """Whether the process runs other code than the file at the path holds now."""
        return self.disk_build_id is not None and self.disk_build_id != self.build_id


@dataclass(frozen=True, slots=True)
class ProcessImages:
    """A process and the images it maps, lowest address first."""

    pid: int
    comm: str
    start_time_ticks: int
    images: tuple[MappedImage, ...]


def read_program_headers(read: Read, base: int) -> tuple[ProgramHeader, ...]:
    """Return the program headers of the 64-bit x86-64 ELF header at `base`; () if there is none."""
    head = read(base, 64)
    if head is None:
        return ()
    magic, bits, _, _, machine, _, _, table, _, _, _, entry_size, count = _HEADER.unpack_from(head)
    if magic != b"\x7fELF" or bits != 2 or machine != _EM_X86_64 or entry_size != _PROGRAM_HEADER.size:
        return ()
    raw = read(base + table, entry_size * count) if 0 < count <= _PROGRAM_HEADERS_MAX else None
    if raw is None:
        return ()
    return tuple(
        ProgramHeader(kind, offset, address, file_size, memory_size, flags & _PF_X != 0)
        for kind, flags, offset, address, _, file_size, memory_size, _ in _PROGRAM_HEADER.iter_unpack(raw)
    )


def code_places(headers: tuple[ProgramHeader, ...]) -> tuple[int, ...]:
    """Return for each segment of code how far from the image's start the file would begin that is mapped there.

    Who reads a file by mapping it (profilers, symbolizers) has the same header in memory, and no code where this says.
    """
    loads = [header for header in headers if header.kind == _PT_LOAD]
    base = next((page_floor(load.address) for load in loads if load.offset == 0), 0)
    return tuple(page_floor(x.address) - base - page_floor(x.offset) for x in loads if x.executable)


def parse_build_id(notes: bytes) -> BuildId:
    """Return the GNU build-id in the contents of a note segment, or ""."""
    position = 0
    while position + 12 <= len(notes):
        name_size, size, kind = struct.unpack_from("<III", notes, position)
        start = position + 12 + (name_size + 3 & -4)
        if name_size > len(notes) or size > len(notes):
            break
        if kind == _NT_GNU_BUILD_ID and notes[position + 12 : position + 16] == b"GNU\0":
            return BuildId(notes[start : start + size].hex())
        position = start + (size + 3 & -4)
    return BuildId("")


def _find_build_id(read: Read, headers: tuple[ProgramHeader, ...], where: Callable[[ProgramHeader], int]) -> BuildId:
    """Return the build-id that one of the note segments holds; `where` says at which position to read one."""
    for header in headers:
        if header.kind != _PT_NOTE or header.file_size > _NOTE_BYTES_MAX:
            continue
        build_id = parse_build_id(read(where(header), header.file_size) or b"")
        if build_id:
            return build_id
    return BuildId("")


_disk_cache: dict[tuple[int, int, int, int], BuildId | None] = {}


def root_for_paths(pid: int) -> Path:
    """Return the folder below which the paths in /proc/PID/maps are to be looked for.

    The kernel prints a path as it is from the reader's root, and in another mount namespace from that one's. A process
    that has called chroot since does not see its own files there; in another namespace a process that begot it may.
    """
    own = procfs.mount_namespace(pid)
    if own == procfs.mount_namespace(os.getpid()):
        return _HERE
    seen = pid
    try:
        while procfs.mount_namespace(seen) == own:
            root = f"/proc/{seen}/root"
            if os.readlink(root) == "/":
                return Path(root)
            seen = procfs.read_stat(seen).ppid
    except (HotmendError, OSError):
        pass
    return Path(f"/proc/{pid}/root")


def file_build_id(path: Path, root: Path = _HERE) -> BuildId | None:
    """Return the build-id of the ELF file at `path`, "" where it has none; None if there is no such file.

    Who has mapped a file may have put something else at its path: a link out of his root, a device that does something
    when it is opened. Links end inside of `root`, and only what is seen to be a file is opened for reading.

    Args:
        path: absolute.
        root: the folder that it is absolute from.
    """
    try:
        place = _find(path, root)
    except OSError:
        return None
    try:
        status = os.fstat(place)
        if not modes.S_ISREG(status.st_mode) or status.st_size < _HEADER.size:
            return None
        key = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
        if key not in _disk_cache:
            if len(_disk_cache) >= _CACHE_MAX:
                _disk_cache.clear()
            descriptor = os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                _disk_cache[key] = _read_file_build_id(descriptor)
            finally:
                os.close(descriptor)
        return _disk_cache[key]
    except OSError:
        return None
    finally:
        os.close(place)


def _find(path: Path, root: Path) -> int:
    """Return a descriptor of what is at a path, which nobody has opened (O_PATH); the caller closes it."""
    if root == _HERE:
        return os.open(path, os.O_PATH | os.O_CLOEXEC)
    folder = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return sys.open_in_root(folder, str(path), os.O_PATH)
    finally:
        os.close(folder)


def content_build_id(content: bytes) -> BuildId | None:
    """Return the build-id of a file by its content; None if it is not an ELF file of ours."""

    def read(offset: int, size: int) -> bytes | None:
        found = content[offset : offset + size] if offset >= 0 else b""
        return found if len(found) == size else None

    headers = read_program_headers(read, 0)
    return _find_build_id(read, headers, lambda header: header.offset) if headers else None


def _read_file_build_id(descriptor: int) -> BuildId | None:
    """Return the build-id of an open file; None if it is not an ELF file of ours."""

    def read(offset: int, size: int) -> bytes | None:
        try:
            content = os.pread(descriptor, size, offset)
        except OSError:
            return None
        return content if len(content) == size else None

    headers = read_program_headers(read, 0)
    return _find_build_id(read, headers, lambda header: header.offset) if headers else None


@dataclass(frozen=True, slots=True)
class _Head:
    """What the beginning of an image in memory says; link addresses.

    Attributes:
        first: of the PT_LOAD segment with the ELF header.
        end: behind the last page.
        dynamic: of the dynamic section; None where there is none.
        build_id: "" where there is none.
        code: from `code_places`.
    """

    first: int
    end: int
    dynamic: int | None
    build_id: BuildId
    code: tuple[int, ...]


def _read_head(read: Read, start: int) -> _Head | None:
    """Return the head of the image whose ELF header is at `start`; None if none is."""
    headers = read_program_headers(read, start)
    loads = [header for header in headers if header.kind == _PT_LOAD]
    first = next((load for load in loads if load.offset == 0), None)
    if first is None:
        return None
    bias = start - page_floor(first.address)
    end = max(page_ceil(load.address + load.memory_size) for load in loads)
    dynamic = next((header.address for header in headers if header.kind == _PT_DYNAMIC), None)
    build_id = _find_build_id(read, headers, lambda header: header.address + bias)
    return _Head(first.address, end, dynamic, build_id, code_places(headers))


@functools.lru_cache(maxsize=512)
def _head_of_page(page: bytes) -> _Head | None:
    """Return the head that an image's first page has; None where it does not have all of it.

    The same page begins the same image in every process: what is in it is read once.
    """
    whole = True

    def read(address: int, size: int) -> bytes | None:
        nonlocal whole
        inside = address >= 0 and address + size <= len(page)
        whole &= inside
        return page[address : address + size] if inside else None

    head = _read_head(read, 0)
    return head if whole and head is not None and head.build_id and page_floor(head.first) == 0 else None


def _head_at(memory: ProcessMemory, start: int) -> _Head | None:
    """Return the head of the image at `start` in memory."""
    page = memory.try_read(start, PAGE_BYTES)
    head = None if page is None else _head_of_page(page)
    return _read_head(memory.try_read, start) if head is None else head


def _describe_image(
    memory: ProcessMemory, mapping: Mapping, code: Container[int], comm: str, root: Path | None
) -> MappedImage | None:
    """Return the image whose ELF header stands at the start of `mapping`, or None if none does.

    Args:
        memory: of the process.
        mapping: the first of a file.
        code: load addresses at which the file would begin that code is mapped of.
        comm: the process's name.
        root: from `root_for_paths`; None: the file that is at its path now is not looked at.
    """
    head = _head_at(memory, mapping.start)
    if head is None or not any(mapping.start + place in code for place in head.code):
        return None
    bias = mapping.start - page_floor(head.first)
    path = mapping.path.removesuffix(procfs.DELETED)
    return MappedImage(
        pid=memory.pid,
        comm=comm,
        path=procfs.legible(path),
        build_id=head.build_id,
        bias=bias,
        start=mapping.start,
        end=bias + head.end,
        deleted=mapping.path.endswith(procfs.DELETED),
        disk_build_id=None if root is None else file_build_id(Path("/", path), root),
        dynamic=0 if head.dynamic is None else bias + head.dynamic,
    )


def _image_starts(maps: tuple[Mapping, ...]) -> list[tuple[Mapping, set[int]]]:
    """Return the mappings that may begin an image: offset 0 of a file of which some page can run.

    With each, where the file would begin of which such a page is.
    """
    runnable: dict[tuple[str, int], set[int]] = {}
    for m in maps:
        if m.executable and m.inode:
            runnable.setdefault((m.device, m.inode), set()).add(m.start - m.offset)
    return [
        (m, runnable[m.device, m.inode])
        for m in maps
        if m.offset == 0 and m.readable and (m.device, m.inode) in runnable
    ]


def process_images(pid: int, memory: ProcessMemory | None = None, *, disk: bool = True) -> ProcessImages:
    """Return what process `pid` maps.

    Args:
        pid: process.
        memory: of it; None: it is opened for this.
        disk: also look at the files that are at the images' paths now.

    Raises:
        ProcessGoneError, PermissionRefusedError: as they say.
    """
    stat = procfs.read_stat(pid)
    maps = procfs.read_maps(pid)
    own = memory or ProcessMemory(pid)
    try:
        root = root_for_paths(pid) if disk else None
        found = (_describe_image(own, mapping, code, stat.comm, root) for mapping, code in _image_starts(maps))
        images = tuple(image for image in found if image is not None)
    finally:
        if memory is None:
            own.close()
    return ProcessImages(pid, stat.comm, stat.start_time_ticks, images)


def processes_mapping(build_ids: Container[str] | None = None) -> list[ProcessImages]:
    """Return every process that maps an image with one of `build_ids` (None: any), with just those images.

    Processes that end meanwhile, kernel threads, and processes this user may not look at are left out.
    """
    result = []
    for pid in procfs.list_processes():
        try:
            process = process_images(pid)
        except HotmendError:
            continue
        images = tuple(i for i in process.images if build_ids is None or i.build_id in build_ids)
        if images:
            result.append(ProcessImages(pid, process.comm, process.start_time_ticks, images))
    return result


_FILE_LINE = re.compile(rb"^([0-9a-f]+)-[0-9a-f]+ (r..). ([0-9a-f]+) (\S+ [1-9]\d*) ", re.MULTILINE)


def processes_running(build_ids: Container[str]) -> list[int]:
    """Return the pids of all processes that map an image with one of `build_ids`; as `processes_mapping`, but quicker.

    Most processes are none of them: their maps are not taken apart further than that takes.
    """
    found = []
    for pid in procfs.list_processes():
        try:
            lines = _FILE_LINE.findall(procfs.read_bytes(pid, "maps", procfs.MAPS_BYTES_MAX))
            runnable = {file for _, permissions, _, file in lines if permissions[2:] == b"x"}
            starts = [int(start, 16) for start, _, offset, file in lines if file in runnable and not int(offset, 16)]
            if starts and _maps_one(pid, starts, build_ids):
                found.append(pid)
        except HotmendError:
            continue
    return found


def _maps_one(pid: int, starts: list[int], build_ids: Container[str]) -> bool:
    """Tell whether an image with one of `build_ids` begins at one of `starts`."""
    with ProcessMemory(pid) as memory:
        heads = (_head_at(memory, start) for start in starts)
        return any(head is not None and head.build_id in build_ids for head in heads)
