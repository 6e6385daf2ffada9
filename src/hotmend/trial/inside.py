"""The first process of a cell: makes its namespaces and files, starts programs in it, and ends with hotmend.

It is started as `python -m hotmend.trial.inside DESCRIPTOR` with a socket to hotmend, makes the namespaces, and
goes on as process 1 of the new process numbers. When hotmend is gone, however it ended, the socket says so, and the
kernel ends process 1 besides; with process 1 ends every process of the cell, and with the last of them its mounts,
network and files. Nothing has to be cleaned up.

Nothing is imported after the root has changed: the files of python may not be there any more.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from hotmend.linux import foreign, private_root
from hotmend.linux import namespaces as ns
from hotmend.trial import wire
from hotmend.trial.inside_files import make_files

_TICK_SECONDS = 0.01
_SETTINGS = (
    ("net/ipv4/ip_unprivileged_port_start", "0"),
    ("net/ipv4/ip_nonlocal_bind", "1"),
    ("net/ipv6/ip_nonlocal_bind", "1"),
)
"""A stand-in may open the ports and addresses of the real server in its own network."""


@dataclass(slots=True)
class _Child:
    """A process started here. `go` is the pipe that lets it begin, `fault` tells why it did not."""

    pid: int
    go: int
    fault: int

    def close(self) -> None:
        """Close the pipes."""
        os.close(self.go)
        os.close(self.fault)


@dataclass(slots=True)
class Init:
    """Process 1: serves requests until hotmend is gone."""

    channel: socket.socket
    children: dict[int, _Child] = field(default_factory=dict)
    ended: dict[int, int] = field(default_factory=dict)

    def serve(self) -> None:
        """Answer requests, one by one."""
        operations: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "start": self.start,
            "go": self.go,
            "wait": self.wait,
            "kill": self.kill,
        }
        while True:
            self._reap()
            if not select.select([self.channel], [], [], 0.5)[0]:
                continue
            request = wire.receive(self.channel)
            if request is None:
                return
            try:
                answer = operations[request["operation"]](request)
            except OSError as error:
                answer = {"error": f"{error.filename or request['operation']}: {error.strerror or error}"}
            wire.send(self.channel, answer)

    def start(self, request: dict[str, Any]) -> dict[str, Any]:
        """Fork a process that is ready to run a program, or calls, and waits for `go`."""
        go_read, go_write = os.pipe()
        fault_read, fault_write = os.pipe()
        pid = os.fork()
        if pid == 0:
            _become(request, self.channel, go_read, go_write, fault_read, fault_write)
        os.close(go_read)
        os.close(fault_write)
        self.children[pid] = _Child(pid, go_write, fault_read)
        return {"pid": pid}

    def go(self, request: dict[str, Any]) -> dict[str, Any]:
        """Let a process begin; wait until it has become its program, or has made its first round of calls."""
        child = self.children[request["pid"]]
        with contextlib.suppress(BrokenPipeError):
            os.write(child.go, b"\1")
        limit = time.monotonic() + request["seconds"]
        fault = b""
        while True:
            left = limit - time.monotonic()
            if left <= 0 or self._hung_up():
                return {"timeout": True}
            if select.select([child.fault], [], [], min(left, 0.2))[0]:
                part = os.read(child.fault, 4096)
                fault += part
                if not part or part == b"\n":
                    break
        return {"error": fault.decode("utf-8", "replace").strip()} if fault.strip() else {}

    def wait(self, request: dict[str, Any]) -> dict[str, Any]:
        """Wait until a process has ended; its wait status, or null when it runs on."""
        limit = time.monotonic() + request["seconds"]
        while request["pid"] not in self.ended:
            self._reap()
            if time.monotonic() >= limit or self._hung_up():
                break
            time.sleep(_TICK_SECONDS)
        if request["pid"] in self.ended and request["pid"] in self.children:
            self.children.pop(request["pid"]).close()
        return {"status": self.ended.get(request["pid"])}

    def kill(self, request: dict[str, Any]) -> dict[str, Any]:
        """End every other process of the cell."""
        limit = time.monotonic() + request["seconds"]
        while time.monotonic() < limit:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
            self._reap()
            if not [name for name in os.listdir("/proc") if name.isdigit() and name != "1"]:
                break
            time.sleep(_TICK_SECONDS)
        for child in self.children.values():
            child.close()
        self.children.clear()
        return {}

    def _reap(self) -> None:
        """Collect what has ended, orphans too."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                self.ended[pid] = status

    def _hung_up(self) -> bool:
        """Tell whether hotmend is gone, in the middle of a wait."""
        readable, _, _ = select.select([self.channel], [], [], 0)
        return bool(readable) and self.channel.recv(1, socket.MSG_PEEK) == b""


