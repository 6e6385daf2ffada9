"""Which of some addresses a program reaches: breakpoints that are met once.

For runs whose outputs nobody compares: the program is traced to its end, and so are the threads and processes it makes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from hotmend.linux import procfs, sys
from hotmend.linux.memory import ProcessMemory
from hotmend.model.errors import HotmendError, KernelError

_BREAKPOINT = b"\xcc"
_POLL_SECONDS = 0.001
_STOP_SECONDS = 2.0


@dataclass(slots=True)
class Watch:
    """The breakpoints of one process. All its methods belong to one thread of this process.

    Attributes:
        pid: process; no code at the addresses runs while breakpoints are set.
        addresses: load addresses.
        reached: those that were met so far.
    """

    pid: int
    addresses: frozenset[int]
    reached: set[int] = field(default_factory=set)
    _originals: dict[int, bytes] = field(default_factory=dict)
    _threads: set[int] = field(default_factory=set)

    def begin(self, patch: Iterable[tuple[int, bytes]] = ()) -> None:
        """Set the breakpoints and trace the process; write `(address, bytes)` while it is stopped."""
        with ProcessMemory(self.pid, writable=True) as memory:
            for address in self.addresses:
                self._originals[address] = memory.read(address, 1)
                memory.write_checked(address, _BREAKPOINT)
            for tid in procfs.list_threads(self.pid):
                sys.seize(tid, sys.OPTION_NEW | sys.OPTION_KILL)
                self._threads.add(tid)
            sys.interrupt(self.pid)
            self._await_stop()
            for address, content in patch:
                memory.write_checked(address, content)
            sys.resume(self.pid, 0)

    def _await_stop(self) -> None:
        """Wait until the main thread has stopped."""
        limit = time.monotonic() + _STOP_SECONDS
        while True:
            found, status = os.waitpid(self.pid, os.WNOHANG | sys.WALL)
            if found and os.WIFSTOPPED(status):
                return
            if found or time.monotonic() > limit:
                raise KernelError(f"process {self.pid} did not stop")
            time.sleep(_POLL_SECONDS)

    def run(self, seconds: float) -> bool:
        """Follow the process until all that is traced has ended; return False when it was ended by the limit."""
        limit = time.monotonic() + seconds
        while self._threads:
            events = [self._step(tid) for tid in tuple(self._threads)]
            if not any(events):
                if time.monotonic() > limit:
                    self._end()
                    return False
                time.sleep(_POLL_SECONDS)
        return True

    def _step(self, tid: int) -> bool:
        """Handle one event of a thread; return whether there was one."""
        try:
            found, status = os.waitpid(tid, os.WNOHANG | sys.WALL)
        except ChildProcessError:
            self._threads.discard(tid)
            return True
        if found == 0:
            return False
        if not os.WIFSTOPPED(status):
            self._threads.discard(tid)
            return True
        event, number = status >> 16, os.WSTOPSIG(status)
        with contextlib.suppress(ProcessLookupError):  # killed meanwhile: waitpid will say so
            if event in sys.EVENTS_NEW:
                self._threads.add(sys.get_new_thread(tid))
            passed = 0 if event or self._met(tid, number) else number
            sys.resume(tid, passed)
        return True

    def _met(self, tid: int, number: int) -> bool:
        """Take the breakpoint away that a thread has met, and set it back to the beginning."""
        if number != signal.SIGTRAP:
            return False
        registers = sys.get_registers(tid)
        address = registers.rip - 1
        if address not in self.addresses:
            return False
        self.reached.add(address)
        with ProcessMemory(tid, writable=True) as memory:
            memory.write(address, self._originals[address])
        sys.set_registers(tid, registers._replace(rip=address))
        return True

    def _end(self) -> None:
        """End all that is traced and collect it."""
        for tid in self._threads:
            with contextlib.suppress(OSError, HotmendError):
                os.kill(tid, signal.SIGKILL)
        for tid in self._threads:
            with contextlib.suppress(OSError):
                os.waitpid(tid, sys.WALL)
        self._threads.clear()
