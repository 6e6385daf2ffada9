"""Which constants a function may return, and where its callers keep what it returned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from iced_x86 import FlowControl, Mnemonic, OpKind, Register

from hotmend.image.body import Body
from hotmend.image.facts import Location
from hotmend.image.forms import Form
from hotmend.image.values import FULL

_REGISTER, _MEMORY = int(OpKind.REGISTER), int(OpKind.MEMORY)
_NONE, _RAX, _RCX, _RDX, _RSP, _RBP, _RIP = (
    int(getattr(Register, r)) for r in ("NONE", "RAX", "RCX", "RDX", "RSP", "RBP", "RIP")
)
_FRAMES = (_RBP, _RSP)
_LOST_IN_CALLS = tuple(int(getattr(Register, r)) for r in ("RAX", "RCX", "RDX", "RSI", "RDI", "R8", "R9", "R10", "R11"))
_CALLS = (FlowControl.CALL, FlowControl.INDIRECT_CALL)
_BRANCHES = (FlowControl.CONDITIONAL_BRANCH, FlowControl.UNCONDITIONAL_BRANCH)

_INSTRUCTIONS_MAX = 240
"""Length above which a function is not followed."""

_VALUES_MAX = 16
"""Numbers above which a register counts as unknown."""

_ROUNDS_MAX = 4
_AFTER = 24
_WORD = (1 << 64) - 1

_ADDRESS, _TABLE = 1 << 72, 1 << 73
"""Added to an address of the image that a register holds, and to that of a table that its value was looked up in."""

Numbers = frozenset[int]
_Key = int | tuple[int, int]
"""A whole register, or a word of the function's own stack by base register and displacement."""

_PUSHED = -1
"""What was pushed last, for compilers that load a small number by pushing it and popping it."""

_Known = dict[_Key, Numbers]


def _names(prefix: str) -> frozenset[int]:
    return frozenset(int(getattr(Mnemonic, n)) for n in dir(Mnemonic) if n.startswith(prefix))


_SETS, _CONDITIONAL_MOVES, _MOVES = _names("SET"), _names("CMOV"), _names("MOV") & frozenset(
    int(getattr(Mnemonic, n)) for n in ("MOV", "MOVZX", "MOVSX", "MOVSXD")
)  # fmt: skip
_READS = frozenset(int(getattr(Mnemonic, n)) for n in ("CMP", "TEST", "PUSH", "BT", "NOP"))
_ALIKE: dict[int, tuple[int, ...]] = {int(Mnemonic.XOR): (0,), int(Mnemonic.SUB): (0,), int(Mnemonic.SBB): (0, -1)}
"""What is left where both operands are one register."""

_HIDDEN = frozenset(int(getattr(Mnemonic, n)) for n in ("MUL", "DIV", "IDIV", "CDQ", "CQO", "CDQE", "CPUID", "CMPXCHG"))
"""They write rax or rdx, whatever their first operand is."""

_TWO: dict[int, Callable[[int, int], int]] = {
    int(Mnemonic.ADD): lambda a, b: a + b,
    int(Mnemonic.SUB): lambda a, b: a - b,
    int(Mnemonic.XOR): lambda a, b: a ^ b,
    int(Mnemonic.AND): lambda a, b: a & b,
    int(Mnemonic.OR): lambda a, b: a | b,
    int(Mnemonic.IMUL): lambda a, b: a * b,
    int(Mnemonic.SHL): lambda a, b: a << (b & 63),
    int(Mnemonic.SHR): lambda a, b: a >> (b & 63),
}
_ONE: dict[int, Callable[[int], int]] = {
    int(Mnemonic.NEG): lambda a: -a,
    int(Mnemonic.NOT): lambda a: ~a,
    int(Mnemonic.INC): lambda a: a + 1,
    int(Mnemonic.DEC): lambda a: a - 1,
}


@dataclass(frozen=True, slots=True)
class Returned:
    """What a function is seen to return; it may return other things as well.

    Attributes:
        constants: 32 bits each.
        tables: link addresses of tables that it looks its result up in.
    """

    constants: Numbers = frozenset()
    tables: Numbers = frozenset()


def what_is_returned(body: Body) -> Returned:
    """Return the constants that a function returns; nothing where it is too long to follow."""
    if len(body.forms) > _INSTRUCTIONS_MAX:
        return Returned()
    found = _Follower(body).run()
    return Returned(
        frozenset(n & 0xFFFFFFFF for n in found if n < _ADDRESS), frozenset(n - _TABLE for n in found if n >= _TABLE)
    )


