"""The one module that binds C: ptrace, process_vm_readv, kcmp, openat2, mlockall, memmem and libdw.

Everything else in hotmend talks to the kernel through this module or through `os`. Numbers are those of
the x86-64 Linux ABI (`asm/ptrace-abi.h`, `linux/ptrace.h`, `asm/unistd_64.h`).
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import itertools
import os
import struct
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.ptrace.restype = ctypes.c_long
_LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_LIBC.syscall.restype = ctypes.c_long
_LIBC.process_vm_readv.restype = ctypes.c_ssize_t
_LIBC.memmem.restype = ctypes.c_void_p
_LIBC.memmem.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]

WALL: Final = 0x40000000
"""`__WALL` of waitpid(2): threads too."""
_WNOTHREAD: Final = 0x20000000

EVENT_STOP: Final = 128
EVENT_EXEC: Final = 4
EVENTS_NEW: Final = frozenset({1, 2, 3})
"""PTRACE_EVENT_FORK, _VFORK and _CLONE."""
OPTION_EXEC, OPTION_KILL, OPTION_NEW = 1 << 4, 1 << 20, 0b1110
"""PTRACE_O_TRACEEXEC; PTRACE_O_EXITKILL: what is traced ends with its tracer; TRACEFORK, TRACEVFORK and TRACECLONE."""
OPTION_CALLS: Final = 1
"""PTRACE_O_TRACESYSGOOD: a stop at a system call shows as signal `CALL_STOP`."""
CALL_STOP: Final = 0x85
NT_X86_XSTATE: Final = 0x202
IOV_MAX: Final = 1024
KCMP_VM: Final = 1

_POKEDATA = 5
_CONT, _GETREGS, _SETREGS, _DETACH, _SYSCALL = 7, 12, 13, 17, 24
_GETEVENTMSG, _GETREGSET, _SEIZE, _INTERRUPT = 0x4201, 0x4204, 0x4206, 0x4207
_GETSIGMASK, _SETSIGMASK, _SECCOMP_GET_FILTER, _GET_RSEQ_CONFIGURATION = 0x420A, 0x420B, 0x420C, 0x420F
_FILTER_INSTRUCTION_BYTES = 8
_SYS_KCMP = 312
_SYS_OPENAT2, _RESOLVE_NO_MAGICLINKS, _RESOLVE_IN_ROOT = 437, 2, 16
_SYS_SECCOMP, _PR_SET_NO_NEW_PRIVS = 317, 38
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_XSTATE_BYTES_MAX = 1 << 16


class Registers(NamedTuple):
    """`struct user_regs_struct`; all values unsigned, 64 bits."""

    r15: int
    r14: int
    r13: int
    r12: int
    rbp: int
    rbx: int
    r11: int
    r10: int
    r9: int
    r8: int
    rax: int
    rcx: int
    rdx: int
    rsi: int
    rdi: int
    orig_rax: int
    rip: int
    cs: int
    eflags: int
    rsp: int
    ss: int
    fs_base: int
    gs_base: int
    ds: int
    es: int
    fs: int
    gs: int


class RseqConfiguration(NamedTuple):
    """What PTRACE_GET_RSEQ_CONFIGURATION answers; `pointer` is 0 for a thread without rseq."""

    pointer: int
    size: int
    signature: int


_REGISTERS = struct.Struct("<27Q")
_POINTER = ctypes.c_char * _REGISTERS.size


class _DwarfOperation(ctypes.Structure):
    _fields_ = [
        ("atom", ctypes.c_uint8),
        ("number", ctypes.c_uint64),
        ("number2", ctypes.c_uint64),
        ("offset", ctypes.c_uint64),
    ]


class _Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def signed(value: int) -> int:
    """Return the 64-bit register `value` as a signed number."""
    return value - (1 << 64) if value >= 1 << 63 else value


def _ptrace(request: int, tid: int, address: int, data: int) -> int:
    """Call ptrace(2); raise `OSError` with errno on failure."""
    result: int = _LIBC.ptrace(request, tid, address, data)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"ptrace {request:#x} on thread {tid}")
    return result


def seize(tid: int, options: int = 0) -> None:
    """Become the tracer of thread `tid` without stopping it."""
    _ptrace(_SEIZE, tid, 0, options)


def resume(tid: int, signal: int) -> None:
    """Let a stopped thread run on under its tracer, with `signal` delivered (0: none)."""
    _ptrace(_CONT, tid, 0, signal)


def resume_to_call(tid: int, signal: int) -> None:
    """Let a stopped thread run on to the beginning or the end of its next system call, with `signal` delivered."""
    _ptrace(_SYSCALL, tid, 0, signal)


def interrupt(tid: int) -> None:
    """Ask a seized thread to stop; the stop is reported by waitpid."""
    _ptrace(_INTERRUPT, tid, 0, 0)


def detach(tid: int, signal: int) -> None:
    """Let a stopped thread run on without tracer, with `signal` delivered (0: none)."""
    _ptrace(_DETACH, tid, 0, signal)


def traces_any() -> bool:
    """Tell whether the calling thread still traces anything, or has made a process; what they say stays unreported."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WSTOPPED | os.WNOHANG | os.WNOWAIT | WALL | _WNOTHREAD)
    except ChildProcessError:
        return False
    return True


