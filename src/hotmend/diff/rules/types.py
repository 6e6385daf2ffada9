"""Changed layouts, told exactly: the types of both builds by their debug information.

A type is compared with the one of the same name. Where a name means several types in different units, those of one
source file belong together. A type that only one of the builds has is no change of a layout.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Final, TypeVar

from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding, whole
from hotmend.diff.rules.enumerations import compare_enumerations
from hotmend.diff.rules.records import compare_records, compare_slots
from hotmend.image.image import Image
from hotmend.image.references import Survey
from hotmend.model.hotpatch import TypeCoverage
from hotmend.model.types import Record, TypePair, Types, Variable
from hotmend.model.verdict import note, refusal

SUBJECTS_MAX: Final = 60
_BY_DISPLACEMENT: Final = frozenset({"structure-layout-changed", "displacement-changed"})

_STRUCTURES: Final = "types of structures changed; objects that exist have the old layout"
_TABLES: Final = "virtual functions have other places; objects that exist point to the old table"
_ENUMERATORS: Final = "enumerators changed their values; stored values have the old meaning"
_COUNTS: Final = "an enumerator that counts the others grew; see that it is not stored as a value of its own"
_FUNCTIONS: Final = "exported functions take or return something else; other images call them as before"
_VARIABLES: Final = "variables changed their types; those that exist are of the old one"

_T = TypeVar("_T")


def judge_types(c: Correspondence, types: TypePair | None) -> list[Finding]:
    """Return a refusal for each kind of layout that changed."""
    if types is None:
        return []
    old, new = types.old, types.new
    records = matched(old.records, new.records, _record_name, _record_content)
    lines, slots = [], []
    for before, after in records:
        lines += compare_records(before, after)
        slots += compare_slots(before, after)
    changed, counts = compare_enumerations(old.enumerations, new.enumerations)
    variables = _variables(c, types)
    functions = _functions(c, types)
    reasons = []
    if lines:
        reasons.append(refusal("structure-layout-changed", _STRUCTURES, *_first(lines)))
    if slots:
        reasons.append(refusal("virtual-table-changed", _TABLES, *_first(slots)))
    if changed:
        reasons.append(refusal("enumeration-changed", _ENUMERATORS, *_first(changed)))
    if counts:
        reasons.append(note("enumeration-grew", _COUNTS, *_first(counts)))
    if functions:
        reasons.append(refusal("function-type-changed", _FUNCTIONS, *_first(functions)))
    if variables:
        reasons.append(refusal("variable-type-changed", _VARIABLES, *_first(variables)))
    return whole(reasons)


def coverage(c: Correspondence, types: TypePair | None) -> TypeCoverage:
    """Return whether the types are those of all code that changed; code that did not change cannot disagree."""
    if types is None:
        return TypeCoverage.NONE
    staying = c.staying()
    stayed = set(staying.values())
    changed_old = [i for i in range(len(c.old.codes)) if i not in staying]
    changed_new = [j for j in range(len(c.new.codes)) if j not in stayed]
    if _all_covered(c.old, changed_old, types.old) and _all_covered(c.new, changed_new, types.new):
        return TypeCoverage.COMPLETE
    return TypeCoverage.PARTIAL


def without_guesses(
    c: Correspondence, types: TypePair | None, judged: list[Finding], layout: list[Finding]
) -> list[Finding]:
    """Return `layout`, the signs seen from displacements, less what the types disprove.

    That needs types of all changed code, none of which differs, and no new structure: objects could
    have become those.
    """
    if types is None or coverage(c, types) is not TypeCoverage.COMPLETE or any(f.refuses for f in judged):
        return layout
    known = {_record_name(r) for r in types.old.records}
    if any(_record_name(r) not in known for r in types.new.records):
        return layout
    return [f for f in layout if f.reason.code not in _BY_DISPLACEMENT]


def matched(
    old: Iterable[_T], new: Iterable[_T], name: Callable[[_T], tuple[Hashable, str]], content: Callable[[_T], Hashable]
) -> list[tuple[_T, _T]]:
    """Return the pairs (old, new) of definitions of one name that differ.

    Args:
        old: definitions of the old build.
        new: of the new build.
        name: gives what has to be equal for two to be the same thing, and the source file.
        content: gives what is compared.
    """
    before, after = _by_name(old, name), _by_name(new, name)
    result = []
    for key in sorted(before.keys() & after.keys(), key=str):
        result += _differing(before[key], after[key], content)
    return result


def _by_name(items: Iterable[_T], name: Callable[[_T], tuple[Hashable, str]]) -> dict[Hashable, dict[str, list[_T]]]:
    result: dict[Hashable, dict[str, list[_T]]] = defaultdict(lambda: defaultdict(list))
    for item in items:
        key, file = name(item)
        result[key][file].append(item)
    return result


def _differing(
    old: dict[str, list[_T]], new: dict[str, list[_T]], content: Callable[[_T], Hashable]
) -> list[tuple[_T, _T]]:
    """Compare the definitions of one name file by file, then those of files that only one build has."""
    result = []
    for file in sorted(old.keys() & new.keys()):
        result += _pairs(old[file], new[file], content)
    gone = [item for file in sorted(old.keys() - new.keys()) for item in old[file]]
    fresh = [item for file in sorted(new.keys() - old.keys()) for item in new[file]]
    if gone and fresh:
        result += _pairs(gone, fresh, content)
    return result


def _pairs(old: Sequence[_T], new: Sequence[_T], content: Callable[[_T], Hashable]) -> list[tuple[_T, _T]]:
    """Pair what is left when equal definitions are taken out; one without a partner is held against any."""
    left_old, left_new = {content(item): item for item in old}, {content(item): item for item in new}
    both = left_old.keys() & left_new.keys()
    gone = [item for key, item in left_old.items() if key not in both]
    fresh = [item for key, item in left_new.items() if key not in both]
    pairs = itertools.zip_longest(gone, fresh)
    return [(a if a is not None else old[0], b if b is not None else new[0]) for a, b in pairs]


def _record_name(record: Record) -> tuple[Hashable, str]:
    return (record.kind, record.name), record.file


def _record_content(record: Record) -> Hashable:
    return record.size, record.alignment, record.members, record.slots


def _variables(c: Correspondence, types: TypePair) -> list[str]:
    """Return the variables that the process can have written and whose type is another one."""
    pairs = matched(
        (v for v in types.old.variables if _lives(c.old.image, v)),
        (v for v in types.new.variables if _lives(c.new.image, v)),
        lambda v: (v.name, v.file),
        lambda v: (v.type, v.thread_local),
    )
    return [f"{old.name}: {old.type} -> {new.type}" for old, new in pairs]


def _functions(c: Correspondence, types: TypePair) -> list[str]:
    """Return the functions that other images can call and whose parameters or result are others."""
    exported = {name for name, _ in c.old.image.exports} & {name for name, _ in c.new.image.exports}
    pairs = matched(
        (f for f in types.old.functions if f.name in exported),
        (f for f in types.new.functions if f.name in exported),
        lambda f: (f.name, ""),
        lambda f: f.type,
    )
    return [f"{old.name}: {old.type} -> {new.type}" for old, new in pairs]


def _lives(image: Image, variable: Variable) -> bool:
    """Return whether a variable has a value of its own in a process; constants are compared by their contents."""
    return variable.thread_local or image.permissions_at(variable.address) == "rw-"


def _all_covered(survey: Survey, codes: Iterable[int], types: Types) -> bool:
    starts = [start for start, _ in types.covered]
    for i in codes:
        code = survey.codes[i]
        at = bisect_right(starts, code.start) - 1
        if not code.gap and (at < 0 or code.end > types.covered[at][1]) and not _is_glue(survey.image, code.start):
            return False
    return True


def _is_glue(image: Image, address: int) -> bool:
    """Return whether the linker made the code: it knows no types."""
    section = image.section_at(address)
    return section is not None and (section.name.startswith(".plt") or section.name in (".init", ".fini"))


def _first(lines: list[str]) -> list[str]:
    """Return as many lines as a reason has subjects, and how many more there are."""
    more = [f"and {len(lines) - SUBJECTS_MAX} more"] if len(lines) > SUBJECTS_MAX else []
    return [*lines[:SUBJECTS_MAX], *more]
