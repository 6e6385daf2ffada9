"""Which code of an image only runs when the program starts.

Constructors run before `main`; `main` runs straight on until it waits in a loop, or calls a function that does. What
is called from there alone has run by the time anybody changes the process. Whoever's address is taken, or who is
exported, may be called at any time.
"""

from __future__ import annotations

from functools import cached_property

from hotmend.diff.align import Aligned
from hotmend.image.body import calls_by_instruction
from hotmend.image.loops import Phases, phases
from hotmend.image.reach import reached
from hotmend.image.references import ABSOLUTE, CALL, JUMP, LEA, Survey

_SERVES = frozenset({
    "__fgets_chk", "__poll_chk", "__recv_chk", "accept", "accept4", "epoll_pwait", "epoll_pwait2", "epoll_wait",
    "ev_run", "event_base_dispatch", "event_base_loop", "fgetc", "fgets", "fgets_unlocked", "g_main_loop_run",
    "getc", "getchar", "getdelim", "getline", "io_getevents", "mq_receive", "msgrcv", "pause", "poll", "ppoll",
    "pselect", "recv", "recvfrom", "recvmmsg", "recvmsg", "select", "sigsuspend", "sigtimedwait", "sigwait",
    "sigwaitinfo", "uv_run",
})  # fmt: skip
"""Imports in which a server waits for work."""

_WAITS = _SERVES | frozenset({
    "__read_chk", "clock_nanosleep", "fread", "nanosleep", "pthread_cond_timedwait", "pthread_cond_wait",
    "pthread_join", "read", "readv", "sem_timedwait", "sem_wait", "sleep", "usleep", "wait", "wait3", "wait4",
    "waitid", "waitpid",
})  # fmt: skip
"""And those in which others wait, and servers at their beginning and end."""

_LEVELS = 3
"""How many calls may lie between `main` and the loop, and between the loop and the wait."""

_TESTS = (b"\x48\x85", b"\x4d\x85", b"\x85\xc0")
"""Beginnings of `test %rax,%rax` and its like behind an address: whether a weak symbol is there."""

ONCE = (".init_array", ".preinit_array", ".ctors")
"""Sections whose words are functions that are called once, when the image is loaded."""


