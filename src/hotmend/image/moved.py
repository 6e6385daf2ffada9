"""Whether two builds of a function tell one list of numbers in another numbering."""

from __future__ import annotations

from collections import defaultdict

from iced_x86 import FlowControl, Mnemonic, OpKind, Register

from hotmend.image.body import Body
from hotmend.image.forms import Form
from hotmend.image.values import FULL

_REGISTER, _MEMORY = int(OpKind.REGISTER), int(OpKind.MEMORY)
_NONE, _RAX, _RBP, _RSP = (int(getattr(Register, r)) for r in ("NONE", "RAX", "RBP", "RSP"))
_MOVED_MIN = 2
_WAY_MAX = 24


def numbers_moved(old: Body, new: Body) -> dict[int, int]:
    """Return old number -> new number of what a function puts into its result or one word of its stack.

    Nothing where anything else differs in it, where less than two numbers changed, or where none of the new numbers
    was another's before.
    """
    if len(old.forms) != len(new.forms) or old.tokens != new.tokens:
        return {}
    sinks: dict[object, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    for n, (a, b) in enumerate(zip(old.forms, new.forms, strict=True)):
        if a.number is None or b.number is None or a.number == b.number:
            continue
        sink = _sink(old, n, a)
        if sink is None or sink != _sink(new, n, b):
            return {}
        sinks[sink][a.constant or 0].add(b.constant or 0)
    if len(sinks) != 1:
        return {}
    (moved,) = sinks.values()
    flat = {x: next(iter(found)) for x, found in moved.items() if len(found) == 1}
    renumbered = len(flat) == len(moved) >= _MOVED_MIN and len(set(flat.values())) == len(flat)
    return flat if renumbered and flat.keys() & set(flat.values()) else {}


def _sink(body: Body, n: int, form: Form) -> object:
    """Return the word of the stack that an instruction sets, or rax where that is the result; else None."""
    if form.mnemonic != Mnemonic.MOV:
        return None
    if form.kinds[0] == _MEMORY and form.memory_base in (_RBP, _RSP) and form.memory_index == _NONE:
        return form.memory_base, form.displacement, form.size
    if form.kinds[0] == _REGISTER and FULL[form.op0_register] == _RAX and _is_result(body, n):
        return _RAX
    return None


def _is_result(body: Body, n: int) -> bool:
    """Return whether rax goes from behind an instruction to the end of the function untouched."""
    at = {i.ip: m for m, i in enumerate(body.instructions)}
    for _ in range(_WAY_MAX):
        n += 1
        if n >= len(body.forms):
            return False
        form = body.forms[n]
        if form.flow_control == FlowControl.RETURN:
            return True
        if form.flow_control == FlowControl.UNCONDITIONAL_BRANCH:
            n = at.get(body.instructions[n].near_branch_target, len(body.forms)) - 1
        elif form.flow_control != FlowControl.NEXT or form.written == _RAX:
            return False
    return False
