"""Rules of the verdict that need neither the map of data nor the assembled shadow."""

from __future__ import annotations

from hotmend.diff.align import Aligned
from hotmend.diff.closure import Selection
from hotmend.diff.correspond import Correspondence
from hotmend.diff.layout import body_is_leaf
from hotmend.image.image import STT_OBJECT, Image
from hotmend.image.references import LEA, table_words
from hotmend.model.verdict import Reason, note, refusal


def judge_exports(old: Image, new: Image) -> list[Reason]:
    """Other images bind to exports: a removed one is worth a note, exported data of another size is refused."""
    reasons: list[Reason] = []
    removed = sorted(name for name, _ in old.exports.keys() - new.exports.keys())
    if removed:
        reasons.append(
            note("export-removed", "the new build no longer exports what the running one does", *removed[:20])
        )
    resized = sorted(
        key[0]
        for key in old.exports.keys() & new.exports.keys()
        if old.exports[key].kind == STT_OBJECT
        and new.exports[key].kind == STT_OBJECT
        and old.exports[key].size != new.exports[key].size
    )
    if resized:
        reasons.append(
            refusal(
                "exported-data-changed", "exported data has another size; other images may hold copies", *resized[:20]
            )
        )
    return reasons


def judge_unwinding(c: Correspondence, selection: Selection, aligned: Aligned) -> list[Reason]:
    """Exceptions cannot pass new code yet: refuse it where the image has handlers and the new code calls."""
    if not any(code.lsda for code in c.new.codes):
        return []
    callers = [
        c.new.codes[j].label
        for j in sorted(selection.shadow)
        if c.new.codes[j].lsda or not body_is_leaf(aligned.new(j))
    ]
    if not callers:
        return []
    return [
        refusal(
            "unwind-through-new-code",
            "the image handles C++ exceptions and an exception could not pass through these new functions",
            *callers[:20],
        )
    ]


def judge_labels(c: Correspondence) -> list[Reason]:
    """A changed function whose labels are stored in data must stay: old labels live on in the heap."""
    changed = {i for i in range(len(c.old.codes)) if i not in c.same and not c.old.codes[i].gap}
    found: set[str] = set()
    old = c.old
    tables = table_words(old) if old.image.fixed else set()
    for word, target in old.image.pointers.items():
        i = old.holder(target)
        if i in changed and target != old.codes[i].start and word not in tables:
            found.add(old.codes[i].label)
    r = old.references
    for i in changed:
        code = old.codes[i]
        for n in range(int(r.first[i]), int(r.first[i + 1])):
            if r.kind[n] == LEA and code.start < r.target[n] < code.end:
                found.add(code.label)
    if not found:
        return []
    return [
        refusal(
            "computed-goto",
            "labels of a changed function are stored in data; the process may hold copies",
            *sorted(found)[:20],
        )
    ]


_LOWEST_ADDRESS = 0x10000
_BIAS_MAX = 1 << 20


def judge_biased(c: Correspondence, selection: Selection, aligned: Aligned) -> list[Reason]:
    """In a fixed image `table - bias` is a plain number; one that lies outside of the sections cannot be relocated."""
    image = c.new.image
    if not image.fixed:
        return []
    found = [
        f"{c.new.codes[j].label}: {number:#x}"
        for j in sorted(selection.shadow)
        for number in sorted(aligned.new(j).indexed_numbers())
        if _LOWEST_ADDRESS <= number <= image.extent.end + _BIAS_MAX and image.section_at(number) is None
    ]
    if not found:
        return []
    return [
        refusal(
            "biased-address",
            "new code reaches a table by an address outside of the image; which table is meant is not known",
            *found[:20],
        )
    ]


def judge_splits(c: Correspondence) -> list[Reason]:
    """One old function that became two: who holds its address cannot be told which one is meant."""
    names = [c.old.codes[c.old.at[x]].label for x in sorted(c.split) if x in c.old.at]
    if not names:
        return []
    return [
        refusal(
            "function-split",
            "one old function became two new ones and its address is stored in data; which is meant is not known",
            *names[:20],
        )
    ]
