"""Enumerators whose values changed.

A stored value keeps its number and would get another meaning. An enumerator that was added beside the old ones takes no
meaning away. The one that only counts the others (`..._MAX`) grows with them; whether the process holds
it as a value of its own, for example for *none*, is for a person to look at.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from hotmend.model.types import Enumeration

_COUNT = re.compile(
    r"(^|_)(MAX|LAST|COUNT|NUM|NR|END|N|NUMBER|TOTAL|LIMIT)(_|$)|(Max|Last|Count|Num|End)$", re.IGNORECASE
)

_Values = dict[str, dict[str, set[int]]]
"""Name of an enumerator -> source file -> its values there."""


def compare_enumerations(old: tuple[Enumeration, ...], new: tuple[Enumeration, ...]) -> tuple[list[str], list[str]]:
    """Return lines for enumerators that were renumbered or removed, and for counts that grew with others."""
    before, after = _by_name(old), _by_name(new)
    changed: dict[str, None] = {}
    counts: dict[str, None] = {}
    for name in sorted(before.keys() | {""}):
        # An unnamed enumeration, or one whose name is gone, is known by its enumerators wherever they are now.
        known = after.get(name, []) if name else []
        values = _values(before.get(name, []) if known else old), _values(known or new)
        for enumeration in before.get(name, []):
            sizes = {e.size for e in known if e.file == enumeration.file} or {e.size for e in known}
            if sizes and enumeration.size not in sizes:
                now = ", ".join(map(str, sorted(sizes)))
                changed[f"enum {name}: size {enumeration.size} -> {now} bytes"] = None
            fresh = _fitting(enumeration, known or new)
            for line, count in _differences(enumeration, *values, fresh):
                (counts if count else changed)[line] = None
    return list(changed), list(counts)


def _by_name(enumerations: Iterable[Enumeration]) -> dict[str, list[Enumeration]]:
    result: dict[str, list[Enumeration]] = defaultdict(list)
    for enumeration in enumerations:
        result[enumeration.name].append(enumeration)
    return result


def _values(enumerations: Iterable[Enumeration]) -> _Values:
    result: _Values = defaultdict(lambda: defaultdict(set))
    for enumeration in enumerations:
        for name, value in enumeration.enumerators:
            result[name][enumeration.file].add(value)
    return result


def _fitting(old: Enumeration, candidates: Iterable[Enumeration]) -> dict[str, int]:
    """Return the enumerators of the new enumeration that shares most names with the old one."""
    names = {name for name, _ in old.enumerators}
    best: dict[str, int] = {}
    shared = 0
    for candidate in candidates:
        n = sum(1 for name, _ in candidate.enumerators if name in names)
        if n > shared or (n == shared and n and candidate.file == old.file):
            best, shared = dict(candidate.enumerators), n
    return best


def _differences(old: Enumeration, before: _Values, values: _Values, fresh: dict[str, int]) -> list[tuple[str, bool]]:
    """Return (line, whether it is only a count) for the enumerators of one old enumeration."""
    if not any(name in values for name, _ in old.enumerators):
        return []
    label = f"enum {old.name}" if old.name else f"an enumeration of {old.file}"
    result = []
    for name, value in old.enumerators:
        if name not in values:
            result.append((f"{label}: {name} = {value} removed", False))
            continue
        found = values[name].get(old.file)
        known = before[name][old.file] if found else set().union(*before[name].values())
        found = found or set().union(*values[name].values())
        if found != known:
            now = ", ".join(map(str, sorted(found)))
            count = fresh.get(name) in found and _counts(name, dict(old.enumerators), fresh)
            result.append((f"{label}: {name} = {value} -> {now}", count))
    return result


def _counts(name: str, old: dict[str, int], new: dict[str, int]) -> bool:
    """Return whether an enumerator stands right behind all others in both builds, and says so by its name."""
    return bool(_COUNT.search(name)) and all(
        len(values) > 1 and values[name] == 1 + max(value for other, value in values.items() if other != name)
        for values in (old, new)
    )
