"""System calls made by a thread of another process, without traps, that restore the thread by themselves.

The stopped thread gets the registers of the call, its rip on a `syscall; ret` gadget, and a stack that holds the
address of `mov $15,%rax; syscall` followed by an `rt_sigframe` of the interrupted moment. Then it is let go. Should
the patcher die at any point, the thread either never left its place or finds back alone. Several calls are one way:
below that frame stands one for each further call, which has the thread make it and return to the next frame.

What the frame takes, each point from a crash or from the kernel's source:
* the XSAVE area with both magic words, 64-byte aligned, or the kernel clears the FPU;
* a pending restart (-512, -513, -514, or -4 of a call that may be made again) becomes "rip back, rax = number",
  because `rt_sigreturn` forgets it; -516 is only exact for some calls (`_restart`), other threads are preferred;
* invalid `ss_flags`, or the kernel would change the thread's sigaltstack;
* no signal is handled on the way: a thread in `sigsuspend`, `ppoll`, `pselect` or `epoll_pwait` has the mask of that
  call, its handler would run, and the call, made again, would wait for a signal that has gone;
* no thread inside its rseq critical section, which would be left without an abort;
* enough below sp that is known for the thread's own stack (`stacks`);
* seccomp filters that let both calls pass; no shadow stack.
"""

from __future__ import annotations

import contextlib
import math
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hotmend.linux import filters, procfs, sys
from hotmend.linux.calm import calm
from hotmend.linux.locked import locked_memory_objection
from hotmend.linux.memory import ProcessMemory
from hotmend.linux.procfs import Mapping
from hotmend.linux.search import places_of
from hotmend.linux.seccomp import CallData
from hotmend.linux.stacks import RESTORER, lowest_own
from hotmend.linux.stop import (
    EINTR_RESULT,
    ERESTART_RESTARTBLOCK,
    ERESTARTNOINTR,
    ERESTARTSYS,
    StopFailure,
    StopFailureKind,
    Stopped,
    StoppedThread,
    Stopper,
)
from hotmend.linux.sys import Registers
from hotmend.linux.window import ERESTARTNOHAND, is_repeatable, stopped_indices
from hotmend.model.errors import ProcessGoneError
from hotmend.model.verdict import Reason, refusal

SYSCALL_RET = b"\x0f\x05\xc3"
SYS_MMAP, SYS_MPROTECT = 9, 10
_PROT_WRITE = 2
_SYS_RT_SIGRETURN = 15
_SYSCALL_BYTES = 2

_MAGIC1, _MAGIC2 = 0x46505853, 0x46505845
_UC_FLAGS = 7  # UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS
_INVALID_SS_FLAGS = 5
_SW_RESERVED = 464
_AMX_OFFSET, _AMX_FEATURES = 2752, 3 << 17
_RED_ZONE_BYTES = 128
_SIGINFO_BYTES = 128
_CODE_SEGMENT_64 = 0x33
_MASK64 = (1 << 64) - 1
_RSEQ_CS = struct.Struct("<IIQQQ")
_CONTEXT = struct.Struct("<QQQiIQ 18Q 4H 4Q Q 64x Q")
_FRAME_BYTES = 8 + _CONTEXT.size + _SIGINFO_BYTES
_CALL_SECONDS = 2.0
_BEGIN_THREADS_MAX = 4
CALLS_MAX = 16
"""So many calls are made on one way: their frames have room on any stack that is used."""

STACK_BYTES_MIN = 64 << 10
MAIN_STACK_BYTES_MIN = 16 << 10
"""The main thread's `[stack]` grows by itself, so less of it needs to be mapped already."""

_NANOSLEEP, _CLOCK_NANOSLEEP, _POLL, _FUTEX, _RESTART_SYSCALL = 35, 230, 7, 202, 219
_FUTEX_ABSOLUTE = frozenset({9, 11, 13})  # WAIT_BITSET, WAIT_REQUEUE_PI, LOCK_PI2: absolute timeouts


@dataclass(frozen=True, slots=True)
class Gadgets:
    """Load addresses of the two pieces of code the chain runs on."""

    syscall_ret: int
    restorer: int


