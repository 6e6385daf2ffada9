"""A private copy of all file systems that a mount namespace shows: what is written to it is seen by nobody else.

Every file system becomes the lower layer of an overlay whose upper layer is one tmpfs, so nothing is copied before it
is written. A side effect that is wanted: sockets and named pipes of the lower layer lead nowhere, since the overlay
has inodes of its own. Kernel file systems are new (`/proc`, `/dev`), read-only (`/sys`) or left out. All of it is gone
with the mount namespace.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from hotmend.linux import namespaces as ns
from hotmend.linux import procfs

_STAGES = ("/tmp", "/run", "/var/tmp", "/mnt", "/var")  # noqa: S108 - only as places to mount on
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_KERNEL = frozenset(
    {
        "autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs",
        "fusectl", "hugetlbfs", "mqueue", "proc", "pstore", "rpc_pipefs", "securityfs", "selinuxfs", "sysfs", "tracefs",
    }
)  # fmt: skip
_OWN = ("/dev", "/proc", "/sys")
_FILE_BYTES_MAX = 64 << 20
"""A single file that is mounted by itself is copied up to this size."""


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of /proc/PID/mountinfo: where, and which type of file system."""

    point: str
    kind: str


def parse_mountinfo(text: str) -> tuple[Mount, ...]:
    """Return the mounts that can be seen, parents first: a later mount hides what it covers."""
    seen: dict[str, Mount] = {}
    for line in procfs.rows(text):
        before, _, after = line.partition(" - ")
        point = _unescape(before.split(" ")[4])
        below = point.rstrip("/") + "/"
        for hidden in [name for name in seen if name == point or name.startswith(below)]:
            del seen[hidden]
        seen[point] = Mount(point, after.split(" ")[0])
    return tuple(sorted(seen.values(), key=lambda m: (m.point.count("/"), m.point) if m.point != "/" else (0, "")))


def _unescape(word: str) -> str:
    """Undo the kernel's octal escapes of blanks and backslashes."""
    for octal, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        word = word.replace(octal, letter)
    return word


@dataclass(frozen=True, slots=True)
class _Opened:
    """Places of the namespace as it was, which stay reachable when something is mounted over them.

    Attributes:
        lower: mount point -> its root directory, or file.
        devices: name -> device.
        system: /sys, or -1.
        names: directory in which the kernel shows these descriptors by number, to this process.
    """

    lower: dict[str, int]
    devices: dict[str, int]
    system: int
    names: str

    def path(self, descriptor: int) -> str:
        """Return a path that means an open descriptor."""
        return f"{self.names}/{descriptor}"

    def close(self) -> None:
        """Close all."""
        for descriptor in (*self.lower.values(), *self.devices.values(), *([self.system] if self.system >= 0 else [])):
            os.close(descriptor)


def build(size_bytes: int) -> tuple[str, tuple[str, ...]]:
    """Build the copy in this mount namespace, which is this process's own; return its root, and what is only readable.

    The /proc that is mounted here may be that of other process numbers, in which this process does not show:
    one of our own stands in the stage.

    Args:
        size_bytes: most that may be written.

    Raises:
        OSError: the kernel does not let us: no overlay file system, no right to mount.
    """
    stage = next(name for name in _STAGES if os.path.isdir(name))
    ns.mount("none", "/", None, ns.MS_REC | ns.MS_PRIVATE)
    opened = _open_all(_read_mounts(stage), f"{stage}/proc/self/fd")
    ns.mount("hotmend", stage, "tmpfs", ns.MS_NODEV, f"size={size_bytes},mode=755")
    root, read_only = f"{stage}/root", []
    os.mkdir(root)
    os.mkdir(f"{stage}/proc")
    ns.mount("proc", f"{stage}/proc", "proc")
    for number, (point, descriptor) in enumerate(opened.lower.items()):
        source = opened.path(descriptor)
        if not _copy_one(descriptor, source, root + point.rstrip("/"), f"{stage}/{number}", first=point == "/"):
            read_only.append(point)
    _make_proc_sys(root, opened)
    _make_devices(root, opened)
    opened.close()
    return root, tuple(read_only)


def _read_mounts(place: str) -> tuple[Mount, ...]:
    """Return the mounts of this process, by a /proc that is at `place` for a moment."""
    ns.mount("proc", place, "proc")
    try:
        with open(f"{place}/self/mountinfo", errors="surrogateescape", newline="\n") as file:
            lines = procfs.rows(file.read())
    finally:
        ns.unmount(place)
    return parse_mountinfo("\n".join(lines[:-1]))


