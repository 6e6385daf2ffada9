"""The file of a build that runs, after another one has taken its place on the disk.

The kernel keeps a file for as long as somebody maps it: `/proc/PID/map_files` opens it, whatever became of its name.
That takes CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hotmend.linux import procfs
from hotmend.linux.process import ProcessImages, file_build_id
from hotmend.model.addresses import BuildId
from hotmend.model.errors import HotmendError


def read_mapped(processes: Iterable[ProcessImages], build_id: BuildId, bytes_max: int) -> bytes | None:
    """Return the file that has a build, as one of the processes maps it; None where none can be read.

    Args:
        processes: any.
        build_id: of the image.
        bytes_max: longer ones are not read.
    """
    for process in processes:
        image = next((image for image in process.images if image.build_id == build_id), None)
        if image is None:
            continue
        try:
            mapped = procfs.find_mapping(procfs.read_maps(process.pid), image.start)
        except HotmendError:
            continue  # it has ended; another one may map it as well
        if mapped is None:
            continue
        path = Path(f"/proc/{process.pid}/map_files/{mapped.start:x}-{mapped.end:x}")
        if (content := read_build(path, build_id, bytes_max)) is not None:
            return content
    return None


def read_build(path: Path, build_id: BuildId, bytes_max: int) -> bytes | None:
    """Return the file at `path` if it is of that build, not longer than `bytes_max`, and can be read; else None."""
    try:
        if file_build_id(path) != build_id:
            return None
        with path.open("rb") as stream:
            content = stream.read(bytes_max + 1)
    except OSError:
        return None
    return content if len(content) <= bytes_max else None