def get_new_thread(tid: int) -> int:
    """Return the id of the thread or process that a thread stopped at one of `EVENTS_NEW` has made."""
    number = ctypes.c_ulong()
    _ptrace(_GETEVENTMSG, tid, 0, ctypes.addressof(number))
    return number.value


def get_registers(tid: int) -> Registers:
    """Return the general registers of a stopped thread."""
    buffer = _POINTER()
    _ptrace(_GETREGS, tid, 0, ctypes.addressof(buffer))
    return Registers._make(_REGISTERS.unpack(buffer))


def set_registers(tid: int, registers: Registers) -> None:
    """Set the general registers of a stopped thread."""
    buffer = ctypes.create_string_buffer(_REGISTERS.pack(*registers), _REGISTERS.size)
    _ptrace(_SETREGS, tid, 0, ctypes.addressof(buffer))


def get_xsave(tid: int) -> bytes:
    """Return the XSAVE area of a stopped thread in the standard (not compacted) form."""
    buffer = ctypes.create_string_buffer(_XSTATE_BYTES_MAX)
    iovec = _Iovec(ctypes.addressof(buffer), _XSTATE_BYTES_MAX)
    _ptrace(_GETREGSET, tid, NT_X86_XSTATE, ctypes.addressof(iovec))
    return buffer.raw[: iovec.length]


def poke(tid: int, address: int, word: bytes) -> None:
    """Write eight bytes through a stopped thread, also into pages that its process may not write."""
    _ptrace(_POKEDATA, tid, address, int.from_bytes(word, "little"))


def get_signal_mask(tid: int) -> int:
    """Return the signal mask the stopped thread has, or will have after the call it is in."""
    mask = ctypes.c_uint64()
    _ptrace(_GETSIGMASK, tid, 8, ctypes.addressof(mask))
    return mask.value


def set_signal_mask(tid: int, mask: int) -> None:
    """Set the signal mask of a stopped thread; a mask that the call it is in would put back is forgotten."""
    content = ctypes.c_uint64(mask)
    _ptrace(_SETSIGMASK, tid, 8, ctypes.addressof(content))


def get_rseq(tid: int) -> RseqConfiguration:
    """Return the rseq registration of a stopped thread."""
    buffer = ctypes.create_string_buffer(24)
    _ptrace(_GET_RSEQ_CONFIGURATION, tid, 24, ctypes.addressof(buffer))
    pointer, size, signature = struct.unpack_from("<QII", buffer)
    return RseqConfiguration(pointer, size, signature)