def _open_all(mounts: tuple[Mount, ...], names: str) -> _Opened:
    flags = os.O_PATH | os.O_CLOEXEC
    return _Opened(
        lower=dict(_open_lower(mounts)),
        devices={name: os.open(f"/dev/{name}", flags) for name in _DEVICES if os.path.exists(f"/dev/{name}")},
        system=os.open("/sys", flags) if os.path.isdir("/sys") else -1,
        names=names,
    )


def _open_lower(mounts: tuple[Mount, ...]) -> Iterator[tuple[str, int]]:
    """Open what is to be copied. What cannot be reached (a server that is away) is not there in the copy either."""
    for mount in mounts:
        if _wanted(mount):
            try:
                descriptor = os.open(mount.point, os.O_PATH | os.O_CLOEXEC)
                os.fstat(descriptor)
            except OSError:
                if mount.point == "/":
                    raise
                continue
            yield mount.point, descriptor


def _wanted(mount: Mount) -> bool:
    """Tell whether a mount holds files, and not a part of the kernel."""
    own = any(mount.point == place or mount.point.startswith(f"{place}/") for place in _OWN)
    return not own and mount.kind not in _KERNEL


def _copy_one(descriptor: int, source: str, target: str, layers: str, *, first: bool) -> bool:
    """Lay an overlay over the mount behind `descriptor`; return False where it is only readable, or left out."""
    kind = os.fstat(descriptor)
    if not stat.S_ISDIR(kind.st_mode):
        return _copy_file(source, target, kind)
    for name in ("upper", "work"):
        os.makedirs(f"{layers}/{name}")
    os.makedirs(target, exist_ok=True)
    # The upper directory is the root of what will be seen: it must look like the lower one.
    os.chmod(f"{layers}/upper", stat.S_IMODE(kind.st_mode))
    os.chown(f"{layers}/upper", kind.st_uid, kind.st_gid)
    data = f"lowerdir={source},upperdir={layers}/upper,workdir={layers}/work"
    try:
        ns.mount("overlay", target, "overlay", ns.MS_NODEV, data)
    except OSError:
        if first:
            raise
        with contextlib.suppress(OSError):
            ns.mount(source, target, None, ns.MS_BIND)
            ns.make_read_only(target)
        return False
    return True


def _copy_file(source: str, target: str, kind: os.stat_result) -> bool:
    """Copy a single file that is mounted by itself."""
    if not stat.S_ISREG(kind.st_mode) or kind.st_size > _FILE_BYTES_MAX:
        return False
    with contextlib.suppress(OSError):
        shutil.copyfile(source, target)
        os.chown(target, kind.st_uid, kind.st_gid)
        os.chmod(target, stat.S_IMODE(kind.st_mode))
        return True
    return False


def _make_proc_sys(root: str, opened: _Opened) -> None:
    """Mount the new /proc of these process numbers, and /sys for reading."""
    os.makedirs(f"{root}/proc", exist_ok=True)
    ns.mount("proc", f"{root}/proc", "proc", ns.MS_NOSUID | ns.MS_NODEV | ns.MS_NOEXEC)
    if opened.system >= 0:
        os.makedirs(f"{root}/sys", exist_ok=True)
        ns.mount(opened.path(opened.system), f"{root}/sys", None, ns.MS_BIND | ns.MS_REC)
        ns.make_read_only(f"{root}/sys")


def _make_devices(root: str, opened: _Opened) -> None:
    """Make a /dev with the harmless devices, terminals and shared memory of its own."""
    folder = f"{root}/dev"
    os.makedirs(folder, exist_ok=True)
    ns.mount("dev", folder, "tmpfs", ns.MS_NOSUID, "mode=755,size=1m")
    for name, descriptor in opened.devices.items():
        os.close(os.open(f"{folder}/{name}", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o666))
        ns.mount(opened.path(descriptor), f"{folder}/{name}", None, ns.MS_BIND)
    for name in ("shm", "pts", "mqueue"):
        os.mkdir(f"{folder}/{name}")
    ns.mount("shm", f"{folder}/shm", "tmpfs", ns.MS_NOSUID | ns.MS_NODEV, "mode=1777")
    ns.mount("devpts", f"{folder}/pts", "devpts", ns.MS_NOSUID | ns.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")
    for name, place in (("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0")):
        os.symlink(place, f"{folder}/{name}")
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.symlink(f"/proc/self/fd/{number}", f"{folder}/{name}")
