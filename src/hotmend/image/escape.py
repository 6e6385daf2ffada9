"""Where a pointer goes that a function has: into memory that lasts, to its caller, to whom it calls.

Followed along all ways through the function, in registers and on its own stack. What is computed from a pointer by
adding to it counts as the pointer; what is read through it does not, unless that is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from iced_x86 import FlowControl, Mnemonic, OpKind, Register

from hotmend.image.body import Body, uses_frame_pointer
from hotmend.image.forms import Form
from hotmend.image.values import FULL
from hotmend.image.ways import is_switch

_REGISTER, _MEMORY = int(OpKind.REGISTER), int(OpKind.MEMORY)
_NONE, _RSP, _RBP = (int(getattr(Register, r)) for r in ("NONE", "RSP", "RBP"))
RESULT = int(Register.RAX)
"""The register in which a function returns a pointer."""

_ARGUMENTS = tuple(int(getattr(Register, r)) for r in ("RDI", "RSI", "RDX", "RCX", "R8", "R9"))
_KEPT_BY_CALLS = frozenset(int(getattr(Register, r)) for r in ("RBX", "RBP", "R12", "R13", "R14", "R15"))
_CALLS = (FlowControl.CALL, FlowControl.INDIRECT_CALL)
_ENDS = (FlowControl.RETURN, FlowControl.UNCONDITIONAL_BRANCH, FlowControl.INDIRECT_BRANCH, FlowControl.EXCEPTION)


def _mnemonics(*names: str) -> frozenset[int]:
    return frozenset(int(getattr(Mnemonic, n)) for n in names)


_READS = _mnemonics("CMP", "TEST", "PUSH", "BT", "NOP", "COMISD", "UCOMISD", "COMISS", "UCOMISS", "PTEST")
_MOVES = _mnemonics(
    "MOV", "MOVZX", "MOVSX", "MOVSXD", "MOVQ", "MOVD", "MOVUPS", "MOVAPS", "MOVUPD", "MOVAPD", "MOVDQU", "MOVDQA",
    "MOVLPS", "MOVHPS", "MOVLPD", "MOVHPD", "VMOVQ", "VMOVUPS", "VMOVAPS", "VMOVDQU", "VMOVDQA", "VMOVHPS", "VMOVLPS",
)  # fmt: skip
_CONDITIONAL_MOVES = frozenset(int(getattr(Mnemonic, n)) for n in dir(Mnemonic) if n.startswith("CMOV"))
_JOINS = _CONDITIONAL_MOVES | _mnemonics(
    "PUNPCKLQDQ", "VPUNPCKLQDQ", "PINSRQ", "VPINSRQ", "MOVLHPS", "MOVHPS", "MOVHPD", "VMOVHPS", "XCHG"
)
"""What holds the pointer afterwards if any of the operands did."""

_SUMS = _mnemonics("ADD", "SUB", "INC", "DEC")
_TAKES = _mnemonics("LEA", "MOV", "MOVZX", "MOVSX", "MOVSXD")
_LEA, _XCHG, _SUB = (int(getattr(Mnemonic, n)) for n in ("LEA", "XCHG", "SUB"))

_Key = int | tuple[int, int]
"""A whole register, its negative while it has not been used as an address since it was set, or a word of the function's
own stack by base register and displacement."""


@dataclass(slots=True)
class Escapes:
    """Where a pointer goes.

    Attributes:
        stored: into memory other than the function's own stack.
        returned: to the caller.
        handed: (index of the instruction, register) of calls, and jumps to other functions, that may get it.
        meant: those of them before which the register was set and not used as an address since: an argument looks so,
            and what is left over from a loop or a look into a table does not.
    """

    stored: bool = False
    returned: bool = False
    handed: set[tuple[int, int]] = field(default_factory=set)
    meant: set[tuple[int, int]] = field(default_factory=set)


def escapes(body: Body, starts: Iterable[tuple[int, int]], *, reads: bool = False) -> Escapes:
    """Follow a pointer.

    Args:
        body: the function.
        starts: (index of an instruction, whole register that holds the pointer before it).
        reads: what is read through the pointer counts like the pointer: it is a table of pointers.
    """
    return _Follower(body, reads=reads).run(starts)


def takers(body: Body, start: int, size: int, *, reads: bool = False) -> Iterator[tuple[int, int]]:
    """Yield where a register has got an address in `[start, start + size)`, and which register.

    Args:
        body: the function.
        start: link address of an object.
        size: its bytes.
        reads: what stands there counts as well.
    """
    for n in body.taking(start, start + size):
        i, form = body.instructions[n], body.forms[n]
        relative = form.is_ip_rel_memory_operand and start <= i.ip_rel_memory_address < start + size
        address = form.mnemonic == _LEA if relative else form.number is not None
        if form.mnemonic in _TAKES and form.op0_kind == _REGISTER and (address or reads):
            yield n + 1, FULL[form.op0_register]


class _Follower:
    def __init__(self, body: Body, *, reads: bool) -> None:
        self._body, self._forms, self._reads = body, body.forms, reads
        self._frames = (_RSP, _RBP) if uses_frame_pointer(body.instructions) else (_RSP,)
        self._index = {i.ip: n for n, i in enumerate(body.instructions)}
        self._holding: dict[int, set[_Key]] = {}
        self._found = Escapes()

    def run(self, starts: Iterable[tuple[int, int]]) -> Escapes:
        todo = [n for n, register in starts if self._arrives(n, {register, -register})]
        while todo:
            n = todo.pop()
            holding = set(self._holding[n])
            todo += [way for way in self._ways(n, holding) if self._arrives(way, holding)]
        return self._found

    def _arrives(self, n: int, holding: set[_Key]) -> bool:
        if n >= len(self._forms) or not holding:
            return False
        known = self._holding.setdefault(n, set())
        if holding <= known:
            return False
        known |= holding
        return True

    def _ways(self, n: int, holding: set[_Key]) -> list[int]:
        """Carry one instruction out and return which may come next."""
        form = self._forms[n]
        flow = form.flow_control
        if form.memory and form.mnemonic != _LEA:
            holding -= {-FULL[form.memory_base], -FULL[form.memory_index]}
        if flow in _CALLS:
            self._hand(n, holding)
            holding -= {key for key in holding if isinstance(key, int) and abs(key) not in _KEPT_BY_CALLS}
            return [n + 1]
        if flow in (FlowControl.RETURN, FlowControl.EXCEPTION):
            self._found.returned |= flow == FlowControl.RETURN and RESULT in holding
            return []
        if flow == FlowControl.INDIRECT_BRANCH:
            if not is_switch(self._body, n):
                self._hand(n, holding)
            return self._labels
        if flow in (FlowControl.CONDITIONAL_BRANCH, FlowControl.UNCONDITIONAL_BRANCH):
            target = self._index.get(self._body.instructions[n].near_branch_target)
            if target is None:
                self._hand(n, holding)
            ways = [] if target is None else [target]
            return [*ways, n + 1] if flow == FlowControl.CONDITIONAL_BRANCH else ways
        if form.op_count and form.mnemonic not in _READS:
            self._step(form, holding)
        return [n + 1]

    def _hand(self, n: int, holding: set[_Key]) -> None:
        self._found.handed |= {(n, register) for register in _ARGUMENTS if register in holding}
        self._found.meant |= {(n, register) for register in _ARGUMENTS if {register, -register} <= holding}

    @cached_property
    def _labels(self) -> list[int]:
        """Where a table of jumps may lead: what it holds is not looked up, so that it is whatever follows an end."""
        return [n + 1 for n, form in enumerate(self._forms[:-1]) if form.flow_control in _ENDS]

    def _step(self, form: Form, holding: set[_Key]) -> None:
        second = form.op_count > 1 and self._holds(form, 1, holding)
        if form.kinds[0] == _MEMORY:
            slot = self._slot(form)
            if slot is not None:
                (holding.add if second and form.mnemonic in _MOVES else holding.discard)(slot)
            elif second and (form.mnemonic in _MOVES or form.mnemonic == _XCHG):
                self._found.stored = True
            return
        target = form.written
        if not target:
            return
        if form.mnemonic == _LEA:
            holds = FULL[form.memory_base] in holding or FULL[form.memory_index] in holding
        elif form.mnemonic in _JOINS:
            holds = target in holding or second or (form.op_count > 2 and self._holds(form, 2, holding))
        elif form.mnemonic in _SUMS:
            holds = target in holding or (second and form.kinds[1] == _REGISTER)
            holds = holds and not (form.mnemonic == _SUB and target in holding and second)
        else:
            holds = form.mnemonic in _MOVES and second
        (holding.add if holds else holding.discard)(target)
        if form.mnemonic not in _SUMS:
            (holding.add if holds else holding.discard)(-target)

    def _holds(self, form: Form, operand: int, holding: set[_Key]) -> bool:
        if form.kinds[operand] == _REGISTER:
            return FULL[form.registers[operand]] in holding
        if form.kinds[operand] != _MEMORY:
            return False
        slot = self._slot(form)
        if slot is not None:
            return slot in holding
        return self._reads and (FULL[form.memory_base] in holding or FULL[form.memory_index] in holding)

    def _slot(self, form: Form) -> tuple[int, int] | None:
        """Return the word of the function's own stack that the memory operand is."""
        own = form.memory_base in self._frames and form.memory_index == _NONE
        return (form.memory_base, form.displacement) if own else None
