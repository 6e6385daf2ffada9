"""A stand-in: a second process of the same old images as a running server, in a cell of its own.

It gets the server's program, arguments, environment, user and files, and the images the server has in memory, also
where the files on disk are those of an update already. Its network is a loopback of its own, on which it can open the
same ports.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from hotmend.linux import procfs
from hotmend.linux.listening import network_ports, process_ports
from hotmend.linux.process import ProcessImages, process_images
from hotmend.live.needs import Refusal
from hotmend.model.addresses import BuildId
from hotmend.model.errors import HotmendError
from hotmend.model.verdict import refusal
from hotmend.trial.cell import Cell, CellError
from hotmend.trial.contents import Contents, Running, Start
from hotmend.trial.groups import Group
from hotmend.trial.host import SEARCH, end_text
from hotmend.trial.origin import Origin, find_origin

START_SECONDS_MAX = 30.0
COMMAND_SECONDS_MAX = 30.0
WRITTEN_BYTES_MAX = 2 << 30
_QUIET_SECONDS = 0.5
"""Started is who has the ports, and neither made nor lost a process for so long."""
_POLL_SECONDS = 0.05
_LOG_LETTERS = 600

Identities = frozenset[tuple[int, int]]
"""Processes, as (pid, start time in ticks)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command in the cell gave: how it ended, and its standard output and error."""

    status: int | None
    output: bytes


class StandIn:
    """A stand-in from its start to its end."""

    def __init__(self, group: Group, arguments: Sequence[str] = ()) -> None:
        """Start it, and wait until it is where the server is.

        Raises:
            Refusal: it does not start, does not listen, or is not of the same builds.
            CellError: there can be no cell.
        """
        self._group = group
        origin = find_origin(group.root, arguments)
        with contextlib.ExitStack() as stack:
            self._cell = stack.enter_context(Cell(_open_contents(group, stack), WRITTEN_BYTES_MAX))
            self.read_only = self._cell.read_only
            self._origin = origin
            self._commands = 0
            self._main = self._begin(origin)
            self._await()
            self._check_images()
            self._close = stack.pop_all().close

    def __enter__(self) -> StandIn:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _begin(self, origin: Origin) -> Running:
        start = Start(
            name="standin",
            program=origin.program,
            arguments=origin.arguments,
            environment=origin.environment,
            directory=origin.directory,
            user=origin.user,
            limits=origin.limits,
            strict=False,
        )
        try:
            running = self._cell.start(start)
            self._cell.go(running)
        except CellError as error:
            raise Refusal(refusal("stand-in-not-started", f"the stand-in cannot be started: {error}")) from error
        return running

    def _await(self) -> None:
        """Wait until it listens where the server does, and its processes are all there."""
        wanted = process_ports(self._group.pids)
        limit, seen, since = time.monotonic() + START_SECONDS_MAX, self.identities(), time.monotonic()
        while True:
            time.sleep(_POLL_SECONDS)
            now, current = time.monotonic(), self.identities()
            if current != seen:
                seen, since = current, now
            missing = wanted - set(network_ports(self._cell.first).values())
            if not seen and now - since > _QUIET_SECONDS:
                status = self._cell.wait(self._main, 0)
                raise Refusal(
                    refusal("stand-in-not-started", f"the stand-in ended at once ({end_text(status)})", self.log())
                )
            if seen and not missing and now - since > _QUIET_SECONDS:
                return
            if now > limit:
                ports = ", ".join(map(str, sorted(missing)))
                what = f"does not listen on {ports}" if missing else "does not come to rest"
                raise Refusal(
                    refusal("stand-in-not-started", f"the stand-in {what} after {START_SECONDS_MAX:.0f} s", self.log())
                )

    def _check_images(self) -> None:
        """Refuse a stand-in that has not mapped all the builds that the server maps."""
        mapped = {image.build_id for process in self.mapping(self._group.build_ids) for image in process.images}
        missing = sorted(self._group.build_ids - mapped)
        if missing:
            raise Refusal(
                refusal("stand-in-differs", "the stand-in does not map the builds that the server maps", *missing)
            )

    def identities(self) -> Identities:
        """Return its living processes."""
        found = set()
        for pid in self._cell.pids():
            with contextlib.suppress(HotmendError):
                found.add((pid, procfs.read_stat(pid).start_time_ticks))
        return frozenset(found)

    def mapping(self, build_ids: frozenset[BuildId]) -> list[ProcessImages]:
        """Return its processes that map one of the builds, with those images."""
        found = []
        for pid in self._cell.pids():
            with contextlib.suppress(HotmendError):
                process = process_images(pid)
                images = tuple(image for image in process.images if image.build_id in build_ids)
                if images:
                    found.append(ProcessImages(pid, process.comm, process.start_time_ticks, images))
        return found

    def ask(self, command: str) -> Answer:
        """Run a shell command beside it, as its user."""
        self._commands += 1
        name = f"command{self._commands}"
        start = Start(
            name=name,
            program="/bin/sh",
            arguments=("sh", "-c", command),
            environment={"PATH": ":".join(SEARCH)} | self._origin.environment,
            directory="/",
            user=self._origin.user,
            limits=self._origin.limits,
            strict=False,
        )
        try:
            running = self._cell.start(start)
            self._cell.go(running)
            status = self._cell.wait(running, COMMAND_SECONDS_MAX)
        except CellError as error:
            raise Refusal(refusal("rehearsal-command-failed", f"the command cannot be run: {error}")) from error
        return Answer(status, self._cell.output(f"{name}.stdout") + self._cell.output(f"{name}.stderr"))

    def log(self) -> str:
        """Return the end of what it printed."""
        text = self._cell.output("standin.stdout") + self._cell.output("standin.stderr")
        return text.decode("utf-8", "replace").strip()[-_LOG_LETTERS:]


def _open_contents(group: Group, stack: contextlib.ExitStack) -> Contents:
    """Open the server's mount namespace, and the images whose files are no longer those in its memory."""

    def opened(path: str) -> int:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, descriptor)
        return descriptor

    copies: dict[str, int] = {}
    for pid in dict.fromkeys((group.root, *group.pids)):
        maps = {mapping.start: mapping for mapping in procfs.read_maps(pid)}
        for image in process_images(pid).images:
            if image.path in copies or (image.disk_build_id == image.build_id and not image.deleted):
                continue
            mapping = maps.get(image.start)
            if mapping is not None and image.path.startswith("/"):
                copies[image.path] = opened(f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}")
    # Of the own namespace nothing has to be entered; entering it would lose this process's root.
    other = procfs.mount_namespace(group.root) != procfs.mount_namespace(os.getpid())
    mounts = opened(f"/proc/{group.root}/ns/mnt") if other else None
    return Contents(mounts=mounts, copies=tuple((descriptor, path) for path, descriptor in copies.items()))