def get_seccomp_filters(tid: int) -> tuple[bytes, ...]:
    """Return the seccomp filters of a stopped thread, the newest first, each as an array of `struct sock_filter`.

    Raises:
        OSError: this process lacks CAP_SYS_ADMIN or is filtered itself (EACCES), the kernel does not keep filters
            (EINVAL, EIO), or one is no classic program (EMEDIUMTYPE).
    """
    filters: list[bytes] = []
    while True:
        try:
            count = _ptrace(_SECCOMP_GET_FILTER, tid, len(filters), 0)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return tuple(reversed(filters))
            raise
        buffer = ctypes.create_string_buffer(count * _FILTER_INSTRUCTION_BYTES)
        _ptrace(_SECCOMP_GET_FILTER, tid, len(filters), ctypes.addressof(buffer))
        filters.append(buffer.raw)


def confine_self(program: bytes) -> None:
    """Put the calling thread under a seccomp filter, an array of `struct sock_filter`; raise `OSError` on failure."""
    code = ctypes.create_string_buffer(program, len(program))
    count = len(program) // _FILTER_INSTRUCTION_BYTES
    header = struct.pack("<H6xQ", count, ctypes.addressof(code))
    buffer = ctypes.create_string_buffer(header, len(header))
    longs = [ctypes.c_long(n) for n in (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)]
    if _LIBC.prctl(*longs) or _LIBC.syscall(
        ctypes.c_long(_SYS_SECCOMP), ctypes.c_long(1), ctypes.c_long(0), ctypes.c_void_p(ctypes.addressof(buffer))
    ):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "seccomp")


def read_ranges(pid: int, ranges: Sequence[tuple[int, int]]) -> bytearray:
    """Read `(address, bytes)` ranges of process `pid` into one buffer, end to end.

    Raises:
        OSError: a range is not readable (EFAULT), the process is gone (ESRCH), not allowed (EPERM).
    """
    total = sum(size for _, size in ranges)
    buffer = bytearray(total)
    if total == 0:
        return buffer
    start = ctypes.addressof((ctypes.c_char * total).from_buffer(buffer))
    done = 0
    for first in range(0, len(ranges), IOV_MAX):
        batch = ranges[first : first + IOV_MAX]
        remote = array("Q", itertools.chain.from_iterable(batch))  # as `struct iovec`; objects take ten times as long
        wanted = sum(size for _, size in batch)
        local = _Iovec(start + done, wanted)
        got: int = _LIBC.process_vm_readv(
            pid,
            ctypes.byref(local),
            ctypes.c_ulong(1),
            ctypes.c_void_p(remote.buffer_info()[0]),
            ctypes.c_ulong(len(batch)),
            ctypes.c_ulong(0),
        )
        if got != wanted:
            number = ctypes.get_errno() if got < 0 else errno.EFAULT
            raise OSError(number, os.strerror(number), f"memory of process {pid}")
        done += wanted
    return buffer


def find_bytes(pattern: bytes, content: bytes) -> Iterator[int]:
    """Yield where `pattern` begins in `content`, overlaps too: twice as fast as `bytes.find` for 6 bytes and more."""
    start = ctypes.cast(ctypes.c_char_p(content), ctypes.c_void_p).value or 0
    position, size = 0, len(content)
    while found := _LIBC.memmem(start + position, size - position, pattern, len(pattern)):
        yield found - start
        position = found - start + 1


def compare_memory(first: int, second: int) -> int:
    """Return 0 where two processes have the same address space (kcmp KCMP_VM), else which comes first: -1 or 1.

    Raises:
        OSError: one is gone (ESRCH), not allowed (EPERM), or the kernel has no kcmp (ENOSYS).
    """
    result: int = _LIBC.syscall(
        ctypes.c_long(_SYS_KCMP), ctypes.c_long(first), ctypes.c_long(second), ctypes.c_long(KCMP_VM), 0, 0
    )
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"kcmp {first} {second}")
    return -1 if result == 1 else result and 1


def share_memory(first: int, second: int) -> bool:
    """Tell whether two processes have the same address space; raises as `compare_memory` does."""
    return compare_memory(first, second) == 0