class _Follower:
    """Follows the constants in registers and on the function's own stack along all ways through it."""

    def __init__(self, body: Body) -> None:
        self._body, self._forms = body, body.forms
        self._index = {i.ip: n for n, i in enumerate(body.instructions)}
        self._at: dict[int, _Known] = {}
        self._returned: set[int] = set()

    def run(self) -> Numbers:
        todo = [0] if self._forms else []
        self._at[0] = {}
        visits: dict[int, int] = {}
        while todo:
            n = todo.pop()
            visits[n] = visits.get(n, 0) + 1
            if visits[n] <= _ROUNDS_MAX:
                todo += self._block(n)
        return frozenset(self._returned)

    def _block(self, n: int) -> list[int]:
        """Follow from a label to the next branch; return the labels that something new arrives at."""
        known = dict(self._at[n])
        while n < len(self._forms):
            form = self._forms[n]
            flow = form.flow_control
            if flow == FlowControl.RETURN:
                self._returned |= known.get(_RAX, frozenset())
                return []
            if flow in _BRANCHES:
                target = self._index.get(self._body.instructions[n].near_branch_target)
                ways = [target] if target is not None else []
                ways += [n + 1] if flow == FlowControl.CONDITIONAL_BRANCH and n + 1 < len(self._forms) else []
                return [way for way in ways if self._arrives(way, known)]
            if flow in _CALLS:
                for register in _LOST_IN_CALLS:
                    known.pop(register, None)
            elif flow in (FlowControl.INDIRECT_BRANCH, FlowControl.EXCEPTION):
                return self._through_table(known) if flow == FlowControl.INDIRECT_BRANCH else []
            elif form.op_count:
                self._step(n, form, known)
            n += 1
            if n in self._at:
                return [n] if self._arrives(n, known) else []
        return []

    def _step(self, n: int, form: Form, known: _Known) -> None:
        """Carry one instruction out."""
        if form.mnemonic in _HIDDEN or (form.mnemonic == Mnemonic.IMUL and form.op_count == 1):
            for register in (_RAX, _RDX, _RCX):
                known.pop(register, None)
            return
        if form.mnemonic == Mnemonic.PUSH and form.number is not None:
            known[_PUSHED] = frozenset({form.number})
        if form.mnemonic in _READS:
            return
        target = _place(form, 0)
        other = _place(form, 1) if form.mnemonic == Mnemonic.XCHG else None
        if other is not None:
            known.pop(other, None)
        if target is None:
            return
        result = self._looked_up(n, form, known) or _result(form, known)
        if result is None or not 0 < len(result) <= _VALUES_MAX:
            known.pop(target, None)
        else:
            known[target] = frozenset(number & _ones(form) if number < _ADDRESS else number for number in result)

    def _looked_up(self, n: int, form: Form, known: _Known) -> Numbers | None:
        """Return what is loaded from a table, or the address that a table may begin at."""
        if form.mnemonic == Mnemonic.LEA and form.is_ip_rel_memory_operand:
            return frozenset({_ADDRESS + self._body.instructions[n].ip_rel_memory_address})
        if form.mnemonic not in _MOVES or form.memory_index == _NONE or form.kinds[0] != _REGISTER:
            return None
        if form.memory_base == _NONE:
            return frozenset({_TABLE + form.displacement}) if form.displacement > 0 else None
        for register in (form.memory_base, form.memory_index):
            held = known.get(FULL[register], frozenset())
            if len(held) == 1 and min(held) >= _ADDRESS:
                return frozenset({min(held) - _ADDRESS + _TABLE + form.displacement})
        return None

    def _through_table(self, known: _Known) -> list[int]:
        """What a jump table leads to is not looked up: every place that nothing else leads to begins a way."""
        starts = [
            n + 1
            for n, form in enumerate(self._forms[:-1])
            if form.flow_control in (FlowControl.UNCONDITIONAL_BRANCH, FlowControl.RETURN, FlowControl.INDIRECT_BRANCH)
        ]
        return [n for n in starts if self._arrives(n, known)]

    def _arrives(self, n: int, known: _Known) -> bool:
        """Merge what is known into what is known at a label; return whether that says anything new."""
        before = self._at.get(n)
        if before is None:
            self._at[n] = dict(known)
            return True
        merged = {
            key: numbers | known[key]
            for key, numbers in before.items()
            if key in known and len(numbers | known[key]) <= _VALUES_MAX
        }
        self._at[n] = merged
        return merged != before


def _ones(form: Form) -> int:
    """Return the bits that an instruction writes; what a shorter register leaves above does not count."""
    return (1 << 8 * form.size) - 1 if 0 < form.size < 8 else _WORD