@dataclass(frozen=True, slots=True)
class Call:
    """A system call to make: number and up to six arguments."""

    number: int
    arguments: tuple[int, ...]


def build_frames(
    registers: Registers, mask: int, xsave: bytes, gadgets: Gadgets, calls: Sequence[Call] = ()
) -> tuple[int, bytes]:
    """Return where the chain's stack begins and what stands there: frames, each behind the restorer; the XSAVE area.

    Args:
        registers: of the interrupted moment, restarts already resolved.
        mask: signal mask to restore; all signals are blocked until then.
        xsave: XSAVE area in standard form; every frame has it restored.
        gadgets: the code that the chain runs on.
        calls: to be made on the way back, in order.
    """
    area = seal_xsave(xsave)
    floating = start = (registers.rsp - _RED_ZONE_BYTES - len(area)) & -64
    content = area
    for call in (None, *reversed(calls)):
        after, start = start, ((start - _FRAME_BYTES) & -16) - 8
        moment = registers if call is None else call_registers(registers, call, after, gadgets)
        blocked = mask if call is None else _MASK64
        frame = struct.pack("<Q", gadgets.restorer) + _context(moment, floating, blocked)
        content = frame.ljust(after - start, b"\0") + content
    return start, content


def call_registers(registers: Registers, call: Call, stack: int, gadgets: Gadgets) -> Registers:
    """Return the registers with which a thread makes a call and goes on where `stack` leads.

    Args:
        registers: of the thread.
        call: to be made.
        stack: load address of a frame.
        gadgets: the code that the chain runs on.
    """
    a = [value & _MASK64 for value in (*call.arguments, 0, 0, 0, 0, 0, 0)]
    return registers._replace(
        rip=gadgets.syscall_ret, rsp=stack, rax=call.number, orig_rax=_MASK64,
        rdi=a[0], rsi=a[1], rdx=a[2], r10=a[3], r8=a[4], r9=a[5],
    )  # fmt: skip


def _context(registers: Registers, floating: int, mask: int) -> bytes:
    """Return the ucontext that has a thread go on with these registers."""
    r = registers
    return _CONTEXT.pack(
        _UC_FLAGS, 0, 0, _INVALID_SS_FLAGS, 0, 0,
        r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rdi, r.rsi, r.rbp, r.rbx, r.rdx, r.rax, r.rcx,
        r.rsp, r.rip, r.eflags,
        r.cs & 0xFFFF, 0, 0, r.ss & 0xFFFF,
        0, 0, 0, 0,
        floating, mask,
    )  # fmt: skip


def seal_xsave(xsave: bytes) -> bytes:
    """Return an XSAVE area as `rt_sigreturn` believes it: features and sizes in `sw_reserved`, magic behind."""
    features = int.from_bytes(xsave[_SW_RESERVED : _SW_RESERVED + 8], "little")
    in_use = int.from_bytes(xsave[512:520], "little")
    if len(xsave) > _AMX_OFFSET and not in_use & _AMX_FEATURES:
        xsave, features = xsave[:_AMX_OFFSET], features & ~_AMX_FEATURES
    words = struct.pack("<IIQI28x", _MAGIC1, len(xsave) + 4, features, len(xsave))
    return xsave[:_SW_RESERVED] + words + xsave[512:] + struct.pack("<I", _MAGIC2)


def resume_registers(registers: Registers, *, reluctant: bool) -> Registers | None:
    """Return the registers to come back to; None where this moment cannot be left and found again.

    Args:
        registers: at the stop.
        reluctant: also accept a timed wait that would begin again with its full time.
    """
    number, result = sys.signed(registers.orig_rax), sys.signed(registers.rax)
    if number < 0:
        return registers
    again = registers._replace(rip=registers.rip - 2, rax=registers.orig_rax)
    if result in (ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND):
        return again
    if result == EINTR_RESULT and is_repeatable(registers):
        return again
    if result == ERESTART_RESTARTBLOCK:
        return again if _restart_exact(registers) or (reluctant and _restart_known(registers)) else None
    return registers


