"""Whether the functions that are called at the start and at the end of a process are those they were.

The dynamic linker goes through an array of them once, and calls one more that the image names. A running process has
been through those of the old build, and will go through those of the old build when it ends, whatever stands in the
new one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding, blame
from hotmend.diff.rules.startup import ONCE
from hotmend.image.image import Image
from hotmend.model.verdict import refusal

_SHOWN = 20
_WORD_BYTES = 8
_AT_END = (".fini_array", ".dtors")


def judge_arrays(c: Correspondence) -> list[Finding]:
    """Return refusals for functions that only one build has in such an array."""
    return [
        *_judge(c, _at_start, "start-only-code", "code that only runs when the program starts changed"),
        *_judge(
            c,
            _at_end,
            "registered-at-start",
            "the functions that are called when the program ends changed; the process goes by the old list of them",
        ),
    ]


def _at_start(image: Image) -> list[int]:
    return [*_called(image, ONCE), *([image.called_first] if image.called_first else [])]


def _at_end(image: Image) -> list[int]:
    return [*_called(image, _AT_END), *([image.called_last] if image.called_last else [])]


def _judge(c: Correspondence, called: Callable[[Image], list[int]], code: str, sentence: str) -> list[Finding]:
    before, after = called(c.old.image), called(c.new.image)
    origins = c.origins()
    added: list[int] = []
    for y in after:
        j = c.new.holder(y)
        i = origins.get(j, -1)
        x = c.old.codes[i].start + y - c.new.codes[j].start if i >= 0 else -1
        if x in before:
            before.remove(x)
        else:
            added.append(y)
    if not added and not before:
        return []
    staying = set(c.staying().values())
    changed = {c.new.holder(y) for y in added} - staying - {-1}
    labels = [_label(c, y, new=True) for y in added] + [_label(c, x, new=False) for x in before]
    reason = refusal(code, sentence, *labels[:_SHOWN])
    only_changed = not before and all(c.new.holder(y) in changed for y in added)
    return [blame(reason, changed) if only_changed else Finding(reason)]


def _called(image: Image, sections: tuple[str, ...]) -> list[int]:
    """Return the link addresses of the image's own functions in its arrays of some names, in order."""
    return [
        target
        for section in image.allocated
        if section.name in sections
        for word in range(section.address, section.address + section.size, _WORD_BYTES)
        for target in _targets(image, word)
    ]


def _targets(image: Image, word: int) -> Iterator[int]:
    slot = image.slots.get(word)
    if word in image.pointers:
        yield image.pointers[word]
    elif slot is not None and (symbol := image.own(slot)) is not None:
        yield symbol.value + slot.addend


def _label(c: Correspondence, address: int, *, new: bool) -> str:
    survey = c.new if new else c.old
    at = survey.holder(address)
    return survey.codes[at].label if at >= 0 else hex(address)
