"""Changes whose effect would have come when the program started, and functions that never return.

Code that only runs at start has run. What it would set up otherwise is not there: readers of it go on with what the old
code left, and a variable that only such code sets stays zero for ever.
"""

from __future__ import annotations

from collections.abc import Iterator

from hotmend.diff.align import Aligned
from hotmend.diff.compare import Contents
from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding, blame
from hotmend.diff.objects import writable_at_run_time
from hotmend.diff.rules.startup import Startup
from hotmend.image.body import Body
from hotmend.image.references import DATA, JUMP
from hotmend.image.writes import writes_memory, writes_to
from hotmend.model.verdict import note, refusal

_SHOWN = 20
_SILENT = frozenset({
    "__assert_fail", "__errno_location", "__fprintf_chk", "__printf_chk", "__snprintf_chk", "__sprintf_chk",
    "__stack_chk_fail", "__syslog_chk", "__vfprintf_chk", "__vsnprintf_chk", "_exit", "abort", "atoi", "atol",
    "exit", "fflush", "fprintf", "fputc", "fputs", "fwrite", "getenv", "isatty", "memchr", "memcmp", "perror",
    "printf", "putchar", "puts", "snprintf", "sprintf", "strcasecmp", "strchr", "strcmp", "strerror", "strlen",
    "strncasecmp", "strncmp", "strrchr", "strstr", "strtol", "strtoll", "strtoul", "strtoull", "syslog",
    "vfprintf", "vsnprintf",
})  # fmt: skip
"""Imports that leave nothing behind in the process."""


def judge_startup(c: Correspondence, contents: Contents, aligned: Aligned) -> list[Finding]:
    """Return refusals for start-up code that changed and for variables that nobody would set, and for loops."""
    unchanged = set(c.staying().values())
    changed = {j for j, code in enumerate(c.new.codes) if j not in unchanged and not code.gap}
    for y in contents.changed:
        changed |= contents.new.users(y, 1)
    if not changed:
        return []
    startup = Startup(c.new, c.new_plt, aligned)
    return [
        *_has_run(c, aligned, startup, changed),
        *_never_set(c, contents, aligned, startup, changed),
        *_never_returns(c, startup, changed),
    ]


def _has_run(c: Correspondence, aligned: Aligned, startup: Startup, changed: set[int]) -> Iterator[Finding]:
    found = [j for j in sorted(changed & startup.only) if _leaves_something(c, aligned.new(j), j)]
    if found:
        names = [c.new.codes[j].label for j in found[:_SHOWN]]
        sentence = "code that only runs when the program starts changed; what it sets up stays as the old code left it"
        yield blame(refusal("start-only-code", sentence, *names), found)
    silent = sorted((changed & startup.only) - set(found))
    if silent:
        sentence = "code that only runs when the program starts changed; it has run, and this part has no effect"
        yield blame(note("start-only-code", sentence, *[c.new.codes[j].label for j in silent[:_SHOWN]]), silent)


def _leaves_something(c: Correspondence, body: Body, j: int) -> bool:
    """Return whether a function changes memory that lasts, or calls something that may."""
    if writes_memory(body):
        return True
    r = c.new.references
    for n in range(int(r.first[j]), int(r.first[j + 1])):
        target = int(r.target[n])
        if r.kind[n] > JUMP or (r.kind[n] == DATA and target not in c.new.image.slots):
            continue
        slot = c.new.image.slots.get(c.new_plt.get(target, target))
        calls = r.kind[n] != DATA and c.new.holder(target) >= 0
        if calls or (slot is not None and slot.name not in _SILENT and slot.kind != 5):
            return True
    return False


def _never_set(
    c: Correspondence, contents: Contents, aligned: Aligned, startup: Startup, changed: set[int]
) -> Iterator[Finding]:
    """Variables that the old build does not have, that changed code reads and start-up code alone sets."""
    found: dict[int, set[int]] = {}
    r = c.new.references
    for j in sorted(changed - startup.only):
        for n in range(int(r.first[j]), int(r.first[j + 1])):
            target = int(r.target[n])
            if r.kind[n] != DATA or target in found or not _is_added(c, target):
                continue
            users = contents.new.users(target, 1)
            writers = {user for user in users if writes_to(aligned.new(user), target)}
            if writers and writers <= startup.only:
                found[target] = users - startup.only
    if found:
        names = [f"{c.new.image.names.get(y, hex(y))} in {c.new.codes[min(js)].label}" for y, js in found.items() if js]
        sentence = "new code reads a variable that only start-up code sets; in the running process it would stay zero"
        yield blame(refusal("variable-never-set", sentence, *names[:_SHOWN]), set().union(*found.values()))


def _is_added(c: Correspondence, target: int) -> bool:
    if not writable_at_run_time(c.new.image, target) or target in c.new.image.slots:
        return False
    return target not in c.to_old and c.neighbours(target) is None


def _never_returns(c: Correspondence, startup: Startup, changed: set[int]) -> Iterator[Finding]:
    found = sorted(changed & startup.waiting.keys())
    if found:
        names = [c.new.codes[j].label for j in found[:_SHOWN]]
        sentence = (
            "a changed function waits in a loop that the program does not leave: it would always be active; build with "
            "--partial, which leaves it old and takes in the rest, or restart"
        )
        yield blame(refusal("never-returns", sentence, *names), found)