def open_in_root(root: int, path: str, flags: int) -> int:
    """Open `path` as a process would whose root is the open folder `root`: no link leads out of it (Linux 5.6).

    Raises:
        OSError: as openat2(2).
    """
    how = struct.pack("<3Q", flags | os.O_CLOEXEC, 0, _RESOLVE_NO_MAGICLINKS | _RESOLVE_IN_ROOT)
    descriptor: int = _LIBC.syscall(
        ctypes.c_long(_SYS_OPENAT2), ctypes.c_long(root), os.fsencode(path), how, ctypes.c_size_t(len(how))
    )
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return descriptor


def lock_memory() -> bool:
    """Keep the pages this process touches in memory; return False where that is not allowed."""
    return int(_LIBC.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT)) == 0


def unlock_memory() -> None:
    """Undo `lock_memory`."""
    _LIBC.munlockall()


# --- libdw -----------------------------------------------------------------------------------------------

_FRAME_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_DWARF_CB_OK, _DWARF_CB_ABORT = 0, 1
_DW_OP_BREG0, _DW_OP_BREGX, _DWARF_RSP = 0x70, 0x92, 7


class _DwflCallbacks(ctypes.Structure):
    _fields_ = [
        ("find_elf", ctypes.c_void_p),
        ("find_debuginfo", ctypes.c_void_p),
        ("section_address", ctypes.c_void_p),
        ("debuginfo_path", ctypes.c_void_p),
    ]


def _load_libdw() -> ctypes.CDLL | None:
    """Bind libdw, or return None where it is not installed."""
    try:
        library = ctypes.CDLL("libdw.so.1")
    except OSError:
        return None
    pointer, word = ctypes.c_void_p, ctypes.c_uint64
    library.dwfl_begin.restype = pointer
    library.dwfl_begin.argtypes = [pointer]
    library.dwfl_end.argtypes = [pointer]
    library.dwfl_end.restype = None
    library.dwfl_report_begin.argtypes = [pointer]
    library.dwfl_report_begin_add.argtypes = [pointer]
    library.dwfl_report_elf.restype = pointer
    library.dwfl_report_elf.argtypes = [
        pointer, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int, word, ctypes.c_bool,
    ]  # fmt: skip
    library.dwfl_report_end.argtypes = [pointer, pointer, pointer]
    library.dwfl_linux_proc_attach.argtypes = [pointer, ctypes.c_int, ctypes.c_bool]
    library.dwfl_getthread_frames.argtypes = [pointer, ctypes.c_int, _FRAME_CALLBACK, pointer]
    library.dwfl_frame_pc.argtypes = [pointer, ctypes.POINTER(word), ctypes.POINTER(ctypes.c_bool)]
    library.dwfl_frame_pc.restype = ctypes.c_bool
    library.dwfl_addrmodule.restype = pointer
    library.dwfl_addrmodule.argtypes = [pointer, word]
    library.dwfl_module_eh_cfi.restype = pointer
    library.dwfl_module_eh_cfi.argtypes = [pointer, ctypes.POINTER(word)]
    library.dwarf_cfi_addrframe.argtypes = [pointer, word, ctypes.POINTER(pointer)]
    operations = ctypes.POINTER(ctypes.POINTER(_DwarfOperation))
    library.dwarf_frame_cfa.argtypes = [pointer, operations, ctypes.POINTER(ctypes.c_size_t)]
    return library


_LIBDW: Final = _load_libdw()
_LIBC.free.argtypes = [ctypes.c_void_p]
_LIBC.free.restype = None


