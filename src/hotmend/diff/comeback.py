"""Whether code that a thread is still inside of may come back to its own entry, which leads to new code by then.

Followed are the calls of unchanged code, in the old build. A call through a pointer, or of an import that is not known
to keep to itself, may lead to every function whose address the program has, or that it exports. Not counted are `main`,
whose address only the start-up code takes, and functions that are handed to `pthread_create` alone: those begin a
thread, and are on no other thread's stack.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np

from hotmend.diff.align import Aligned
from hotmend.diff.compare import Contents
from hotmend.diff.correspond import Correspondence
from hotmend.diff.rules.startup import ONCE
from hotmend.image.image import Slot
from hotmend.image.references import ABSOLUTE, LEA
from hotmend.image.ways import begins_threads, falls_through, pointers_followed

_KEEP_TO_THEMSELVES = frozenset({
    "__errno_location", "__stack_chk_fail", "__explicit_bzero_chk", "__memcpy_chk", "__memset_chk", "__read_chk",
    "__recv_chk", "__strcpy_chk", "__strncpy_chk", "abort", "_exit", "accept", "accept4", "access", "bind", "calloc",
    "clock_gettime", "clock_nanosleep", "close", "connect", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_wait",
    "explicit_bzero", "fcntl", "fcntl64", "free", "fstat", "fstat64", "fsync", "getenv", "getpeername", "getpid",
    "getppid", "getsockname", "getsockopt", "gettimeofday", "getuid", "gmtime_r", "htonl", "htons", "ioctl", "listen",
    "localtime_r", "lseek", "lseek64", "malloc", "memchr", "memcmp", "memcpy", "memmove", "memset", "mmap", "mmap64",
    "munmap", "nanosleep", "open", "open64", "openat", "openat64", "pause", "pipe", "pipe2", "poll", "ppoll", "pread",
    "pread64", "pselect", "pthread_cond_broadcast", "pthread_cond_signal", "pthread_cond_timedwait",
    "pthread_cond_wait", "pthread_create", "pthread_detach", "pthread_getspecific", "pthread_mutex_lock",
    "pthread_mutex_trylock", "pthread_mutex_unlock", "pthread_rwlock_rdlock", "pthread_rwlock_unlock",
    "pthread_rwlock_wrlock", "pthread_self", "pthread_setspecific", "pwrite", "pwrite64", "read", "readv", "realloc",
    "recv", "recvfrom", "recvmsg", "sched_yield", "select", "sem_post", "sem_timedwait", "sem_trywait", "sem_wait",
    "send", "sendmsg", "sendto", "setsockopt", "shutdown", "sigaction", "sleep", "socket", "stat", "stat64",
    "strcasecmp", "strchr", "strcmp", "strcpy", "strerror", "strlen", "strncasecmp", "strncmp", "strncpy", "strrchr",
    "strstr", "strtol", "strtoll", "strtoul", "strtoull", "time", "unlink", "usleep", "write", "writev",
})  # fmt: skip
"""Functions of the C library that call nothing of the program on the thread that calls them."""

_BEGINS_THREADS = "pthread_create"


def comes_back(c: Correspondence, contents: Contents, aligned: Aligned, inside: set[int], door: int) -> str:
    """Return how old codes `inside` may come to the entry `door` again; "" where they cannot.

    Args:
        c: the correspondence.
        contents: compared objects.
        aligned: decoded bodies.
        inside: indexes of old codes.
        door: link address of the old entry.
    """
    return _Paths(c, contents, aligned, inside, door).run()


class _Paths:
    def __init__(self, c: Correspondence, contents: Contents, aligned: Aligned, inside: set[int], door: int) -> None:
        self._c, self._contents, self._aligned, self._inside, self._door = c, contents, aligned, inside, door
        self._old = c.old
        self._exports = {symbol.name: int(symbol.value) for symbol in c.old.image.exports.values()}
        self._unclear = ""

    def run(self) -> str:
        for i in sorted(self._inside):
            if how := self._leads_there(i):
                return how
        target = self._old.holder(self._door)
        seen, waiting = set(self._inside), list(self._inside)
        everything = False
        while waiting:
            i = waiting.pop()
            reached = set(self._called(i, look_closely=not everything))
            if i in self._inside:
                reached -= self._inside  # what leads to the entry itself was looked at before
            if self._unclear and not everything:
                everything = True
                reached |= set(self._reachable_by_pointer())
            if target in reached:
                return self._unclear or f"{self._old.codes[i].label} calls it"
            waiting += sorted(reached - seen - {-1})
            seen |= reached
        return ""

    def _leads_there(self, i: int) -> str:
        """Return how a code itself goes to the entry: a loop to the first instruction counts like a call."""
        body, label = self._aligned.old(i), self._old.codes[i].label
        kinds = self._contents.old.references_to(self._door)
        if self._door in body.branch_targets or any(owner == i for owner, _ in kinds):
            return f"{label} refers to it"
        r = self._old.references
        for target in r.target[int(r.first[i]) : int(r.first[i + 1])].tolist():
            if self._door in self._contents.old.jump_table(target):
                return f"{label} jumps to it by a table"
        return f"{label} ends where it begins" if body.code.end == self._door and falls_through(body) else ""

    def _called(self, i: int, *, look_closely: bool) -> Iterator[int]:
        """Yield what a code refers to as code; note in `_unclear` what may lead anywhere."""
        r, survey = self._old.references, self._old
        for n in range(int(r.first[i]), int(r.first[i + 1])):
            target, kind = int(r.target[n]), int(r.kind[n])
            holder = survey.holder(target)
            slot = self._slot(target)
            if slot is not None:
                yield from self._imported(i, slot)
            elif holder >= 0 and not (kind in (LEA, ABSOLUTE) and survey.codes[holder].start == target):
                yield holder
            elif (word := survey.holder(survey.image.pointers.get(target, -1))) >= 0:
                yield word
        if look_closely and not self._unclear:
            self._look_closely(i)

    def _slot(self, target: int) -> Slot | None:
        return self._old.image.slots.get(self._c.old_plt.get(target, target))

    def _imported(self, i: int, slot: Slot) -> Iterator[int]:
        holder = self._old.holder(self._exports.get(slot.name, -1))
        if holder >= 0:
            yield holder
        known = slot.name in _KEEP_TO_THEMSELVES and slot.version.startswith("GLIBC_") and holder < 0
        if not known and not self._unclear:
            self._unclear = f"{self._old.codes[i].label} calls {slot.name}, which may call anything"

    def _look_closely(self, i: int) -> None:
        body, label = self._aligned.old(i), self._old.codes[i].label
        if self._old.codes[i].gap or i in self._old.invalid:
            self._unclear = f"{label} is code without frame information"
            return
        if not all(self._is_linked(pointer) for pointer in pointers_followed(body)):
            self._unclear = f"{label} goes on through a pointer"

    def _is_linked(self, word: int) -> bool:
        """Return whether a word is one that only the dynamic linker fills; `_called` has seen where it leads."""
        section = self._old.image.section_at(word)
        return section is not None and section.name.startswith(".got")

    def _reachable_by_pointer(self) -> Iterator[int]:
        """Yield all codes whose address somebody may have."""
        survey, r = self._old, self._old.references
        image = survey.image
        entry = survey.holder(image.entry)
        holders = survey.holders(r.target)
        taken = (holders >= 0) & np.isin(r.kind, (LEA, ABSOLUTE)) & (r.owner != entry)
        takers: dict[int, set[int]] = defaultdict(set)
        for holder, owner in zip(holders[taken].tolist(), r.owner[taken].tolist(), strict=True):
            takers[holder].add(owner)
        yield from (holder for holder, owners in takers.items() if not self._only_begins_threads(holder, owners))
        for word, target in image.pointers.items():
            section = image.section_at(word)
            if section is None or section.name not in ONCE:
                yield survey.holder(target)
        yield from (survey.holder(address) for address in self._exports.values())
        yield from (i for i, code in enumerate(survey.codes) if code.gap)

    def _only_begins_threads(self, holder: int, owners: Iterable[int]) -> bool:
        start = self._old.codes[holder].start
        slots = {a for a, slot in self._old.image.slots.items() if slot.name == _BEGINS_THREADS}
        slots |= {stub for stub, slot in self._c.old_plt.items() if slot in slots}
        return all(begins_threads(self._aligned.old(owner), start, slots) for owner in owners)
