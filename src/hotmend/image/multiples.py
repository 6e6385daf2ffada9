"""How many bytes for each element a call is handed: `n * sizeof(element)`, however the product is computed."""

from __future__ import annotations

from iced_x86 import FlowControl, Mnemonic, OpKind, Register

from hotmend.image.body import Body
from hotmend.image.forms import Form
from hotmend.image.handed import FIRST, SECOND
from hotmend.image.values import FULL

_MOVES = (Mnemonic.MOV, Mnemonic.MOVSXD, Mnemonic.MOVZX, Mnemonic.MOVSX)
_READS = (Mnemonic.CMP, Mnemonic.TEST, Mnemonic.PUSH)
_FRAMES = (int(Register.RBP), int(Register.RSP))
_NONE = int(Register.NONE)
_SHIFT_MAX = 20

_Key = tuple[int, int]
"""(register, -1), or base and displacement of a word of the function's own stack."""

_Product = tuple[object, int]
"""Something unknown, and how many times it is taken."""


def multiples_handed(body: Body, n: int) -> dict[int, int]:
    """Return of what the first two arguments of the call of index `n` are multiples, by their registers."""
    start = n
    while start and body.forms[start - 1].flow_control == FlowControl.NEXT:
        start -= 1
        if body.instructions[start].ip in body.branch_targets:
            break
    block = _Block()
    for i in body.forms[start:n]:
        block.step(i)
    found = {register: block.value((register, -1))[1] for register in (FIRST, SECOND)}
    return {register: factor for register, factor in found.items() if factor > 1}


class _Block:
    """Products in the registers and stack words of one stretch of code without branches."""

    def __init__(self) -> None:
        self._values: dict[_Key, _Product] = {}

    def value(self, key: _Key) -> _Product:
        """Return what stands there; what was not touched yet is unknown, taken once."""
        return self._values.setdefault(key, (object(), 1))

    def step(self, i: Form) -> None:
        """Follow one instruction."""
        if not i.op_count or i.mnemonic in _READS:
            return
        if i.op0_kind == OpKind.MEMORY:
            if i.memory_base in _FRAMES:
                copied = i.mnemonic == Mnemonic.MOV and i.op1_kind == OpKind.REGISTER
                self._values[_slot(i)] = self.value(_register(i.op1_register)) if copied else (object(), 1)
        elif i.op0_kind == OpKind.REGISTER:
            self._values[_register(i.op0_register)] = self._result(i) or (object(), 1)

    def _result(self, i: Form) -> _Product | None:
        own = self.value(_register(i.op0_register))
        number = i.number
        if i.mnemonic in _MOVES:
            return self._operand(i)
        if i.mnemonic == Mnemonic.LEA:
            return self._address(i)
        if i.mnemonic == Mnemonic.SHL and number is not None and number <= _SHIFT_MAX:
            return own[0], own[1] << number
        if i.mnemonic == Mnemonic.IMUL and i.op_count == 3 and number is not None:
            other = self._operand(i)
            return (other[0], other[1] * number) if other else None
        if i.mnemonic in (Mnemonic.ADD, Mnemonic.SUB):
            return _sum(own, self._operand(i), 1 if i.mnemonic == Mnemonic.ADD else -1)
        return None

    def _operand(self, i: Form) -> _Product | None:
        """Return the second operand."""
        if i.op1_kind == OpKind.REGISTER:
            return self.value(_register(i.op1_register))
        if i.op1_kind == OpKind.MEMORY and i.memory_base in _FRAMES and i.memory_index == _NONE:
            return self.value(_slot(i))
        return None

    def _address(self, i: Form) -> _Product | None:
        """Return base plus index times scale."""
        if i.memory_displacement or i.is_ip_rel_memory_operand or i.memory_index == _NONE:
            return None
        index = self.value(_register(i.memory_index))
        scaled = index[0], index[1] * i.memory_index_scale
        return scaled if i.memory_base == _NONE else _sum(scaled, self.value(_register(i.memory_base)), 1)


def _sum(a: _Product, b: _Product | None, sign: int) -> _Product | None:
    return (a[0], a[1] + sign * b[1]) if b is not None and a[0] is b[0] else None


def _register(register: int) -> _Key:
    return FULL[register], -1


def _slot(i: Form) -> _Key:
    return i.memory_base, i.memory_displacement