def _place(form: Form, operand: int) -> _Key | None:
    """Return what an operand is that may be known."""
    if form.kinds[operand] == _REGISTER:
        return FULL[form.registers[operand]]
    if form.kinds[operand] == _MEMORY and form.memory_base in _FRAMES and form.memory_index == _NONE:
        return form.memory_base, form.displacement
    return None


def _operand(form: Form, operand: int, known: _Known) -> Numbers | None:
    if operand >= form.op_count:
        return None
    if form.kinds[operand] not in (_REGISTER, _MEMORY):
        return frozenset({form.number}) if form.number is not None else None
    place = _place(form, operand)
    return known.get(place) if place is not None else None


def _result(form: Form, known: _Known) -> Numbers | None:
    """Return what the first operand is afterwards, None where that is not known."""
    mnemonic = form.mnemonic
    same = form.kinds[:2] == (_REGISTER, _REGISTER) and form.op0_register == form.op1_register
    if (same and mnemonic in _ALIKE) or mnemonic in _SETS:
        return frozenset(_ALIKE.get(mnemonic, (0, 1)))
    if mnemonic == Mnemonic.LEA:
        return _address(form, known)
    if mnemonic == Mnemonic.POP:
        return known.pop(_PUSHED, None)
    if mnemonic == Mnemonic.OR and form.constant == _ones(form):
        return frozenset({form.constant})
    first, second = _operand(form, 0, known), _operand(form, 1, known)
    if mnemonic in _MOVES:
        return second
    if any(number >= _ADDRESS for number in (*(first or ()), *(second or ()))):
        return None
    if first is not None and mnemonic in _ONE:
        return frozenset(_ONE[mnemonic](a) for a in first)
    if form.op_count == 3 and mnemonic == Mnemonic.IMUL and second is not None and form.number is not None:
        return frozenset(a * form.number for a in second)
    if same and mnemonic == Mnemonic.ADD:
        return frozenset(2 * a for a in first or ()) or None
    return _combined(form, first, second) if first is not None and second is not None else None


def _combined(form: Form, first: Numbers, second: Numbers) -> Numbers | None:
    """Return what two operands make together."""
    mnemonic = form.mnemonic
    if mnemonic in _CONDITIONAL_MOVES:
        return first | second
    if mnemonic in (Mnemonic.ADC, Mnemonic.SBB):
        sign = 1 if mnemonic == Mnemonic.ADC else -1
        return frozenset(a + sign * (b + carry) for a in first for b in second for carry in (0, 1))
    if mnemonic in _TWO:
        return frozenset(_TWO[mnemonic](a & _ones(form), b & _ones(form)) for a in first for b in second)
    return None


def _address(form: Form, known: _Known) -> Numbers | None:
    if form.is_ip_rel_memory_operand:
        return None
    parts = [(form.memory_base, 1), (form.memory_index, form.memory_index_scale)]
    if form.memory_base == form.memory_index:
        parts = [(form.memory_base, 1 + form.memory_index_scale)]
    sums = {form.displacement}
    for register, scale in parts:
        if register != _NONE:
            numbers = known.get(FULL[register])
            if numbers is None or max(numbers) >= _ADDRESS:
                return None
            sums = {a + b * scale for a in sums for b in numbers}
    return frozenset(sums)


def results_kept(body: Body, targets: frozenset[int]) -> set[Location]:
    """Return the places, other than the stack, where a function puts what calls have just returned.

    Args:
        body: the function.
        targets: link addresses of what is called, PLT stubs included.

    Returns:
        `("at", address)` in the body's own image, or `("member", displacement)`.
    """
    result: set[Location] = set()
    for n, form in enumerate(body.forms):
        if form.flow_control == FlowControl.CALL and body.instructions[n].near_branch_target in targets:
            result |= _kept_after(body, n)
    return result


def _kept_after(body: Body, n: int) -> set[Location]:
    result: set[Location] = set()
    holders: set[_Key] = {_RAX}
    for m in range(n + 1, min(n + 1 + _AFTER, len(body.forms))):
        form = body.forms[m]
        if form.flow_control in _CALLS:
            holders -= set(_LOST_IN_CALLS)
        elif form.flow_control in (FlowControl.UNCONDITIONAL_BRANCH, FlowControl.RETURN) or not holders:
            break
        elif form.op_count and form.mnemonic not in _READS and form.flow_control == FlowControl.NEXT:
            place = _place(form, 0)
            moves = form.mnemonic in _MOVES and form.op_count > 1 and _place(form, 1) in holders
            if place is not None:
                (holders.add if moves else holders.discard)(place)
            elif moves and form.kinds[0] == _MEMORY and form.is_ip_rel_memory_operand:
                result.add(("at", body.instructions[m].ip_rel_memory_address))
            elif moves and m in body.members:
                result.add(("member", body.members[m].displacement))
    return result
