"""Code that the file does not hold: changed in place, or made by the program while it runs.

The comparison sees the code of the two files. An image whose code is written to in the process may run anything, so
that nothing is proven of it. A program that makes code beside the image, as compilers of regular expressions do, keeps
its own code as the file has it: calls from generated code go to entries, which are redirected like those from any
other image. What the generator has written down of the old build inside of it (distances of members, copies of small
functions) nobody sees, which a note says; and where a function that asks for such memory is itself changed, code of the
old generator lives on beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

from hotmend.diff.align import Aligned
from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding, blame, whole
from hotmend.image.body import Body
from hotmend.image.handed import THIRD, constants_for
from hotmend.image.image import Image
from hotmend.image.references import Survey
from hotmend.model.verdict import Reason, note, refusal

_ASKING: Final = frozenset({"mmap", "mmap64", "mprotect", "pkey_mprotect"})
"""Functions of the C library whose third argument says what the memory may do."""

_PROT_EXEC: Final = 4
_SHOWN: Final = 20


def judge_text(old: Image, new: Image) -> tuple[Reason, ...]:
    """Return why the code in memory is not the code of the files, or nothing."""
    subjects = []
    for which, image in (("old", old), ("new", new)):
        if image.text_relocations:
            subjects.append(f"{which} build: text relocations")
        places = [s.extent for s in image.segments if s.executable and s.writable]
        subjects += [f"{which} build: writable code from {p.start:#x} to {p.end:#x}" for p in places]
    if not subjects:
        return ()
    sentence = "code of the image may be written to while it runs, so that it is not what the file holds"
    return (refusal("self-modifying-code", sentence, *subjects),)


def judge_generators(c: Correspondence, aligned: Aligned) -> list[Finding]:
    """Return what is to be said of functions that ask for memory which code can be written to."""
    before = {i for i in _callers(c.old, c.old_plt) if _asks(aligned.old(i), _targets(c.old.image, c.old_plt))}
    after = {j for j in _callers(c.new, c.new_plt) if _asks(aligned.new(j), _targets(c.new.image, c.new_plt))}
    unchanged = set(c.staying().values())
    changed = (after - unchanged) | {j for i, j in c.pairs.items() if i in before}
    result = list(_stack(c))
    if before | after:
        sentence = "the image makes code at run time, which was not looked at: what is in it of the old build stays"
        names = [c.old.codes[i].label for i in sorted(before)] or [c.new.codes[j].label for j in sorted(after)]
        result += whole([note("generates-code", sentence, *names[:_SHOWN])])
    if changed and before:
        reason = refusal(
            "generator-changed",
            "a function changed that asks for memory to write code to; code that the old one made lives on",
            *[c.new.codes[j].label for j in sorted(changed)[:_SHOWN]],
        )
        result.append(blame(reason, changed))
    return result


def _stack(c: Correspondence) -> Iterable[Finding]:
    """New code that puts code on its stack needs a stack that may hold it."""
    if c.new.image.stack_executable and not c.old.image.stack_executable:
        sentence = "the new build runs code on its stack, and the process has none that allows it"
        yield from whole([refusal("stack-not-executable", sentence)])
    elif c.old.image.stack_executable:
        sentence = "the image makes code at run time, which was not looked at: what is in it of the old build stays"
        yield from whole([note("generates-code", sentence, "code on the stack")])


def _targets(image: Image, plt: dict[int, int]) -> frozenset[int]:
    """Return the slots of the asking functions, and the stubs that lead to them."""
    slots = {address for address, slot in image.slots.items() if slot.name in _ASKING}
    return frozenset(slots | {stub for stub, slot in plt.items() if slot in slots})


def _callers(survey: Survey, plt: dict[int, int]) -> set[int]:
    """Return the codes that refer to an asking function."""
    r = survey.references
    targets = _targets(survey.image, plt)
    if not targets:
        return set()
    return {int(owner) for owner in np.unique(r.owner[np.isin(r.target, np.array(sorted(targets), np.int64))])}


def _asks(body: Body, targets: frozenset[int]) -> bool:
    """Return whether a function asks, by a call or a jump, for memory that code can be run from."""
    return any(number & _PROT_EXEC for number in constants_for(body, targets, THIRD))
