"""Rules of the verdict that need neither the map of data nor the assembled shadow."""

from __future__ import annotations

from bisect import bisect_left

from hotmend.diff.align import Aligned
from hotmend.diff.closure import Selection
from hotmend.diff.compare import Contents
from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding, blame
from hotmend.diff.rules.layout import body_is_leaf
from hotmend.image.image import STT_OBJECT
from hotmend.image.references import LEA, table_words
from hotmend.model.verdict import note, refusal


def judge_exports(c: Correspondence, contents: Contents) -> list[Finding]:
    """Other images bind to exports: a removed one is worth a note; data of another size or contents are refused."""
    old, new, objects = c.old.image, c.new.image, contents.new
    findings: list[Finding] = []
    removed = sorted(name for name, _ in old.exports.keys() - new.exports.keys())
    if removed:
        reason = note("export-removed", "the new build no longer exports what the running one does", *removed[:20])
        findings.append(Finding(reason))
    resized = [
        new.exports[key]
        for key in old.exports.keys() & new.exports.keys()
        if old.exports[key].kind == STT_OBJECT
        and new.exports[key].kind == STT_OBJECT
        and old.exports[key].size != new.exports[key].size
    ]
    if resized:
        sentence = "exported data has another size; other images may hold copies"
        reason = refusal("exported-data-changed", sentence, *sorted(s.name for s in resized)[:20])
        findings.append(blame(reason, set().union(*(objects.users(s.value, s.size) for s in resized))))
    rewritten = _rewritten(c, contents)
    if rewritten:
        sentence = "exported read-only data has other contents; who reaches it by its name keeps the old ones"
        reason = refusal("exported-data-changed", sentence, *sorted(rewritten)[:20])
        users = set().union(*rewritten.values())
        findings.append(blame(reason, users) if all(rewritten.values()) else Finding(reason))
    return findings


def _rewritten(c: Correspondence, contents: Contents) -> dict[str, set[int]]:
    """Return exported read-only data whose contents changed and that is reached by name, with the new codes that do.

    A slot that the dynamic linker has filled leads to the old data: of the image itself, where it reaches what it
    exports by name, and of others, where it does not reach it at all. Code that refers to data of its own changes with
    them, and is not meant here.
    """
    changed = sorted(contents.changed)
    reached: dict[tuple[str, str], set[int]] = {}
    for objects in (contents.old, contents.new):
        for word, slot in objects.image.slots.items():
            if slot.symbol_defined:
                by = objects.users(word, 1) if objects is contents.new else set()
                reached.setdefault((slot.name, slot.version), set()).update(by)
    found: dict[str, set[int]] = {}
    for key, symbol in c.new.image.exports.items():
        twin = c.old.image.exports.get(key)
        if twin is None or symbol.kind != STT_OBJECT or twin.kind != STT_OBJECT:
            continue
        at = bisect_left(changed, symbol.value)
        if at < len(changed) and changed[at] < symbol.value + max(symbol.size, 1):
            direct = contents.new.users(symbol.value, max(symbol.size, 1))
            if key in reached or not direct:
                found[symbol.name] = reached.get(key, set()) | direct
    return found


def exceptions_pass(c: Correspondence, selection: Selection, aligned: Aligned) -> frozenset[int]:
    """Return the new functions that an exception may have to pass: those that call, in an image with handlers."""
    if not any(code.lsda for code in c.new.codes):
        return frozenset()
    return frozenset(j for j in selection.shadow if c.new.codes[j].lsda or not body_is_leaf(aligned.new(j)))


def judge_labels(c: Correspondence, selection: Selection) -> list[Finding]:
    """A changed function whose labels are stored in data must stay: old labels live on in the heap."""
    kept = set(selection.kept.values())
    changed = {i for i in range(len(c.old.codes)) if i not in kept and not c.old.codes[i].gap}
    changed -= {i for i in changed if c.partner(i) in selection.left}
    found: set[int] = set()
    old = c.old
    tables = table_words(old) if old.image.fixed else set()
    for word, target in old.image.pointers.items():
        i = old.holder(target)
        if i in changed and target != old.codes[i].start and word not in tables:
            found.add(i)
    r = old.references
    for i in changed:
        code = old.codes[i]
        for n in range(int(r.first[i]), int(r.first[i + 1])):
            if r.kind[n] == LEA and code.start < r.target[n] < code.end:
                found.add(i)
    if not found:
        return []
    reason = refusal(
        "computed-goto",
        "labels of a changed function are stored in data; the process may hold copies",
        *sorted(old.codes[i].label for i in found)[:20],
    )
    partners = {c.partner(i) for i in found}
    return [Finding(reason, None if -1 in partners else frozenset(partners))]


_LOWEST_ADDRESS = 0x10000
_BIAS_MAX = 1 << 20


def judge_biased(c: Correspondence, selection: Selection, aligned: Aligned) -> list[Finding]:
    """In a fixed image `table - bias` is a plain number; one that lies outside of the sections cannot be relocated."""
    image = c.new.image
    if not image.fixed:
        return []
    found = [
        (j, f"{c.new.codes[j].label}: {number:#x}")
        for j in sorted(selection.shadow)
        for number in sorted(aligned.new(j).indexed_numbers())
        if _LOWEST_ADDRESS <= number <= image.extent.end + _BIAS_MAX and image.section_at(number) is None
    ]
    if not found:
        return []
    reason = refusal(
        "biased-address",
        "new code reaches a table by an address outside of the image; which table is meant is not known",
        *[text for _, text in found[:20]],
    )
    return [blame(reason, {j for j, _ in found})]


def judge_splits(c: Correspondence) -> list[Finding]:
    """One old function that became two: who holds its address cannot be told which one is meant."""
    found = {x: halves for x, halves in sorted(c.split.items()) if x in c.old.at}
    if not found:
        return []
    reason = refusal(
        "function-split",
        "one old function became two new ones and its address is stored in data; which is meant is not known",
        *[c.old.codes[c.old.at[x]].label for x in list(found)[:20]],
    )
    return [blame(reason, {c.new.at[y] for halves in found.values() for y in halves})]