def _restart_exact(registers: Registers) -> bool:
    """Tell whether an interrupted timed call means the same when made again with the same arguments."""
    if registers.orig_rax == _POLL:
        return registers.rdx & 0x80000000 != 0
    return registers.orig_rax == _FUTEX and registers.rsi & 0x7F in _FUTEX_ABSOLUTE


def _restart_known(registers: Registers) -> bool:
    """Tell whether making the call again only waits longer: by at most its own time, once."""
    return registers.orig_rax in (_NANOSLEEP, _CLOCK_NANOSLEEP, _POLL, _FUTEX)


def chain_calls(calls: Sequence[Call], gadgets: Gadgets) -> tuple[CallData, ...]:
    """Return every system call that a thread makes on its way through `calls`, as its seccomp filters see them."""
    result: dict[CallData, None] = {}
    for call in calls:
        arguments = tuple(value & _MASK64 for value in call.arguments)
        result[CallData(call.number, arguments, gadgets.syscall_ret + _SYSCALL_BYTES)] = None
        # The way back finds the argument registers as the call left them.
        result[CallData(_SYS_RT_SIGRETURN, arguments, gadgets.restorer + len(RESTORER))] = None
    return tuple(result)


def process_objections(stopper: Stopper, calls: Sequence[Call], gadgets: Gadgets) -> tuple[Reason, ...]:
    """Return why `calls` cannot be made in this process at all; () where some thread can make them."""
    pid = stopper.pid
    if procfs.read_status(pid).shadow_stack:
        text = f"process {pid} uses hardware shadow stacks; restart it on the new build instead"
        return (refusal("shadow-stack", text),)
    for room in (_address_space, _data, _map_count, _locked):
        if text := room(pid, calls):
            return (refusal("address-space-limit", text),)
    return filters.filter_objections(stopper, chain_calls(calls, gadgets))


def _address_space(pid: int, calls: Sequence[Call]) -> str:
    """Return why the process has no room in its address space; "" where it has."""
    wanted = sum(call.arguments[1] for call in calls if call.number == SYS_MMAP)
    size, limit = procfs.memory_size(pid, "VmSize"), procfs.soft_limit(pid, "Max address space")
    if limit is None or size + wanted <= limit:
        return ""
    return f"process {pid} may map {limit} bytes (RLIMIT_AS) and maps {size}; the new code takes {wanted} more"


def _data(pid: int, calls: Sequence[Call]) -> str:
    """Return why the process may not have more writable memory of its own; "" where it may."""
    wanted = sum(c.arguments[1] for c in calls if c.number == SYS_MPROTECT and c.arguments[2] & _PROT_WRITE)
    size, limit = procfs.memory_size(pid, "VmData"), procfs.soft_limit(pid, "Max data size")
    if not wanted or limit is None or size + wanted <= limit:
        return ""
    return (
        f"process {pid} may have {limit} bytes of data (RLIMIT_DATA) and has {size}; the new code takes {wanted} more"
    )


def _locked(pid: int, calls: Sequence[Call]) -> str:
    """Return why the process may not lock more memory; "" where it may, or locks none."""
    return locked_memory_objection(pid, sum(call.arguments[1] for call in calls if call.number == SYS_MMAP))


def _map_count(pid: int, calls: Sequence[Call]) -> str:
    """Return why the process may not have more mappings; "" where it may."""
    limit, size = procfs.map_count_limit(), len(procfs.read_maps(pid))
    wanted = 2 * len(calls)  # a change of protection cuts a mapping in up to three
    if limit is None or size + wanted <= limit:
        return ""
    return f"process {pid} has {size} mappings of {limit} (vm.max_map_count); the new code takes up to {wanted} more"


