"""Processes that began before the last update: what they map is no longer on the disk, and is read from themselves.

They may run the last update's code by a hotpatch, and the next one waits. What it has to be compared with is the build
that they began with. The kernel keeps its file for as long as somebody maps it (`/proc/PID/map_files`).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hotmend.agent.apt.installed import InstalledFile
from hotmend.image.deb import Deb, ElfFile
from hotmend.linux.old_files import read_mapped
from hotmend.linux.process import MappedImage, ProcessImages, file_build_id, root_for_paths
from hotmend.live.registry import process_status
from hotmend.model.addresses import BuildId
from hotmend.model.errors import HotmendError, InputError

_FILE_BYTES_MAX = 1 << 30
_VERSION_TAIL = re.compile(r"(\.so\.\d+)(?:\.\d+)+$")


@dataclass(frozen=True, slots=True)
class Earlier:
    """Processes that map the same earlier builds of a package's files.

    Attributes:
        builds: path as the package has it -> build-id that is mapped.
        processes: with just the images that are the package's, at whichever build.
    """

    builds: Mapping[str, BuildId]
    processes: tuple[ProcessImages, ...]


def find_earlier(
    running: Iterable[ProcessImages], files: Iterable[InstalledFile], installed: Container[BuildId | None]
) -> tuple[Earlier, ...]:
    """Return the processes that map an earlier build of one of a package's files, by what they map.

    An image is an earlier build where the file that stands at its place now, as the process sees it, is an installed
    one: what a container maps of its own files is none.

    Args:
        running: processes and all that they map.
        files: of the package.
        installed: their build-ids.
    """
    by_name = {_name(Path("/", file.path)): file.path for file in files}
    bases = {name.rpartition("/")[2] for name in by_name}
    groups: dict[tuple[tuple[str, BuildId], ...], list[ProcessImages]] = {}
    for process in running:
        own, builds = [], {}
        for image in process.images:
            if image.build_id and image.build_id in installed:
                own.append(image)
            elif image.build_id and (place := _place(image, bases)):
                path = by_name.get(_name(Path(place)), "")
                if path and _stands_now(image, place) in installed:
                    own.append(image)
                    builds[path] = image.build_id
        if builds:
            groups.setdefault(tuple(sorted(builds.items())), []).append(replace(process, images=tuple(own)))
    return tuple(Earlier(dict(builds), tuple(processes)) for builds, processes in groups.items())


def read_earlier(old: Deb, group: Earlier) -> Deb:
    """Return a package as those processes have it: as it is installed, with the earlier builds in their places.

    Args:
        old: as it is installed.
        group: of processes.

    Raises:
        InputError: a file can no longer be read, or is not what memory says.
    """
    files = tuple(_file(file, group) if file.path in group.builds else file for file in old.elf_files)
    return replace(old, version=_version(group) or old.version, elf_files=files)


def _version(group: Earlier) -> str:
    """Return the version that the processes began with, as a hotpatch of theirs has it; "" where none says so."""
    for process in group.processes:
        with contextlib.suppress(HotmendError):
            for applied in process_status(process.pid):
                if applied.old_build_id in group.builds.values() and applied.versions[0]:
                    return applied.versions[0]
    return ""


def _file(file: ElfFile, group: Earlier) -> ElfFile:
    """Return a file as the processes map it."""
    wanted = group.builds[file.path]
    content = read_mapped(group.processes, wanted, _FILE_BYTES_MAX)
    if content is not None:
        return ElfFile(file.path, content)
    raise InputError(f"/{file.path}: the earlier build {wanted[:12]} that runs cannot be read", "restart its processes")


def _place(image: MappedImage, bases: Container[str]) -> str:
    """Return the path of an image whose file's name is one of `bases`; "" where it has another.

    A file that was mounted by itself (`ExecPaths=`) loses its path when it is replaced; a hotpatch knows which it was.
    """
    if _base(image.path) in bases:
        return image.path
    if not image.deleted or image.path != "/":
        return ""
    with contextlib.suppress(HotmendError):
        for applied in process_status(image.pid):
            if applied.old_build_id == image.build_id and _base(applied.path) in bases:
                return f"/{applied.path}"
    return ""


def _stands_now(image: MappedImage, place: str) -> BuildId | None:
    """Return the build of the file that stands at a place now; a library's name may have changed with its version."""
    if image.disk_build_id is not None:
        return image.disk_build_id
    root = root_for_paths(image.pid)
    found = file_build_id(Path("/", place), root)
    return file_build_id(Path("/", _VERSION_TAIL.sub(r"\1", place)), root) if found is None else found


def _name(path: Path) -> str:
    """Return where a file is, without links among its folders and without what changes with a library's version."""
    return f"{path.parent.resolve()}/{_base(path.name)}"


def _base(path: str) -> str:
    return _VERSION_TAIL.sub(r"\1", path.rpartition("/")[2])
