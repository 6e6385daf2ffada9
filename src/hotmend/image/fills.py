"""Fills that a compiler laid out as single vector stores: one value stored again and again, without a hole."""

from __future__ import annotations

from iced_x86 import FlowControl, MemorySizeExt, Mnemonic, OpKind, Register

from hotmend.image.body import Body
from hotmend.image.values import FULL

_VECTOR_STORES = frozenset(int(getattr(Mnemonic, n)) for n in ("MOVUPS", "MOVAPS", "MOVDQU", "MOVDQA"))
_FRAMES = (int(Register.RSP), int(Register.RBP), int(Register.NONE))

_Span = tuple[int, int]


def fills(body: Body) -> dict[int, int]:
    """Return the displacement at which each fill of an object begins, with the one where its vectors end."""
    runs: dict[tuple[int, int], list[_Span]] = {}
    result: dict[int, int] = {}
    for i in body.instructions:
        if i.flow_control != FlowControl.NEXT:
            _settle(runs, result)
        elif i.op_count == 2 and int(i.mnemonic) in _VECTOR_STORES and i.op0_kind == OpKind.MEMORY:
            base, at = int(i.memory_base), i.memory_displacement
            if base not in _FRAMES and int(i.memory_index) == Register.NONE and at < 1 << 31:
                span = (at, at + MemorySizeExt.size(i.memory_size))
                runs.setdefault((base, int(i.op1_register)), []).append(span)
        elif i.op_count and i.op0_kind == OpKind.REGISTER:
            register = int(i.op0_register)
            if any(register == value or FULL[i.op0_register] == base for base, value in runs):
                _settle(runs, result)
    _settle(runs, result)
    return result


def _settle(runs: dict[tuple[int, int], list[_Span]], result: dict[int, int]) -> None:
    """Move the runs of one stretch of code to the result."""
    for spans in runs.values():
        start, end = None, -1
        for low, high in sorted(spans):
            if start is None or low > end:
                start, end = low, high
            end = max(end, high)
            result[start] = max(result.get(start, 0), end)
    runs.clear()


def uses_within(body: Body, low: int, high: int) -> bool:
    """Return whether a function uses members between two displacements."""
    return any(
        low < i.memory_displacement + max(MemorySizeExt.size(i.memory_size), 1) and i.memory_displacement < high
        for i in body.instructions
        if int(i.memory_base) not in _FRAMES
        and any(i.op_kind(k) == OpKind.MEMORY for k in range(i.op_count))
        and not i.is_ip_rel_memory_operand
    )
