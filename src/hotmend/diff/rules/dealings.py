"""Names of functions that take and give back: memory, files, mappings and locks."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from hotmend.image.body import Body
from hotmend.image.facts import Dealing, Passes
from hotmend.image.references import Survey


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of thing that is taken and given back."""

    name: str
    takes: re.Pattern[str]
    gives: re.Pattern[str]


RESOURCES = (
    Kind(
        "memory",
        re.compile(r"^(?!.*realloc).*(alloc|strn?dup|memdup)|^_Zn[aw][jm]"),
        re.compile(r"(^|_)free(_|$)|^_Zd[al]Pv|[a-z]Free$"),
    ),
    Kind("stream", re.compile(r"^(fopen(64)?|fdopen|popen|tmpfile(64)?)$"), re.compile(r"^(fclose|pclose)$")),
    Kind(
        "descriptor",
        re.compile(r"^(open(at)?(64)?|socket|accept4?|dup[23]?|epoll_create1?|eventfd|memfd_create|timerfd_create)$"),
        re.compile(r"^close$"),
    ),
    Kind("directory", re.compile(r"^(fd)?opendir$"), re.compile(r"^closedir$")),
    Kind("mapping", re.compile(r"^mmap(64)?$"), re.compile(r"^munmap$")),
)
TAKES_MEMORY = RESOURCES[0].takes
"""Names of functions that make an object."""

LOCKS = (
    Kind("mutex", re.compile(r"mutex_(try|timed|clock)?lock$"), re.compile(r"mutex_unlock$")),
    Kind("rwlock", re.compile(r"rwlock_\w*(rd|wr|reader_|writer_)\w*lock$"), re.compile(r"rwlock_\w*unlock$")),
    Kind("spin", re.compile(r"spin_(try)?lock$"), re.compile(r"spin_unlock$")),
    Kind("semaphore", re.compile(r"^sem_(try|timed|clock)?wait$"), re.compile(r"^sem_post$")),
    Kind("stream lock", re.compile(r"^f(try)?lockfile$"), re.compile(r"^funlockfile$")),
    Kind(
        "lock",
        re.compile(r"^(?!.*(mutex|rwlock|spin)_)(.*_)?(try|read_|write_|rd|wr)?lock$|LockAcquire$|[a-z]Lock$"),
        re.compile(r"^(?!.*(mutex|rwlock|spin)_)(.*_)?unlock$|LockRelease$|[a-z]Unlock$"),
    ),
)


_HANDS_BACK = re.compile(r"^(__)?(mem(cpy|move|set)|strn?cpy|strn?cat)(_chk)?$")
"""Names of functions that fill what they are handed and return it."""


def callee_name(survey: Survey, plt: dict[int, int], target: int) -> str:
    """Return the name of what is called: an import by its PLT stub or slot, or a function of the image that has one."""
    slot = survey.image.slots.get(plt.get(target, target))
    if slot is not None:
        return slot.name
    return survey.image.names.get(target, "") if target in survey.at else ""


def dealings_of(survey: Survey, plt: dict[int, int], body: Body) -> Dealing:
    """Return what the calls of a function take and give back; kinds are numbers of `RESOURCES`."""

    def dealing(n: int) -> tuple[bool, int] | None:
        i = body.instructions[n]
        target = i.ip_rel_memory_address if i.is_ip_rel_memory_operand else i.near_branch_target
        if body.code.start <= target < body.code.end:
            return None
        name = callee_name(survey, plt, target)
        return _dealing_of_name(name) if name else None

    return dealing


@lru_cache(1 << 14)
def _dealing_of_name(name: str) -> tuple[bool, int] | None:
    for number, kind in enumerate(RESOURCES):
        if kind.takes.search(name):
            return True, number
        if kind.gives.search(name):
            return False, number
    return None


def passes_of(survey: Survey, plt: dict[int, int], body: Body, hands_back: Callable[[int], bool]) -> Passes:
    """Return which calls of a function hand back what they are handed first.

    Args:
        survey: of the function's build.
        plt: address of a PLT stub -> its slot.
        body: the function.
        hands_back: says of a code of the build, by its index, whether it returns what it is handed first.
    """

    def passes(n: int) -> bool:
        i = body.instructions[n]
        target = i.ip_rel_memory_address if i.is_ip_rel_memory_operand else i.near_branch_target
        callee = survey.at.get(target, -1)
        if callee >= 0:
            return hands_back(callee)
        return bool(_HANDS_BACK.search(callee_name(survey, plt, target)))

    return passes
