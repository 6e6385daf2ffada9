"""Filters as systemd has them made: by libseccomp, one for each architecture that the machine can run.

Modelled on systemd's `seccomp_load_syscall_filter_set` (src/shared/seccomp-util.c): the default action, then a rule for
each call of the sets; a foreign architecture passes, because each has a filter of its own.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
from collections.abc import Iterable
from typing import Any

_LIBRARY = ctypes.CDLL("libseccomp.so.2")
_LIBRARY.seccomp_init.restype = ctypes.c_void_p
_LIBRARY.seccomp_init.argtypes = [ctypes.c_uint32]
_ARGUMENTS: dict[str, list[type[Any]]] = {
    "seccomp_attr_set": [ctypes.c_int, ctypes.c_uint32],
    "seccomp_arch_add": [ctypes.c_uint32],
    "seccomp_arch_remove": [ctypes.c_uint32],
    "seccomp_rule_add_array": [ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p],
    "seccomp_export_bpf": [ctypes.c_int],
    "seccomp_release": [],
}
for _name, _types in _ARGUMENTS.items():
    getattr(_LIBRARY, _name).argtypes = [ctypes.c_void_p, *_types]

ALLOW, KILL_PROCESS = 0x7FFF0000, 0x80000000
NOT_PERMITTED = 0x00050000 | 1
_BAD_ARCHITECTURE, _NO_NEW_PRIVILEGES, _OPTIMIZE = 2, 3, 8
ARCHITECTURES = {"x86-64": 0xC000003E, "x86": 0x40000003, "x32": 0x4000003E}
_NATIVE = ARCHITECTURES["x86-64"]

PRIVILEGED = frozenset({
    "acct", "bpf", "chroot", "delete_module", "finit_module", "fsconfig", "fsmount", "fsopen", "fspick",
    "init_module", "ioperm", "iopl", "kcmp", "kexec_file_load", "kexec_load", "keyctl", "lookup_dcookie", "mount",
    "mount_setattr", "move_mount", "nfsservctl", "open_by_handle_at", "open_tree", "perf_event_open", "pivot_root",
    "process_vm_readv", "process_vm_writev", "ptrace", "quotactl", "reboot", "request_key", "setdomainname",
    "sethostname", "settimeofday", "swapoff", "swapon", "umount", "umount2", "uselib", "userfaultfd", "vhangup",
})  # fmt: skip
"""Much of what `@system-service` leaves out: debugging, mounting, modules, raw devices, reboot, swapping."""


def all_calls() -> list[str]:
    """Return the names of all calls that this libseccomp knows on x86-64."""
    resolve = _LIBRARY.seccomp_syscall_resolve_num_arch
    resolve.restype = ctypes.c_void_p
    names = []
    for number in range(600):
        if pointer := resolve(ctypes.c_uint32(_NATIVE), number):
            names.append(ctypes.string_at(pointer).decode())
    return names


def filter_set(names: Iterable[str], default: int, action: int, *, tree: bool = False) -> list[bytes]:
    """Return one filter for each architecture.

    Args:
        names: calls that `action` answers.
        default: answers all others.
        action: see there.
        tree: as a binary tree instead of a list.
    """
    wanted = list(names)
    return [_one(wanted, default, action, architecture, tree=tree) for architecture in ARCHITECTURES.values()]


def _one(names: list[str], default: int, action: int, architecture: int, *, tree: bool) -> bytes:
    context = _LIBRARY.seccomp_init(default)
    try:
        if architecture != _NATIVE:
            assert _LIBRARY.seccomp_arch_add(context, architecture) == 0
            assert _LIBRARY.seccomp_arch_remove(context, _NATIVE) == 0
        assert _LIBRARY.seccomp_attr_set(context, _BAD_ARCHITECTURE, ALLOW) == 0
        assert _LIBRARY.seccomp_attr_set(context, _NO_NEW_PRIVILEGES, 0) == 0
        assert _LIBRARY.seccomp_attr_set(context, _OPTIMIZE, 2 if tree else 1) == 0
        for name in names:
            number = _LIBRARY.seccomp_syscall_resolve_name(name.encode())
            added = _LIBRARY.seccomp_rule_add_array(context, action, number, 0, None)
            assert added == 0 or architecture != _NATIVE, (name, added)  # not every call is there on each
        with tempfile.TemporaryFile() as file:
            assert _LIBRARY.seccomp_export_bpf(context, file.fileno()) == 0
            os.lseek(file.fileno(), 0, os.SEEK_SET)
            return file.read()
    finally:
        _LIBRARY.seccomp_release(context)