class DwflSession:
    """A libdw session on one process whose threads are stopped by the caller.

    Attributes:
        handle: the `Dwfl *`, or 0 where libdw is missing.
    """

    def __init__(self) -> None:
        self.handle: int = 0
        self._callbacks = _DwflCallbacks()
        if _LIBDW is not None:
            self._callbacks.find_elf = ctypes.cast(_LIBDW.dwfl_linux_proc_find_elf, ctypes.c_void_p)
            self._callbacks.find_debuginfo = ctypes.cast(_no_debuginfo, ctypes.c_void_p)
            self.handle = _LIBDW.dwfl_begin(ctypes.addressof(self._callbacks)) or 0

    def report(self, name: str, descriptor: int, bias: int) -> bool:
        """Tell libdw of one ELF image; the descriptor is duplicated. Return False on failure."""
        if _LIBDW is None or not self.handle:
            return False
        copy = os.dup(descriptor)
        label = name.encode()
        if _LIBDW.dwfl_report_elf(self.handle, label, label, copy, bias, True):
            return True
        os.close(copy)
        return False

    def begin(self, *, more: bool = False) -> None:
        """Start the list of images; `more`: those told before stay."""
        if _LIBDW is not None and self.handle:
            (_LIBDW.dwfl_report_begin_add if more else _LIBDW.dwfl_report_begin)(self.handle)

    def end_report(self) -> bool:
        """End the list of images; return False on failure."""
        return _LIBDW is not None and self.handle != 0 and _LIBDW.dwfl_report_end(self.handle, None, None) == 0

    def attach(self, pid: int) -> bool:
        """End the list of images and bind the session to process `pid`; its threads need not be stopped yet."""
        if _LIBDW is None or not self.end_report():
            return False
        return int(_LIBDW.dwfl_linux_proc_attach(self.handle, pid, True)) == 0

    def frames(self, tid: int, visit: Callable[[int, bool], bool]) -> bool:
        """Walk the frames of a stopped thread; `visit(pc, exact)` says whether to go on.

        Return True only if the walk reached the outermost frame without any error.
        """
        if _LIBDW is None or not self.handle:
            return False
        library = _LIBDW

        def on_frame(frame: int, _argument: int) -> int:
            pc, exact = ctypes.c_uint64(), ctypes.c_bool()
            if not library.dwfl_frame_pc(frame, ctypes.byref(pc), ctypes.byref(exact)):
                return _DWARF_CB_ABORT
            return _DWARF_CB_OK if visit(pc.value, exact.value) else _DWARF_CB_ABORT

        return int(library.dwfl_getthread_frames(self.handle, tid, _FRAME_CALLBACK(on_frame), None)) == 0

    def has_cfi(self, pc: int) -> bool:
        """Tell whether call frame information covers `pc` (libdw would otherwise guess by frame pointers)."""
        frame = self._find_frame(pc)
        if frame is None:
            return False
        _LIBC.free(frame)
        return True

    def frame_bytes(self, pc: int) -> int | None:
        """Return the distance from the stack pointer at `pc` to the canonical frame address.

        None where nothing covers `pc`, or where the frame is not described by the stack pointer alone.
        """
        frame = self._find_frame(pc)
        if _LIBDW is None or frame is None:
            return None
        operations, count = ctypes.POINTER(_DwarfOperation)(), ctypes.c_size_t()
        try:
            if _LIBDW.dwarf_frame_cfa(frame, ctypes.byref(operations), ctypes.byref(count)) != 0 or count.value != 1:
                return None
            operation = operations[0]
            if operation.atom == _DW_OP_BREGX and operation.number == _DWARF_RSP:
                return signed(operation.number2)
            return signed(operation.number) if operation.atom == _DW_OP_BREG0 + _DWARF_RSP else None
        finally:
            _LIBC.free(frame)

    def _find_frame(self, pc: int) -> ctypes.c_void_p | None:
        """Return the `Dwarf_Frame *` of `pc`, which the caller frees; None where there is none."""
        if _LIBDW is None or not self.handle:
            return None
        module = _LIBDW.dwfl_addrmodule(self.handle, pc)
        if not module:
            return None
        bias, frame = ctypes.c_uint64(), ctypes.c_void_p()
        cfi = _LIBDW.dwfl_module_eh_cfi(module, ctypes.byref(bias))
        if not cfi:
            return None
        if _LIBDW.dwarf_cfi_addrframe(cfi, (pc - bias.value) % 2**64, ctypes.byref(frame)) != 0:
            return None
        return frame

    def close(self) -> None:
        """End the session."""
        if _LIBDW is not None and self.handle:
            _LIBDW.dwfl_end(self.handle)
        self.handle = 0


def _find_no_debuginfo() -> int:
    """Never look for separate debug files: unwinding needs .eh_frame only."""
    return -1


_no_debuginfo = ctypes.CFUNCTYPE(ctypes.c_int)(_find_no_debuginfo)
