"""What a hotpatch takes over from the one that is active on its image: its entries, and what it added and handed out.

A variable stays where it is: pointers to it may live anywhere. References of the later hotpatch lead to the earlier
one's copy, so nothing is copied, and taking the later one back finds the values as they are. Which variable of one is
which of the other, the marks of both say. All that agree about a variable make it the same one; where they
contradict each other, or where one of each side is left without any, the takeover is refused. Functions whose addresses
were handed out are known again in the same way: the jump that stands for each is led to the later one's.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hotmend.live.crossing import Crossing, crossings
from hotmend.live.gate import HeaderRecord, PortRecord, VariableRecord
from hotmend.live.layout import Moved
from hotmend.live.needs import Refusal, Target
from hotmend.model.addresses import JUMP_BYTES, Extent
from hotmend.model.hotpatch import AddedVariable, Hotpatch, Mark, Port
from hotmend.model.verdict import refusal

_NAME = "name:"


@dataclass(frozen=True, slots=True)
class Takeover:
    """What to take over.

    Attributes:
        active: header of the hotpatch that is active on the image.
        crossed: its entries.
        moved: variables of the later hotpatch that live in an earlier one's shadow.
        kept: the same variables, as the later header has them.
        ports: load address of each of its ports -> the later hotpatch's port for the same function.
    """

    active: HeaderRecord
    crossed: tuple[Crossing, ...]
    moved: tuple[Moved, ...]
    kept: tuple[VariableRecord, ...]
    ports: dict[int, Port]


def take_over(target: Target, active: HeaderRecord) -> Takeover:
    """Return what `target` takes over from the hotpatch that is active on its image.

    Raises:
        Refusal: something that the active one has made would be left behind.
    """
    name = target.hotpatch.name
    if active.compared:
        sentence = (
            f"{name}: the hotpatch {active.hotpatch_id} that is applied added constant objects whose addresses are "
            "compared; what the program has kept of them would not be equal to those of this one. Restart the process"
        )
        raise Refusal(refusal("added-object-compared", sentence, *active.compared))
    same = _same(name, _variables(target.hotpatch), _known(name, active))
    ports = _same_ports(target.hotpatch, active)
    moved, kept = [], []
    for ours, theirs, shift in same:
        moved.append(Moved(ours.extent.start, ours.extent.end, theirs.address + shift))
        marks = tuple(Mark(mark.text, mark.offset + shift) for mark in ours.marks)
        kept.append(VariableRecord(ours.name, theirs.address, theirs.size, ours.sha256, marks))
    moved += [Moved(port.address, port.address + JUMP_BYTES, address) for address, port in ports.items()]
    return Takeover(active, crossings(target, active, ports), tuple(moved), tuple(kept), ports)


def _same_ports(hotpatch: Hotpatch, active: HeaderRecord) -> dict[int, Port]:
    """Return the load address of each port of the active hotpatch, and which of the later one's is for that function.

    Raises:
        Refusal: there is none.
    """
    ours = [AddedVariable(p.name, Extent(p.address, JUMP_BYTES), "", p.marks) for p in hotpatch.ports]
    theirs = [VariableRecord(p.name, p.address, JUMP_BYTES, "", p.marks) for p in active.ports]
    by_place = {port.address: port for port in hotpatch.ports}
    same = {t.address: by_place[o.extent.start] for o, t, _ in _pairs(hotpatch.name, ours, theirs)}
    if lost := [port.name for port in active.ports if port.address not in same]:
        sentence = (
            f"{hotpatch.name}: the hotpatch {active.hotpatch_id} that is applied has handed out addresses of functions "
            "that it added, and which functions of this one they are cannot be told; who kept one would go on calling "
            "them. Restart the process with the new build"
        )
        raise Refusal(refusal("added-function-kept", sentence, *lost))
    return same


def port_records(hotpatch: Hotpatch, shadow_bias: int, takeover: Takeover | None) -> tuple[PortRecord, ...]:
    """Return the ports of a hotpatch as its header has them, each where it stands."""
    elsewhere = {port.address: address for address, port in takeover.ports.items()} if takeover else {}
    return tuple(
        PortRecord(p.name, elsewhere.get(p.address, shadow_bias + p.address), shadow_bias + p.function, p.marks)
        for p in hotpatch.ports
    )


def variable_records(
    hotpatch: Hotpatch, shadow_bias: int, takeover: Takeover | None
) -> tuple[VariableRecord, ...] | None:
    """Return the variables of a hotpatch as its header has them, each where it lives; None where they are not known."""
    if hotpatch.variables is None and _writable(hotpatch):
        return None
    moved = {m.start for m in takeover.moved} if takeover else set()
    own = (
        VariableRecord(v.name, shadow_bias + v.extent.start, v.extent.size, v.sha256, v.marks)
        for v in hotpatch.variables or ()
        if v.extent.start not in moved
    )
    return (*(takeover.kept if takeover else ()), *own)


def _writable(hotpatch: Hotpatch) -> bool:
    return any(segment.permissions == "rw-" for segment in hotpatch.segments)


def _variables(hotpatch: Hotpatch) -> tuple[AddedVariable, ...]:
    if hotpatch.variables is None and _writable(hotpatch):
        raise _unknown(hotpatch.name, "its variables are not told; build it again")
    return hotpatch.variables or ()


def _known(name: str, active: HeaderRecord) -> tuple[VariableRecord, ...]:
    if active.variables is None:
        raise _unknown(name, "those of the hotpatch that is applied are not told")
    return active.variables


def _unknown(name: str, what: str, *names: str) -> Refusal:
    sentence = f"{name}: which variables are those of the hotpatch that is applied cannot be told: {what}"
    return Refusal(refusal("added-variable-unknown", sentence, *names))


def _differs(name: str, what: str, *names: str) -> Refusal:
    sentence = f"{name}: a variable of the hotpatch that is applied does not fit this one: {what}; restart the process"
    return Refusal(refusal("added-variable-differs", sentence, *names))


def _same(
    name: str, ours: Sequence[AddedVariable], theirs: Sequence[VariableRecord]
) -> list[tuple[AddedVariable, VariableRecord, int]]:
    """Return each variable of both with its counterpart, and by how many bytes it starts behind that one's start.

    Raises:
        Refusal: what is left on both sides may be the same.
    """
    same = _pairs(name, ours, theirs)
    left = [v.name for v in ours if all(v is not pair[0] for pair in same)]
    lost = [v.name for v in theirs if all(v is not pair[1] for pair in same)]
    if left and lost:
        raise _unknown(name, "nothing says whether these are the same", *left, *lost)
    return same


def _pairs(
    name: str, ours: Sequence[AddedVariable], theirs: Sequence[VariableRecord]
) -> list[tuple[AddedVariable, VariableRecord, int]]:
    """Return those that marks make the same."""
    signs = _unique((mark, number) for number, v in enumerate(theirs) for mark in v.marks)
    own_signs = _unique((mark, number) for number, v in enumerate(ours) for mark in v.marks)
    same: list[tuple[AddedVariable, VariableRecord, int]] = []
    for number, variable in enumerate(ours):
        votes = {
            (signs[mark.text][0], signs[mark.text][1] - mark.offset)
            for mark in variable.marks
            if mark.text in signs and own_signs.get(mark.text) == (number, mark.offset)
        }
        if len(votes) > 1:
            raise _differs(name, "what refers to it does not agree", variable.name)
        for their, shift in votes:
            _check_same(name, variable, theirs[their], shift)
            same.append((variable, theirs[their], shift))
    _check_apart(name, same)
    return same


def _unique(marks: Iterable[tuple[Mark, int]]) -> dict[str, tuple[int, int]]:
    """Return mark -> (number of the variable, offset), of the marks that only one place has."""
    found = list(marks)
    counts = Counter(mark.text for mark, _ in found)
    return {mark.text: (number, mark.offset) for mark, number in found if counts[mark.text] == 1}


def _check_same(name: str, ours: AddedVariable, theirs: VariableRecord, shift: int) -> None:
    """Refuse two variables that marks make the same and that cannot be."""
    if shift < 0 or shift + ours.extent.size > theirs.size:
        raise _differs(name, "it takes more room now", ours.name)
    if ours.sha256 != theirs.sha256:
        raise _differs(name, "it begins with another value now", ours.name)
    names = [{m.text for m in v.marks if m.text.startswith(_NAME)} for v in (ours, theirs)]
    if all(names) and not names[0] & names[1]:
        raise _differs(name, "it has another name now", ours.name, theirs.name)


def _check_apart(name: str, same: Sequence[tuple[AddedVariable, VariableRecord, int]]) -> None:
    """Refuse where two variables would come to stand on one place."""
    places = sorted((theirs.address + shift, ours.extent.size, ours.name) for ours, theirs, shift in same)
    for (start, size, first), (following, _, second) in itertools.pairwise(places):
        if start + size > following:
            raise _differs(name, "two variables would be one", first, second)
