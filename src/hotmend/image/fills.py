"""Fills and copies that a compiler laid out as single stores, without a hole.

A fill stores one value again and again; a copy of a constant stores its words or vectors, one behind the other.
"""

from __future__ import annotations

from iced_x86 import FlowControl, Mnemonic, OpKind, Register

from hotmend.image.body import Body
from hotmend.image.forms import Form
from hotmend.image.values import FULL

_WORD_BYTES = 8
_VECTOR_STORES = frozenset(int(getattr(Mnemonic, n)) for n in ("MOVUPS", "MOVAPS", "MOVDQU", "MOVDQA"))
_VECTOR_LOADS = _VECTOR_STORES
_LITERALS_MIN = 3
"""Wide constants stored one behind the other from which on they are the copy of a constant and no single members."""

_FRAMES = (int(Register.RSP), int(Register.RBP), int(Register.NONE))
_NO_OBJECT = (*_FRAMES, int(Register.RIP), int(Register.EIP))

_Span = tuple[int, int]


def fills(body: Body) -> dict[int, int]:
    """Return the displacement at which each fill of an object begins, with the one where its vectors end."""
    runs: dict[tuple[int, int], list[_Span]] = {}
    result: dict[int, int] = {}
    for i in body.forms:
        if i.flow_control != FlowControl.NEXT:
            _settle(runs, result)
        elif i.op_count == 2 and i.mnemonic in _VECTOR_STORES and i.op0_kind == OpKind.MEMORY:
            base, at = i.memory_base, i.memory_displacement
            if base not in _NO_OBJECT and i.memory_index == Register.NONE and at < 1 << 31:
                span = (at, at + i.width)
                runs.setdefault((base, i.op1_register), []).append(span)
        elif i.written and any(i.op0_register == value or i.written == base for base, value in runs):
            _settle(runs, result)
    _settle(runs, result)
    return result


def copies(body: Body) -> dict[int, int]:
    """Return the displacement at which each copy of a constant into an object begins, with the one where it ends."""
    runs: dict[tuple[int, int], list[_Span]] = {}
    result: dict[int, int] = {}
    literals: set[int] = set()
    for i in body.forms:
        if i.flow_control != FlowControl.NEXT or not i.op_count:
            if i.flow_control != FlowControl.NEXT:
                _settle(runs, result, _LITERALS_MIN)
                literals.clear()
        elif i.op0_kind == OpKind.REGISTER:
            register = i.written
            (literals.add if _loads_literal(i) else literals.discard)(register)
            if any(register == base for base, _ in runs):
                _settle(runs, result, _LITERALS_MIN)
        elif _stores_register(i) and FULL[i.op1_register] in literals and i.memory_displacement < 1 << 31:
            span = (i.memory_displacement, i.memory_displacement + i.width)
            runs.setdefault((FULL[i.memory_base], 0), []).append(span)
    _settle(runs, result, _LITERALS_MIN)
    return result


def _loads_literal(i: Form) -> bool:
    """Return whether a register gets a constant that is wider than four bytes."""
    if i.mnemonic in _VECTOR_LOADS:
        return i.is_ip_rel_memory_operand or (i.op_count > 1 and i.op1_kind == OpKind.MEMORY and _absolute(i))
    return i.mnemonic == Mnemonic.MOV and i.op1_kind == OpKind.IMMEDIATE64


def _absolute(i: Form) -> bool:
    return i.memory_base == Register.NONE and i.memory_index == Register.NONE


def _stores_register(i: Form) -> bool:
    """Return whether a whole register of 8 bytes or more is stored off a pointer that is not the stack's."""
    return (
        (i.mnemonic in _VECTOR_STORES or i.mnemonic == Mnemonic.MOV)
        and i.op0_kind == OpKind.MEMORY
        and i.op1_kind == OpKind.REGISTER
        and i.memory_base not in _FRAMES
        and not i.is_ip_rel_memory_operand
        and i.memory_index == Register.NONE
        and i.width >= _WORD_BYTES
    )


def _settle(runs: dict[tuple[int, int], list[_Span]], result: dict[int, int], stores_min: int = 1) -> None:
    """Move the runs of one stretch of code to the result, where they have so many stores."""
    for spans in runs.values():
        start, end, stores = None, -1, 0
        for low, high in sorted(spans):
            if start is None or low > end:
                start, end, stores = low, high, 0
            end, stores = max(end, high), stores + 1
            if stores >= stores_min:
                result[start] = max(result.get(start, 0), end)
    runs.clear()


def uses_within(body: Body, low: int, high: int) -> bool:
    """Return whether a function uses members between two displacements."""
    return any(
        low < i.memory_displacement + max(i.width, 1) and i.memory_displacement < high
        for i in body.forms
        if i.memory_base not in _FRAMES and i.memory and not i.is_ip_rel_memory_operand
    )