def _become(
    request: dict[str, Any], channel: socket.socket, go: int, go_write: int, fault_read: int, fault: int
) -> NoReturn:
    """In the child: take on user, limits and files, wait for `go`, and become the program.

    What fails before is told after `go`: until then hotmend has to find the process alive.
    """
    begun = False
    try:
        for descriptor in (go_write, fault_read):
            os.close(descriptor)
        channel.close()
        os.setsid()
        _open_streams(request)
        _limit(request["limits"])
        os.chdir(request["directory"])
        library = foreign.prepare(request["calls"]) if request.get("calls") else None
        _drop(request["user"], strict=request["strict"])
        if os.read(go, 1) != b"\1":
            os._exit(125)
        begun = True
        if library is None:
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.execve(request["program"], request["arguments"], request["environment"])  # noqa: S606 - our purpose
        foreign.run(library, lambda: (os.write(fault, b"\n"), os.read(go, 1)))
        os._exit(0)
    except BaseException as error:  # noqa: BLE001 - the parent says it to hotmend
        text = error.strerror if isinstance(error, OSError) else ""
        if not begun:
            os.read(go, 1)
        os.write(fault, f"{type(error).__name__}: {text or error}".encode()[:4000])
        os._exit(126)


def _open_streams(request: dict[str, Any]) -> None:
    """Put files behind standard input, output and error."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for number, name in enumerate(request["streams"]):
        descriptor = os.open(name, os.O_RDONLY) if number == 0 else os.open(name, flags, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)


def _limit(limits: dict[str, int]) -> None:
    """Set resource limits; 0 leaves one alone."""
    kinds = {
        "cpu_seconds": resource.RLIMIT_CPU,
        "memory_bytes": resource.RLIMIT_AS,
        "file_bytes": resource.RLIMIT_FSIZE,
        "files": resource.RLIMIT_NOFILE,
    }
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for name, kind in kinds.items():
        if limits.get(name):
            resource.setrlimit(kind, (limits[name], limits[name]))


def _drop(user: dict[str, Any], *, strict: bool) -> None:
    """Become the user, without what reaches out of the cell; strict: without any privilege."""
    ns.renounce(range(64) if strict else ns.OUTSIDE_CAPABILITIES)
    if strict:
        ns.forbid_new_privileges()
    os.setgroups(user["groups"])
    os.setresgid(user["gid"], user["gid"], user["gid"])
    os.setresuid(user["uid"], user["uid"], user["uid"])


def _settle_network() -> None:
    """Bring up loopback; let any address and port be opened."""
    ns.raise_loopback()
    for name, value in _SETTINGS:
        with contextlib.suppress(OSError):
            Path(f"/proc/sys/{name}").write_text(value)


def _protect_kernel() -> None:
    """Make read-only what in /proc belongs to the whole machine."""
    for name in ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus"):
        if os.path.exists(name):
            ns.mount(name, name, None, ns.MS_BIND | ns.MS_REC)
            ns.make_read_only(name)


def _first_process(channel: socket.socket, specification: dict[str, Any]) -> None:
    """Process 1: make files and network, say so, serve."""
    ns.end_with_parent()
    os.setsid()
    os.umask(0o022)
    try:
        root, read_only = private_root.build(specification["size_bytes"])
        make_files(specification, root)
        ns.change_root(root)
        for descriptor in specification["descriptors"]:
            os.close(descriptor)
        _settle_network()
        _protect_kernel()
    except (OSError, subprocess.SubprocessError) as error:
        reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        where = getattr(error, "filename", None) or ""
        wire.send(channel, {"error": f"{where}: {reason}".removeprefix(": ")})
        return
    wire.send(channel, {"read_only": list(read_only)})
    Init(channel).serve()


def main(arguments: list[str]) -> int:
    """Make the cell's namespaces and wait for its first process to end."""
    ns.end_with_parent()
    channel = socket.socket(fileno=int(arguments[0]))
    specification = wire.receive(channel)
    if specification is None:
        return 1
    try:
        if specification["mounts"] is not None:
            ns.enter(specification["mounts"], ns.NEW_MOUNTS)
        ns.unshare(ns.EVERYTHING)
    except OSError as error:
        wire.send(channel, {"error": f"{error.filename}: {error.strerror}"})
        return 1
    pid = os.fork()
    if pid == 0:
        _first_process(channel, specification)
        os._exit(0)
    channel.close()
    os.waitpid(pid, 0)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
