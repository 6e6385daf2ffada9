"""A cell: a set of namespaces with a private copy of all files, in which programs are started and watched.

Nothing that runs in it can reach the machine's network, processes or shared memory, and what it writes is gone with it.
It is not a prison for an attacker who has root: it keeps a program apart that means no harm. Its first process
(`trial/inside.py`) does the work inside; this is the side of hotmend.
"""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from hotmend.linux import procfs
from hotmend.model.errors import HotmendError, KernelError
from hotmend.trial import wire
from hotmend.trial.contents import OUT, Contents, Running, Start, specification

_ANSWER_SECONDS, _MAKE_SECONDS = 30.0, 180.0
_COMPLAINT_BYTES_MAX = 4000
FILES_MAX, FILE_BYTES_MAX = 2000, 256 << 20


class CellError(KernelError):
    """The cell could not be made, or went away."""


class Cell:
    """A cell from its making to its end. `read_only` are the file systems that could not be copied."""

    def __init__(self, contents: Contents, size_bytes: int) -> None:
        """Make it.

        Args:
            contents: what is in it.
            size_bytes: most that may be written in it.

        Raises:
            CellError: this machine or user does not allow it.
        """
        ours, theirs = socket.socketpair()
        self._channel = ours
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the cell
        with theirs:
            self._helper = subprocess.Popen(
                [sys.executable, "-P", "-m", "hotmend.trial.inside", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._complaints,
                pass_fds=[theirs.fileno(), *contents.descriptors],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        try:
            wire.send(ours, specification(contents, size_bytes))
            answer = self._receive(_MAKE_SECONDS)
            self.read_only: tuple[str, ...] = tuple(answer["read_only"])
            self.first = _child_of(self._helper.pid)
            self._pids = procfs.namespace(self.first, "pid")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it: every process of it, and with them its mounts and files."""
        self._channel.close()
        try:
            self._helper.wait(5)
        except subprocess.TimeoutExpired:
            self._helper.kill()  # its first process ends with it, and all others with that
            self._helper.wait()
        self._complaints.close()

    def start(self, start: Start) -> Running:
        """Fork a process that waits to begin (`go`)."""
        answer = self._ask(
            "start",
            program=start.program,
            arguments=list(start.arguments),
            environment=dict(start.environment),
            directory=start.directory,
            user={"uid": start.user.uid, "gid": start.user.gid, "groups": list(start.user.groups)},
            limits={
                "cpu_seconds": start.limits.cpu_seconds,
                "memory_bytes": start.limits.memory_bytes,
                "file_bytes": start.limits.file_bytes,
                "files": start.limits.files,
            },
            strict=start.strict,
            streams=[start.standard_input, f"{OUT}/{start.name}.stdout", f"{OUT}/{start.name}.stderr"],
            calls=None if start.calls is None else dict(start.calls),
        )
        inner = int(answer["pid"])
        return Running(start.name, inner, self._outer(inner))

    def go(self, running: Running, seconds: float = _ANSWER_SECONDS) -> bool:
        """Let a process begin; return False where it was not ready in time.

        Raises:
            CellError: it could not begin; the message says why.
        """
        answer = self._ask("go", pid=running.inner, seconds=seconds, patience=seconds)
        return not answer.get("timeout")

    def wait(self, running: Running, seconds: float) -> int | None:
        """Return the wait status of a process that ends within `seconds`, else None."""
        status = self._ask("wait", pid=running.inner, seconds=seconds, patience=seconds)["status"]
        return None if status is None else int(status)

    def kill(self) -> None:
        """End all that was started in it."""
        self._ask("kill", seconds=5.0, patience=5.0)

    def pids(self) -> list[int]:
        """Return the pids, here, of what was started in the cell and lives."""
        found = []
        for pid in procfs.list_processes():
            if pid != self.first and procfs.namespace(pid, "pid") == self._pids:
                try:
                    if procfs.read_stat(pid).state not in "ZX":
                        found.append(pid)
                except HotmendError:
                    continue
        return found

    def path(self, name: str) -> str:
        """Return where the file `name` of the cell can be opened from here. Its last parts may be links: beware."""
        return f"/proc/{self.first}/root{name}"

    def output(self, name: str, limit_bytes: int = FILE_BYTES_MAX) -> bytes:
        """Return what is in the file `name` below `OUT`, where only root can write; b"" if there is none."""
        try:
            with open(self.path(f"{OUT}/{name}"), "rb") as file:
                return file.read(limit_bytes)
        except FileNotFoundError:
            return b""

    def files(self, directory: str) -> Iterator[tuple[str, bytes]]:
        """Yield relative names and contents of all that is below `directory`; links are not followed.

        Raises:
            CellError: there are too many files.
        """
        top = os.open(self.path(directory), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        count = 0
        try:
            for folder, _, names, descriptor in os.fwalk(".", dir_fd=top, follow_symlinks=False):
                for name in sorted(names):
                    count += 1
                    if count > FILES_MAX:
                        raise CellError(f"the program left more than {FILES_MAX} files")
                    yield os.path.normpath(f"{folder}/{name}"), _content(descriptor, name)
        finally:
            os.close(top)

    def _outer(self, inner: int) -> int:
        """Return the pid here of a process of the cell."""
        for pid in self.pids():
            if procfs.inner_pid(pid) == inner:
                return pid
        raise CellError("a process of the cell ended before it began")

    def _ask(self, operation: str, patience: float = 0.0, **request: Any) -> dict[str, Any]:
        try:
            wire.send(self._channel, {"operation": operation, **request})
        except OSError as error:
            raise CellError("the first process of the cell is gone") from error
        return self._receive(_ANSWER_SECONDS + patience)

    def _receive(self, seconds: float) -> dict[str, Any]:
        """Return the next answer.

        Raises:
            CellError: it says that something failed, or none came.
        """
        self._channel.settimeout(seconds)
        try:
            answer = wire.receive(self._channel)
        except TimeoutError as error:
            raise CellError(f"the first process of the cell did not answer within {seconds:g} s") from error
        if answer is None:
            self._complaints.seek(0)
            said = self._complaints.read(_COMPLAINT_BYTES_MAX).decode("utf-8", "replace").strip().splitlines()
            raise CellError("the first process of the cell is gone" + (f": {said[-1]}" if said else ""))
        if "error" in answer:
            raise CellError(answer["error"], "run as root; in a container, with the right to mount and to trace")
        return answer


def _child_of(parent: int) -> int:
    """Return the only child of a process."""
    for pid in procfs.list_processes():
        try:
            if procfs.read_stat(pid).ppid == parent:
                return pid
        except HotmendError:
            continue
    raise CellError("the first process of the cell is gone")


def _content(directory: int, name: str) -> bytes:
    """Return the contents of one file, or what a link or special file is."""
    kind = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if stat.S_ISLNK(kind.st_mode):
        return b"link to " + os.fsencode(os.readlink(name, dir_fd=directory))
    if not stat.S_ISREG(kind.st_mode):
        return f"special file, mode {kind.st_mode:o}".encode()
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    with open(descriptor, "rb") as file:
        return file.read(FILE_BYTES_MAX)
