"""Real unwinding with libdw, used only to show that a word on a stack is stale.

Any error is "not proven": an unknown frame, a frame without call frame information, a missing libdw. libdw would fall
back to frame pointers; every frame is therefore checked to have CFI. Code that no file is mapped for (shadows) is
described by files that the caller makes.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Sequence

from hotmend.linux import procfs, sys
from hotmend.linux.process import MappedImage, process_images
from hotmend.linux.procfs import Mapping
from hotmend.model.errors import KernelError

FRAMES_MAX = 4096


class Unwinder:
    """libdw on one process. Prepare it before the stop, walk inside the stop."""

    def __init__(self, pid: int, images: tuple[MappedImage, ...], maps: tuple[Mapping, ...]) -> None:
        self._session = sys.DwflSession()
        self._session.begin()
        for image in images:
            self._report(pid, image, maps)
        self.ready = self._session.attach(pid)

    def add(self, contents: Sequence[bytes]) -> None:
        """Tell libdw of code that no file is mapped for, by ELF files at its load addresses. Not inside a stop."""
        if not self.ready:
            return
        self._session.begin(more=True)
        for content in contents:
            with os.fdopen(os.memfd_create("hotmend-symbols", os.MFD_CLOEXEC), "wb") as file:
                file.write(content)
                file.flush()
                self._session.report("[shadow]", file.fileno(), 0)
        self.ready = self._session.end_report()

    def _report(self, pid: int, image: MappedImage, maps: tuple[Mapping, ...]) -> None:
        """Give libdw the very file that is mapped, also when it is deleted or in another namespace."""
        mapping = procfs.find_mapping(maps, image.start)
        if mapping is None:
            return
        try:
            descriptor = os.open(f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        try:
            self._session.report(image.path, descriptor, image.bias)
        finally:
            os.close(descriptor)

    def frames(self, tid: int, limit: float = math.inf) -> list[int] | None:
        """Return the PCs of all frames of a stopped thread, innermost first; None where anything is uncertain.

        It is where `time.perf_counter()` passes `limit` before the outermost frame is reached.

        Return addresses are given as they are (they may equal the end of a function).
        """
        if not self.ready:
            return None
        pcs: list[int] = []
        complete = self._session.frames(tid, self._visitor(pcs, limit))
        return pcs if complete else None

    def frame_bytes(self, pc: int) -> int | None:
        """Return how far above the stack pointer at `pc` the caller's frame begins; None where that is uncertain."""
        return self._session.frame_bytes(pc)

    def warm(self, pcs: Iterable[int]) -> None:
        """Read the call frame information of the images that hold `pcs`, which the first walk would do."""
        for pc in pcs:
            self._session.has_cfi(pc)

    def _visitor(self, pcs: list[int], limit: float) -> Callable[[int, bool], bool]:
        """Return a callback that collects frames as long as each is certain."""

        def visit(pc: int, exact: bool) -> bool:
            pcs.append(pc)
            if len(pcs) >= FRAMES_MAX or time.perf_counter() > limit:
                return False
            return self._session.has_cfi(pc if exact else pc - 1)

        return visit

    def close(self) -> None:
        """End the libdw session."""
        self._session.close()


def stack_of(pid: int, tid: int) -> list[int]:
    """Return the frames of a stopped thread (a convenience for tests and diagnostics).

    Raises:
        KernelError: they could not be followed to the end.
    """
    unwinder = Unwinder(pid, process_images(pid).images, procfs.read_maps(pid))
    try:
        frames = unwinder.frames(tid)
    finally:
        unwinder.close()
    if frames is None:
        raise KernelError(f"thread {tid}: the stack cannot be followed to its end")
    return frames