def find_gadgets(memory: ProcessMemory, maps: Sequence[Mapping]) -> Gadgets | None:
    """Find both pieces of code in executable file mappings, the C library first; None where one is missing."""
    runnable = [m for m in maps if m.executable and m.readable and m.inode]
    runnable.sort(key=lambda m: ("libc.so" not in m.path and "libc-" not in m.path and "musl" not in m.path, m.start))
    syscall_ret = restorer = 0
    for mapping in runnable:
        syscall_ret = syscall_ret or next(iter(places_of(SYSCALL_RET, memory, mapping)), 0)
        restorer = restorer or next(iter(places_of(RESTORER, memory, mapping)), 0)
        if syscall_ret and restorer:
            return Gadgets(syscall_ret, restorer)
    return None


@dataclass(slots=True)
class RemoteCaller:
    """Makes system calls in one process.

    Attributes:
        stopper: of the process.
        memory: writable memory of the process.
        gadgets: from `find_gadgets`.
        restorers: from `stacks.find_restorers`.
    """

    stopper: Stopper
    memory: ProcessMemory
    gadgets: Gadgets
    restorers: tuple[int, ...]
    _ran_ns: int | None = None
    _begun: int | None = None

    def call(self, calls: Sequence[Call], done: Callable[[], bool], deadline: float) -> Reason | None:
        """Have one thread make the calls, and wait until `done()`; return None, or why not.

        Args:
            calls: what to do, in order, whatever each of them returns; at most `CALLS_MAX`.
            done: tells from outside whether they took effect.
            deadline: `time.perf_counter()` after which no more moments are tried.
        """
        if self._begun is not None:
            tid, self._begun = self._begun, None
            return self._await(tid, done, deadline)
        pause, reluctant_at, why = 0.001, time.perf_counter() + 0.02, "no thread was in a suitable state"
        while True:
            reluctant = time.perf_counter() > reluctant_at
            for tid in sorted(procfs.list_threads(self.stopper.pid), key=lambda t: (t != self.stopper.pid, t)):
                objection = self._try_thread(tid, calls, reluctant=reluctant)
                if objection is None:
                    return self._await(tid, done, deadline)
                why = objection
                if time.perf_counter() > deadline:
                    break
            if time.perf_counter() > deadline:
                return refusal("no-remote-call", f"process {self.stopper.pid}: no system call could be made in it", why)
            self.stopper.pause(pause)
            pause = min(pause * 2, 0.05)

    def begin(self, stopped: Stopped, calls: Sequence[Call], limit: float = math.inf) -> None:
        """Set one of the threads of a stop on its way through the calls; the next `call` waits for what comes of it.

        Where none of the first few is in a suitable state, `call` begins by itself: everybody stands still here.

        Args:
            stopped: all threads of the process.
            calls: the ones that `call` is going to be asked for.
            limit: `time.perf_counter()` after which no thread is tried any more.
        """
        pid = self.stopper.pid
        if time.perf_counter() > limit:
            return
        maps = procfs.read_maps(pid)
        which = sorted(stopped_indices(stopped.tables), key=lambda at: at[0].tids[at[1]] != pid)
        for thread in stopped.pick(which[:_BEGIN_THREADS_MAX]):
            if time.perf_counter() > limit:
                return
            self._ran_ns = procfs.thread_run_ns(pid, thread.tid)
            with contextlib.suppress(OSError):
                if thread.pid == pid and self._start(thread, calls, maps, reluctant=False) is None:
                    self._begun = thread.tid
                    return

    def _try_thread(self, tid: int, calls: Sequence[Call], *, reluctant: bool) -> str | None:
        """Set one thread on its way; return None, or why this thread cannot do it now."""
        self.stopper.rest()
        maps = procfs.read_maps(self.stopper.pid)
        with calm(self.stopper.release_late):
            try:
                stopped = self.stopper.stop(0.005, only=tid)
            except StopFailure as failure:
                if failure.kind is StopFailureKind.LATE:
                    return f"thread {tid} did not stop"
                raise
            except ProcessGoneError:
                if self.stopper.has_ended():
                    raise
                return f"thread {tid} has ended"
            thread = stopped.threads[tid]
            self._ran_ns = procfs.thread_run_ns(self.stopper.pid, tid)
            try:
                objection = self._start(thread, calls, maps, reluctant=reluctant)
            except OSError as error:
                objection = f"thread {tid}: {error}"
            finally:
                self.stopper.release(stopped)
        return objection

    def _start(
        self, thread: StoppedThread, calls: Sequence[Call], maps: tuple[Mapping, ...], *, reluctant: bool
    ) -> str | None:
        """Write the frame and set the registers of a stopped thread; return None, or why not."""
        registers, tid = thread.registers, thread.tid
        status = procfs.read_status(self.stopper.pid, tid)
        if thread.signal or status.pending:
            return f"thread {tid} has a signal to handle"
        if registers.cs != _CODE_SEGMENT_64:
            return f"thread {tid} runs 32-bit code"
        back = resume_registers(self._original_call(registers), reluctant=reluctant)
        if back is None:
            return f"thread {tid} is in a timed wait that cannot be resumed"
        if self._in_critical_section(tid, registers.rip):
            return f"thread {tid} is in a restartable sequence"
        if denial := filters.thread_denial(tid, status.seccomp, chain_calls(calls, self.gadgets)):
            return f"thread {tid}: {denial}"
        leader = tid == self.stopper.pid
        lowest = lowest_own(self.memory, maps, registers, self.restorers, leader=leader)
        if lowest is None:
            return f"thread {tid} is on a stack that is not known for its own"
        mask, xsave = sys.get_signal_mask(tid), sys.get_xsave(tid)
        address, frames = build_frames(back, mask, xsave, self.gadgets, calls[1:])
        least = MAIN_STACK_BYTES_MIN if leader else STACK_BYTES_MIN
        if min(address, registers.rsp - least) < lowest:
            return f"thread {tid} has too little stack"
        self.memory.tracee = tid
        try:
            self.memory.write_checked(address, frames)
        finally:
            self.memory.tracee = None
        chain = call_registers(registers, calls[0], address, self.gadgets)
        sys.set_registers(tid, chain)
        sys.set_signal_mask(tid, _MASK64)  # in this order: the way back restores the mask, and nothing else would
        thread.registers = chain
        return None

    def _original_call(self, registers: Registers) -> Registers:
        """Return registers that name the call which a thread in `restart_syscall` began with, if its code tells.

        After one stop the kernel resumes a timed wait as `restart_syscall`; the C library's wrapper has
        `mov $number,%eax` right before the `syscall` instruction.
        """
        if registers.orig_rax != _RESTART_SYSCALL:
            return registers
        code = self.memory.try_read(registers.rip - 7, 7) or b""
        if code[:1] != b"\xb8" or code[5:] != SYSCALL_RET[:2]:
            return registers
        return registers._replace(orig_rax=int.from_bytes(code[1:5], "little"))

    def _in_critical_section(self, tid: int, rip: int) -> bool:
        """Tell whether `rip` lies in the rseq critical section that the thread has announced."""
        rseq = sys.get_rseq(tid)
        if not rseq.pointer:
            return False
        announced = int.from_bytes(self.memory.read(rseq.pointer + 8, 8), "little")
        if not announced:
            return False
        _, _, start, length, _ = _RSEQ_CS.unpack(self.memory.read(announced, _RSEQ_CS.size))
        return bool(start <= rip < start + length)

    def _await(self, tid: int, done: Callable[[], bool], deadline: float) -> Reason | None:
        """Wait until the call shows.

        The call is the first thing the thread does once it gets a processor: on a busy machine that can take seconds,
        and nothing can be said before. Once it ran and nothing shows, the call has failed.
        """
        limit = max(deadline, time.perf_counter() + _CALL_SECONDS)
        while not done():
            self.stopper.release_late()  # nobody stands still for as long as another one takes
            ran = self._ran_ns is None or procfs.thread_run_ns(self.stopper.pid, tid) != self._ran_ns
            limit = min(limit, time.perf_counter() + _CALL_SECONDS) if ran else limit
            self._ran_ns = None if ran else self._ran_ns
            if time.perf_counter() > limit:
                return refusal(
                    "remote-call-failed",
                    f"process {self.stopper.pid} did not get the memory it asked for "
                    "(limits, security policy, or the address was taken meanwhile)",
                    f"thread {tid}",
                )
            time.sleep(0.0001)
        return None
