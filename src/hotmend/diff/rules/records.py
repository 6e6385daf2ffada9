"""What differs between the old and the new definition of a structure, in words."""

from __future__ import annotations

from collections import Counter
from typing import Final

from hotmend.model.types import Member, Record

_LINES_MAX: Final = 8


def compare_records(old: Record, new: Record) -> list[str]:
    """Return a line for each difference of size, alignment and members."""
    lines = []
    if old.size != new.size:
        lines.append(f"size {old.size} -> {new.size} bytes")
    if old.alignment != new.alignment:
        lines.append(f"alignment {old.alignment} -> {new.alignment} bytes")
    members = _members(old, new)
    if old.members != new.members and not members:
        members = ["members stand in another order"]
    lines += members
    if len(lines) > _LINES_MAX:
        lines = [*lines[:_LINES_MAX], f"and {len(lines) - _LINES_MAX} more"]
    return [f"{old.kind} {old.name}: {line}" for line in lines]


def compare_slots(old: Record, new: Record) -> list[str]:
    """Return a line for each virtual function that came, went or has another place in the table."""
    before, after = ({name: place for place, name in record.slots} for record in (old, new))
    lines = [f"{name} removed from place {before[name]}" for name in sorted(before.keys() - after.keys())]
    lines += [f"{name} added at place {after[name]}" for name in sorted(after.keys() - before.keys())]
    for name in sorted(before.keys() & after.keys()):
        if before[name] != after[name]:
            lines.append(f"{name} moved from place {before[name]} to {after[name]}")
    if not lines and old.slots != new.slots:
        lines.append("virtual functions changed their places")
    return [f"{old.name}: virtual function {line}" for line in lines]


def _members(old: Record, new: Record) -> list[str]:
    before, after = _by_name(old.members), _by_name(new.members)
    added = [f"member {_label(m)} added at {_place(m)}" for key, m in after.items() if key not in before]
    removed = [f"member {_label(m)} removed from {_place(m)}" for key, m in before.items() if key not in after]
    changed = []
    for key in before.keys() & after.keys():
        changed += _differences(before[key], after[key])
    return [*added, *removed, *(text for _, text in sorted(changed))]


def _differences(old: Member, new: Member) -> list[tuple[int, str]]:
    """Return (where, line) for one member that both have."""
    label = f"member {_label(old)}"
    result = []
    if old.bit_offset != new.bit_offset:
        result.append((old.bit_offset, f"{label} moved {_place(old)} -> {_place(new)}"))
    if old.bit_size != new.bit_size:
        result.append((old.bit_offset, f"{label} resized {old.bit_size} -> {new.bit_size} bits"))
    if old.type != new.type:
        result.append((old.bit_offset, f"{label} changed its type {_short(old.type)} -> {_short(new.type)}"))
    return result


def _by_name(members: tuple[Member, ...]) -> dict[tuple[str, int], Member]:
    """Name members by name and, where it is not the only one of its name, by its number among those."""
    seen: Counter[str] = Counter()
    result = {}
    for member in members:
        result[member.name, seen[member.name]] = member
        seen[member.name] += 1
    return result


def _label(member: Member) -> str:
    return member.name or "(unnamed)"


def _place(member: Member) -> str:
    if member.bit_offset < 0:
        return "a place known at run time"
    if member.bit_size or member.bit_offset % 8:
        return f"{member.bit_offset // 8:#x} bit {member.bit_offset % 8}"
    return f"{member.bit_offset // 8:#x}"


def _short(text: str, limit: int = 200) -> str:
    """Shorten the description of an unnamed type."""
    return text if len(text) <= limit else text[: limit - 3] + "..."
