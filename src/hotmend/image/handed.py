"""What a call is handed as constants, and how its result is filled: what allocating an object looks like."""

from __future__ import annotations

from iced_x86 import FlowControl, Mnemonic, OpKind, Register

from hotmend.image.body import Body
from hotmend.image.facts import Location
from hotmend.image.values import FULL

FIRST, SECOND, THIRD, COUNT = (int(getattr(Register, r)) for r in ("RDI", "RSI", "RDX", "RCX"))
"""Registers of the first three arguments, and of the count of a repeated string instruction."""

_RAX, _FRAMES = int(Register.RAX), (int(Register.RBP), int(Register.RSP))
_STRINGS = (Mnemonic.MOVSB, Mnemonic.MOVSD, Mnemonic.MOVSQ, Mnemonic.STOSB, Mnemonic.STOSD, Mnemonic.STOSQ)
_BEFORE, _AFTER = 12, 32
_READS = (Mnemonic.CMP, Mnemonic.TEST, Mnemonic.PUSH)
_LOADS = (Mnemonic.MOV, Mnemonic.MOVZX, Mnemonic.MOVSX, Mnemonic.MOVSXD)
_CALLS = (FlowControl.CALL, FlowControl.INDIRECT_CALL)


def repeated(body: Body) -> dict[int, int]:
    """Return the index of each string instruction that is repeated, with how many bytes one round moves."""
    return {
        n: i.width for n, i in enumerate(body.forms) if i.mnemonic in _STRINGS and body.instructions[n].has_rep_prefix
    }


def constants_handed(body: Body, n: int) -> dict[int, int]:
    """Return the argument registers that are constant at the call of index `n`, with their values."""
    result: dict[int, int] = {}
    wanted = {register: {register} for register in (FIRST, SECOND, THIRD, COUNT)}
    """Register -> the arguments whose values it holds at this point, backwards from the call."""

    for i in reversed(body.forms[max(n - _BEFORE, 0) : n]):
        if i.flow_control != FlowControl.NEXT:
            break
        if (
            not i.op_count
            or i.op0_kind != OpKind.REGISTER
            or i.mnemonic in (Mnemonic.CMP, Mnemonic.TEST, Mnemonic.PUSH)
        ):
            continue
        arguments = wanted.pop(FULL[i.op0_register], set())
        number = i.number if i.mnemonic == Mnemonic.MOV else None
        if i.mnemonic == Mnemonic.XOR and i.op1_kind == OpKind.REGISTER and i.op0_register == i.op1_register:
            number = 0
        if number is not None:
            result |= dict.fromkeys(arguments, number)
        elif i.mnemonic == Mnemonic.MOV and i.op1_kind == OpKind.REGISTER:
            source = FULL[i.op1_register]
            wanted[source] = wanted.get(source, set()) | arguments
    return result


def constants_for(body: Body, targets: frozenset[int], register: int) -> list[int]:
    """Return what a register is known to hold wherever `body` calls one of `targets`, or ends by jumping there."""
    result = []
    for n, i in enumerate(body.instructions):
        target = i.ip_rel_memory_address if i.is_ip_rel_memory_operand else i.near_branch_target
        if target in targets and i.flow_control != FlowControl.NEXT:
            handed = constants_handed(body, n)
            result += [handed[register]] if register in handed else []
    return result


def registers_loaded(body: Body, n: int) -> dict[int, Location]:
    """Return the registers that hold, at the call of index `n`, what was just read from memory other than the stack.

    Each with the place it was read from, in addresses of the body's own image.
    """
    result: dict[int, Location] = {}
    wanted: dict[int, set[int]] = {}
    """Register -> those that have got its value by the call, backwards from it."""
    known: set[int] = set()

    for m in range(n - 1, max(n - _BEFORE, 0) - 1, -1):
        i = body.forms[m]
        if i.flow_control != FlowControl.NEXT:
            break
        if not i.written or i.mnemonic in _READS:
            continue
        holders = wanted.pop(i.written, set()) | ({i.written} - known)
        known.add(i.written)
        if i.mnemonic not in _LOADS:
            continue
        if i.op1_kind == OpKind.REGISTER:
            source = FULL[i.op1_register]
            wanted[source] = wanted.get(source, set()) | holders
        elif i.is_ip_rel_memory_operand:
            result |= dict.fromkeys(holders, ("at", body.instructions[m].ip_rel_memory_address))
        elif m in body.members:
            result |= dict.fromkeys(holders, ("member", body.members[m].displacement))
    return result


def filled_up_to(body: Body, n: int) -> int:
    """Return up to which byte behind where the result of call `n` points the next instructions write; 0 for none."""
    holders = {_RAX}
    slots: set[tuple[int, int]] = set()
    most = 0
    for i in body.forms[n + 1 : n + 1 + _AFTER]:
        if i.flow_control in _CALLS:
            holders.discard(_RAX)
        if not i.op_count or i.mnemonic in _READS:
            continue
        slot = (i.memory_base, i.memory_displacement)
        if i.op0_kind == OpKind.MEMORY:
            if FULL[i.memory_base] in holders and i.memory_displacement < 1 << 31:
                most = max(most, i.memory_displacement + i.width)
            if slot[0] in _FRAMES and i.op1_kind == OpKind.REGISTER:
                (slots.add if FULL[i.op1_register] in holders else slots.discard)(slot)
        elif i.op0_kind == OpKind.REGISTER:
            copies = i.mnemonic == Mnemonic.MOV and (
                (i.op1_kind == OpKind.REGISTER and FULL[i.op1_register] in holders)
                or (i.op1_kind == OpKind.MEMORY and slot in slots)
            )
            (holders.add if copies else holders.discard)(FULL[i.op0_register])
    return most