class Startup:
    """The codes of one build that run at start alone.

    Attributes:
        only: their indexes.
        main: index of `main`, -1 where there is none.
        waiting: indexes of the functions that wait in a loop for good, from `main` downwards, with their phases.
    """

    def __init__(self, survey: Survey, plt: dict[int, int], aligned: Aligned) -> None:
        self._survey, self._plt, self._aligned = survey, plt, aligned
        self._callees: list[set[int]] = [set() for _ in survey.codes]
        self._taken: set[int] = set()
        self._waits: set[int] = set()
        self._serves: set[int] = set()
        self.main = -1
        self.waiting: dict[int, Phases] = {}
        self._known: dict[tuple[int, int], Phases | None] = {}
        self._linked = self._linked_words()
        self._read_references()
        self.only: frozenset[int] = self._start_only()

    def _linked_words(self) -> dict[int, int]:
        """Return word of the global offset table -> the code of this image it holds: a call through it is a call."""
        image, survey = self._survey.image, self._survey
        sections = [s for s in image.allocated if s.name.startswith(".got")]
        return {
            word: survey.holder(target)
            for word, target in image.pointers.items()
            if any(s.address <= word < s.address + s.size for s in sections) and survey.holder(target) >= 0
        }

    def _read_references(self) -> None:
        survey, r = self._survey, self._survey.references
        holders = survey.holders(r.target).tolist()
        entry = survey.holder(survey.image.entry)
        rows = zip(r.owner.tolist(), r.kind.tolist(), r.field.tolist(), r.target.tolist(), holders, strict=True)
        for owner, kind, place, target, holder in rows:
            if holder >= 0:
                if kind in (CALL, JUMP):
                    self._callees[owner].add(holder)
                elif kind in (LEA, ABSOLUTE) and survey.codes[holder].start == target:
                    if owner == entry and not survey.codes[holder].gap:
                        self.main = holder
                    elif survey.image.read(place + 4, 2) not in _TESTS:
                        self._taken.add(holder)
                else:
                    self._callees[owner].add(holder)
            elif target in self._linked:
                self._callees[owner].add(self._linked[target])
            else:
                name = self._import(target)
                if name in _WAITS:
                    self._waits.add(owner)
                if name in _SERVES:
                    self._serves.add(owner)

    def _import(self, target: int) -> str:
        slot = self._survey.image.slots.get(self._plt.get(target, target))
        return slot.name if slot is not None else ""

    def _start_only(self) -> frozenset[int]:
        image, survey = self._survey.image, self._survey
        once: set[int] = set()
        roots = set(self._taken)
        for word, target in image.pointers.items():
            holder = survey.holder(target)
            section = image.section_at(word)
            if holder >= 0 and word not in self._linked:
                (once if section is not None and section.name in ONCE else roots).add(holder)
        roots |= {survey.holder(a) for a in image.exported_addresses} - {-1, self.main}
        once |= {survey.holder(image.called_first)} - {-1}
        roots |= {survey.holder(image.called_last)} - {-1}
        entry = survey.holder(image.entry)
        roots |= {j for j, code in enumerate(survey.codes) if code.gap and j != entry}
        self._follow_main(once, roots)
        callees = self._callees.__getitem__
        return frozenset(reached(once, callees) - reached(roots, callees))

    def _follow_main(self, once: set[int], roots: set[int]) -> None:
        """Sort what `main` calls: before it waits for good, and from then on."""
        at = self.main
        seen: set[int] = set()
        while at >= 0 and at not in seen:
            seen.add(at)
            found = self._phases(at, _LEVELS)
            if found is None:
                roots.add(at)
                return
            self.waiting[at] = found
            called = self._called(at)
            once.update(j for n, j in called.items() if n in found.before and j >= 0)
            later = {j for n, j in called.items() if n not in found.before and j >= 0}
            onwards = {called[n] for n in found.waiting if self._loops(called.get(n, -1), _LEVELS)}
            roots |= later - onwards | (self._callees[at] - set(called.values()))
            if len(onwards) != 1 or onwards & roots:
                roots |= onwards
                return
            at = onwards.pop()

    def _called(self, j: int) -> dict[int, int]:
        """Return for each call of a function which code it calls, -1 for others."""
        body = self._aligned.new(j)
        result = {n: self._survey.holder(target) for n, target in calls_by_instruction(body).items()}
        for n, i in enumerate(body.instructions):
            if i.is_ip_rel_memory_operand and i.ip_rel_memory_address in self._linked:
                result[n] = self._linked[i.ip_rel_memory_address]
        return result

    def _phases(self, j: int, levels: int) -> Phases | None:
        """Return where a function serves, or else where it waits, itself or in a function that it calls."""
        key = (j, levels)
        if key not in self._known:
            self._known[key] = None  # for functions that call each other
            body, called = self._aligned.new(j), self._called(j)
            targets = calls_by_instruction(body)
            found = None
            for names, waiters in ((_SERVES, self._servers), (_WAITS, self._waiters)):
                if found is None and (names is _SERVES or j == self.main):
                    found = phases(
                        body,
                        lambda n: called.get(n, -1) in waiters or self._import(targets.get(n, 0)) in names,  # noqa: B023
                        lambda n: self._loops(called.get(n, -1), levels - 1),
                    )
            self._known[key] = found
        return self._known[key]

    def _loops(self, j: int, levels: int) -> bool:
        """Return whether a function serves in a loop of its own, or calls one that does."""
        return j in self._servers and levels > 0 and j not in self._taken and self._phases(j, levels) is not None

    @cached_property
    def _servers(self) -> set[int]:
        return self._callers(self._serves)

    @cached_property
    def _waiters(self) -> set[int]:
        return self._callers(self._waits)

    def _callers(self, found: set[int]) -> set[int]:
        """Add to some codes those that call them, and so on for a few levels."""
        result = set(found)
        for _ in range(_LEVELS - 1):
            result |= {owner for owner, callees in enumerate(self._callees) if not result.isdisjoint(callees)}
        return result
