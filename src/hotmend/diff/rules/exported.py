"""Whether those who bound to an exported function of the old build come to what the new build exports under its name.

Other images hold the address that the old build gave a name, and so does the image itself where it calls through its
slots. That old address has to be a function that stays and is the one which the new build means, or an entry that leads
to exactly that one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from hotmend.diff.closure import Selection
from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding, blame
from hotmend.image.image import STT_FUNC, STT_IFUNC, STT_TLS, Symbol
from hotmend.image.references import Survey
from hotmend.model.verdict import refusal

_SHOWN = 20
_CHOSEN = (
    "an exported function is chosen when the image is loaded in one build alone; who bound to the old one stays with it"
)
_ELSEWHERE = "an exported name is another function in the new build; who bound to the name would stay with the old one"


def judge_exported(
    c: Correspondence, selection: Selection, led: Mapping[int, int], refused: Collection[int]
) -> list[Finding]:
    """Return refusals for names that both builds export, and whose old address does not lead to the new function.

    Args:
        c: the correspondence.
        selection: which codes go in.
        led: old entry that leads to new code -> where.
        refused: new codes whose entry is refused already.
    """
    chosen: dict[str, int] = {}
    elsewhere: dict[str, int] = {}
    for key, symbol in c.new.image.exports.items():
        twin = c.old.image.exports.get(key)
        if twin is None or symbol.kind == STT_TLS or not symbol.value or not twin.value:
            continue
        j = c.new.holder(symbol.value)
        if j in selection.left or j in refused or (c.new.codes[j].gap and j not in selection.kept):
            continue  # stays old in a part, or is refused for itself
        if (symbol.kind == STT_IFUNC) != (twin.kind == STT_IFUNC):
            chosen[symbol.name] = j
        elif led.get(twin.value) != symbol.value and not _stays(c, selection, twin, symbol):
            elsewhere[symbol.name] = j
    return [*_finding(_CHOSEN, chosen, selection), *_finding(_ELSEWHERE, elsewhere, selection)]


def _finding(sentence: str, found: dict[str, int], selection: Selection) -> list[Finding]:
    if not found:
        return []
    reason = refusal("exported-function-stays-old", sentence, *sorted(found)[:_SHOWN])
    codes = set(found.values())
    return [blame(reason, codes) if codes <= selection.shadow else Finding(reason)]


def _stays(c: Correspondence, selection: Selection, old: Symbol, new: Symbol) -> bool:
    """Return whether the old address does what the new one does although nothing leads from one to the other."""
    i, j = c.old.holder(old.value), c.new.holder(new.value)
    if i < 0 or j < 0:
        # Marks of the linker, such as the end of the text, may lie in front of something or of nothing.
        return i == j or STT_FUNC not in (old.kind, new.kind)
    if (old.value, new.value) == (c.old.image.entry, c.new.image.entry):
        return True  # it has run
    kept = selection.kept.get(j, -1)
    if kept < 0 or old.value - c.old.codes[i].start != new.value - c.new.codes[j].start:
        return False
    return kept == i or _twins(c.old, i, kept)


def _twins(survey: Survey, i: int, k: int) -> bool:
    """Return whether two codes of one build are the same twice: equal bytes that refer to the same things."""
    if survey.keys[i] != survey.keys[k]:
        return False
    r = survey.references
    first, second = (r.target[int(r.first[n]) : int(r.first[n + 1])].tolist() for n in (i, k))
    distance = survey.codes[k].start - survey.codes[i].start
    return all(x == y or (x + distance == y and survey.holder(x) == i) for x, y in zip(first, second, strict=True))
