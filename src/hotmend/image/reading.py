"""Read from a function what it does with lasting values.

Memory that outlives a call is known by where it is: the address of a variable, or a displacement off a pointer
(which structure the pointer leads to is not known). A value is followed from where it is loaded to where it is
compared, masked, shifted or used as an address, through registers and the function's own stack, in one pass forward;
what arrives at a label is what all the ways to it agree upon. Where only branches from further down lead to a label, as
to the body of a loop that is entered at its test, the function is read once more with what these arrive with. Otherwise
loops are not repeated: a value that only a second round would show is not followed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from iced_x86 import FlowControl, Instruction, Mnemonic, OpKind, Register

from hotmend.image.body import Body, uses_frame_pointer
from hotmend.image.facts import WITH_CONSTANT, Dealing, Fact, Literal, Locate, Location, Passes, Use
from hotmend.image.forms import Form
from hotmend.image.values import BYTES, UNKNOWN, Slot, State, Value

_REGISTER, _MEMORY = int(OpKind.REGISTER), int(OpKind.MEMORY)
_NONE, _RSP, _RBP = int(Register.NONE), int(Register.RSP), int(Register.RBP)
_RAX = int(Register.RAX)
_FIRST_ARGUMENTS = (int(Register.RDI), int(Register.RSI))
_OWN_SEGMENTS = (int(Register.FS), int(Register.GS))


def _mnemonics(*names: str) -> frozenset[int]:
    return frozenset(int(getattr(Mnemonic, n)) for n in names)


_MOVES = _mnemonics("MOV", "MOVZX", "MOVSX", "MOVSXD")
_FLOATS = _mnemonics(
    "MOVSS", "MOVSD", "ADDSS", "ADDSD", "SUBSS", "SUBSD", "MULSS", "MULSD", "DIVSS", "DIVSD", "COMISS", "COMISD",
    "UCOMISS", "UCOMISD", "CVTSS2SD", "CVTSD2SS", "CVTTSS2SI", "CVTTSD2SI", "FLD", "FSTP", "FST", "FADD", "FMUL",
)  # fmt: skip
_FLOAT_BYTES = (4, 8, 10, 16)
_VECTOR_MOVES = _mnemonics("MOVDQA", "MOVDQU", "MOVAPS", "MOVUPS", "MOVQ", "MOVD")
_FROM_INTEGERS = _mnemonics("CVTSI2SS", "CVTSI2SD", "FILD")
_EQUALS = _mnemonics("JE", "JNE", "SETE", "SETNE", "CMOVE", "CMOVNE")
_CONDITIONS = ("A", "AE", "B", "BE", "G", "GE", "L", "LE", "S", "NS")
_ORDERS = _mnemonics(*(prefix + c for prefix in ("J", "SET", "CMOV") for c in _CONDITIONS), "ADC", "SBB")
_CONDITIONAL_MOVES = frozenset(int(getattr(Mnemonic, n)) for n in dir(Mnemonic) if n.startswith("CMOV"))
_LEAVES_IT = _mnemonics("CMP", "TEST", "PUSH", "BT", "COMISS", "COMISD", "UCOMISS", "UCOMISD", "PTEST", "NOP", "MUL")
_CMP, _TEST, _ADD, _SUB, _XOR, _OR, _IMUL, _AND, _BT, _LEA, _XCHG = (
    int(getattr(Mnemonic, n)) for n in ("CMP", "TEST", "ADD", "SUB", "XOR", "OR", "IMUL", "AND", "BT", "LEA", "XCHG")
)
_NEXT, _RETURN, _NOP = int(FlowControl.NEXT), int(FlowControl.RETURN), int(Mnemonic.NOP)
_CALLS = (int(FlowControl.CALL), int(FlowControl.INDIRECT_CALL))
_BRANCHES = (int(FlowControl.CONDITIONAL_BRANCH), int(FlowControl.UNCONDITIONAL_BRANCH))
_GOES_ON = (_BRANCHES[0], int(FlowControl.INTERRUPT), int(FlowControl.XBEGIN_XABORT_XEND))
_LOOK_AHEAD = 4
_SHIFT_MAX = 20

Operation = tuple[Use, int]


def _ones(width: int) -> int:
    return (1 << 8 * width) - 1


def _signed(number: int, width: int) -> int:
    return number - (1 << 8 * width) if number >> (8 * width - 1) else number


_OPERATIONS: dict[int, Callable[[int, int], Operation]] = {
    _AND: lambda k, _: (Use.MASK, k),
    _TEST: lambda k, _: (Use.MASK, k),
    _OR: lambda k, _: (Use.SET_BITS, k),
    _XOR: lambda k, _: (Use.FLIP, k),
    _ADD: lambda k, _: (Use.ADD, k),
    _SUB: lambda k, width: (Use.ADD, -k & _ones(width)),
    _IMUL: lambda k, _: (Use.MULTIPLY, k),
    int(Mnemonic.SHR): lambda k, _: (Use.SHIFT, -(k & 63)),
    int(Mnemonic.SAR): lambda k, _: (Use.SHIFT, -(k & 63)),
    int(Mnemonic.SHL): lambda k, _: (Use.SHIFT, k & 63),
    **{m: lambda k, _: (Use.MASK, 1 << (k & 63)) for m in _mnemonics("BT", "BTS", "BTR", "BTC")},
}
"""What an instruction with a constant does, from the constant and the bytes it works on."""

_COUNTS = {int(Mnemonic.INC): 1, int(Mnemonic.DEC): -1}


@dataclass(slots=True)
class _Step:
    """One instruction taken apart: memory operand, bytes of it, constant."""

    n: int
    i: Form
    whole: Instruction
    mnemonic: int
    kinds: tuple[int, ...]
    place: Location | None = None
    slot: Slot | None = None
    width: int = 0
    number: int | None = None


class _Reader:
    """Reads one body."""

    def __init__(
        self, body: Body, locate: Locate, constant: Locate, literal: Literal, dealing: Dealing, passes: Passes
    ) -> None:
        self._instructions, self._forms = body.instructions, body.forms
        self._locate, self._constant, self._literal = locate, constant, literal
        self._dealing, self._passes = dealing, passes
        self._frame = uses_frame_pointer(body.instructions)
        self._state = State()
        self.facts: list[Fact] = []
        self.returned: list[Value] = []
        """What is known of the result, for each way out of the function."""

    def run(self) -> list[Fact]:
        """Return all facts in the order of instructions."""
        self._state = State(heads=self._heads())
        self._pass()
        if self._state.lost:
            self._state = State(self._state.backward)
            self.facts, self.returned = [], []
            self._pass()
        return self.facts

    def _heads(self) -> set[int]:
        """Return where branches lead that go back."""
        near = (i for i, form in zip(self._instructions, self._forms, strict=True) if form.flow_control in _BRANCHES)
        return {i.near_branch_target for i in near if i.near_branch_target <= i.ip}

    def _pass(self) -> None:
        through, state = True, self._state
        for n, (i, form) in enumerate(zip(self._instructions, self._forms, strict=True)):
            ip = i.ip
            if not through or ip in state.arriving:
                known = state.label(ip, through=through)
                through = known or form.mnemonic != _NOP  # what pads the space before a loop leads nowhere
            if form.op_count:
                self._read(self._take_apart(n, form, i))
            flow = form.flow_control
            if flow == _NEXT:
                continue
            deal = self._dealing(n)
            if deal is not None and not deal[0]:
                self._give_back(n, deal[1])
            if flow in _CALLS:
                self._call(n, deal)
                continue
            if flow == _RETURN:
                self.returned.append(self._state.register(_RAX))
            if flow in _BRANCHES:
                state.branch(ip, i.near_branch_target)
            through = flow in _GOES_ON

    def _call(self, n: int, deal: tuple[bool, int] | None) -> None:
        """Forget what a call may overwrite, and note what its result is."""
        handed = self._state.register(_FIRST_ARGUMENTS[0]).taken
        self._state.call()
        if deal is not None and deal[0]:
            self._state.set_register(_RAX, Value(taken=deal[1]))
        elif handed >= 0 and self._passes(n):
            self._state.set_register(_RAX, Value(taken=handed))

    def _give_back(self, n: int, kind: int) -> None:
        """Note where what is handed to a call that gives something back was loaded from."""
        for register in _FIRST_ARGUMENTS:
            location = self._state.register(register).location
            if location is not None and location[0] != "argument":
                self._add(n, location, Use.GIVEN, kind)

    def _add(self, n: int, place: Location, use: Use, number: int) -> None:
        if use in WITH_CONSTANT:
            shared = self._constant(number)
            if shared is None:
                return
            number = shared
        self.facts.append(Fact(n, place, use, number))

    def _take_apart(self, n: int, i: Form, whole: Instruction) -> _Step:
        step = _Step(n, i, whole, i.mnemonic, i.kinds, None, None, i.size, i.constant)
        if i.memory:
            self._operand(step)
        return step

    def _operand(self, step: _Step) -> None:
        """Find the lasting location of a memory operand, or the stack slot."""
        i = step.i
        base = i.memory_base
        if i.segment_prefix in _OWN_SEGMENTS:
            return
        if i.is_ip_rel_memory_operand:
            step.place = self._global(step.whole.ip_rel_memory_address)
        elif base == _RSP or (base == _RBP and self._frame):
            step.slot = (base, i.displacement) if i.memory_index == _NONE else None
        elif step.mnemonic != _LEA:
            step.place = self._through_pointer(step, base, i.memory_index)

    def _through_pointer(self, step: _Step, base: int, index: int) -> Location | None:
        """Return the location that base and index lead to; note what they are made of."""
        i, n = step.i, step.n
        distance = i.displacement
        pointer = self._state.register(base) if base != _NONE else UNKNOWN
        other = self._state.register(index) if index != _NONE else None
        if other is not None and base != _NONE and i.memory_index_scale == 1 and _leads(other, pointer):
            pointer, other = other, pointer
        place: Location | None = ("member", distance)
        if base == _NONE:
            place = self._global(distance) if distance > 0 else None
        elif pointer.address is not None:
            place = self._global(pointer.address, distance)
        elif pointer.location is not None:
            self._add(n, pointer.location, Use.POINTER, 0)
        if other is not None:
            step_bytes = other.scale * i.memory_index_scale
            if place is not None:
                self._add(n, place, Use.STRIDE, step_bytes)
            if other.location is not None:
                self._add(n, other.location, Use.INDEX, step_bytes)
        elif place is not None and pointer.scale > 1:
            self._add(n, place, Use.STRIDE, pointer.scale)
        return place

    def _global(self, address: int, distance: int = 0) -> Location | None:
        shared = self._locate(address)
        return None if shared is None else ("at", shared + distance)

    def _read(self, step: _Step) -> None:
        if step.mnemonic == _LEA:
            self._state.set_register(step.i.op0_register, self._computed_address(step))
        elif step.mnemonic in _MOVES:
            self._move(step)
        elif step.mnemonic in _VECTOR_MOVES:
            self._move_vector(step)
        elif step.mnemonic in _FLOATS or step.mnemonic in _FROM_INTEGERS:
            if step.place is not None and step.width in _FLOAT_BYTES:
                self._add(step.n, step.place, Use.FLOAT if step.mnemonic in _FLOATS else Use.INTEGER, step.width)
            self._overwritten(step)
        else:
            self._compute(step)

    def _computed_address(self, step: _Step) -> Value:
        i = step.i
        distance = i.displacement
        if i.is_ip_rel_memory_operand:
            return Value(address=step.whole.ip_rel_memory_address)
        first = self._state.register(i.memory_base) if i.memory_base != _NONE else Value(constants=(0,))
        if i.memory_index == _NONE:
            return self._moved(step, first, distance)
        second = self._state.register(i.memory_index)
        if i.memory_base == i.memory_index:
            return Value(scale=second.scale * (1 + i.memory_index_scale))
        stride = second.scale * i.memory_index_scale
        if i.memory_base == _NONE and distance == 0 and BYTES[i.op0_register] == 8:
            return Value(second.location, scale=stride)
        if i.memory_base != _NONE and BYTES[i.op0_register] == 8:
            self._steps(step.n, first, stride, distance)
            if i.memory_index_scale == 1:
                self._steps(step.n, second, first.scale, distance)
        return Value(scale=max(stride, first.scale))

    def _moved(self, step: _Step, value: Value, distance: int) -> Value:
        """A value plus a constant by `lea`: arithmetic where the result is shorter than an address."""
        if value.location is not None:
            if BYTES[step.i.op0_register] < 8:
                self._add(step.n, value.location, Use.ADD, distance & _ones(4))
            return Value(value.location)
        if value.address is not None:
            return Value(address=value.address + distance)
        return Value(last=(Use.ADD, distance & _ones(4)), scale=value.scale)

    def _steps(self, n: int, pointer: Value, stride: int, distance: int = 0) -> None:
        """Note that an index of so many bytes is added to what may be a pointer."""
        place = pointer.location
        if pointer.address is not None:
            place = self._global(pointer.address, distance)
        if place is not None and stride > 1:
            self._add(n, place, Use.STRIDE, stride)

    def _move(self, step: _Step) -> None:
        if step.kinds[0] == _MEMORY:
            value = self._source(step)
            if step.slot is not None:
                self._state.set_slot(step.slot, value)
            elif step.place is not None:
                self._store(step.n, step.place, value, step.width)
        elif step.kinds[0] == _REGISTER:
            if step.place is not None:
                self._add(step.n, step.place, Use.INTEGER, step.width)
            self._state.set_register(step.i.op0_register, self._source(step))

    def _move_vector(self, step: _Step) -> None:
        """Several members set by one instruction are read as what they are where they are constants."""
        value = self._source(step)
        if step.kinds[0] == _REGISTER:
            self._state.set_register(step.i.op0_register, value if value.constants else UNKNOWN)
        elif step.place is not None and len(value.constants) == 1:
            self._store(step.n, step.place, value, step.width)

    def _source(self, step: _Step) -> Value:
        if step.number is not None:
            return Value(constants=(step.number,), address=step.number if step.number > 1 << 16 else None)
        if step.kinds[1] == _MEMORY:
            if step.slot is not None:
                return self._state.slot(step.slot)
            if step.i.is_ip_rel_memory_operand:
                number = self._literal(step.whole.ip_rel_memory_address, step.width)
                if number is not None:
                    return Value(constants=(number,))
            return Value(step.place) if step.place is not None else UNKNOWN
        if step.kinds[1] != _REGISTER:
            return UNKNOWN
        value = self._state.register(step.i.op1_register)
        size = BYTES[step.i.op1_register]
        return Value(constants=tuple(k & _ones(size) for k in value.constants)) if value.constants else value

    def _store(self, n: int, place: Location, value: Value, width: int) -> None:
        if len(value.constants) == 1 and width > 1:
            half = width // 2
            low, high = value.constants[0] & _ones(half), value.constants[0] >> 8 * half & _ones(half)
            if half >= 8 or (high not in (0, _ones(half)) and (half == 4 or (half == 1 and low))):
                # Two neighbours set by one instruction.
                self._store(n, place, Value(constants=(low,)), half)
                self._store(n, (place[0], place[1] + half), Value(constants=(high,)), half)
                return
        self._add(n, place, Use.WRITE, width)
        for k in value.constants:
            self._add(n, place, Use.STORE, k & _ones(width))
        if value.taken >= 0:
            self._add(n, place, Use.TAKEN, value.taken)
        if value.last is not None and value.location is None:
            self._add(n, place, *value.last)

    def _compute(self, step: _Step) -> None:
        n, i, m, kinds = step.n, step.i, step.mnemonic, step.kinds
        value = self._subject(step)
        subject = step.place if kinds[0] == _MEMORY and step.slot is None else value.location
        if step.place is not None:
            reads = kinds[0] == _REGISTER or m in _LEAVES_IT
            self._add(n, step.place, Use.INTEGER if reads else Use.WRITE, step.width)
        operation = self._operation(step)
        if m == _CMP:
            self._compare(step, subject)
        elif m in (_TEST, _XOR) and _with_itself(step):
            if m == _XOR:
                self._state.set_register(i.op0_register, Value(constants=(0,)))
            elif subject is not None and self._equality(n):
                self._add(n, subject, Use.EQUAL, 0)
        elif operation is not None:
            self._note(step, operation, subject)
            if m not in (_TEST, _BT):
                self._put(step, _after(operation, value, subject, step))
        elif not self._combine(step, value):
            self._overwritten(step)

    def _subject(self, step: _Step) -> Value:
        """Return what is known of the first operand."""
        if step.kinds[0] == _REGISTER:
            return self._state.register(step.i.op0_register)
        return self._state.slot(step.slot) if step.slot is not None else UNKNOWN

    def _put(self, step: _Step, value: Value) -> None:
        if step.kinds[0] == _REGISTER:
            self._state.set_register(step.i.op0_register, value)
        elif step.slot is not None:
            self._state.set_slot(step.slot, value)

    @staticmethod
    def _operation(step: _Step) -> Operation | None:
        if step.mnemonic in _COUNTS:
            return Use.ADD, _COUNTS[step.mnemonic] & _ones(step.width)
        found = _OPERATIONS.get(step.mnemonic)
        return found(step.number, step.width) if found is not None and step.number is not None else None

    def _note(self, step: _Step, operation: Operation, subject: Location | None) -> None:
        use, number = operation
        if use is Use.MULTIPLY and len(step.kinds) == 3:
            subject = step.place
            if step.kinds[1] == _REGISTER:
                subject = self._state.register(step.i.op1_register).location
        if use is Use.MASK and step.mnemonic == _AND and step.kinds[0] == _MEMORY:
            use = Use.CLEAR
        if subject is not None:
            self._add(step.n, subject, use, number)

    def _combine(self, step: _Step, value: Value) -> bool:
        """Two values become one: a sum that may be an address, or one of two constants."""
        if step.kinds[0] != _REGISTER or len(step.kinds) < 2:
            return False
        other = self._state.register(step.i.op1_register) if step.kinds[1] == _REGISTER else Value(step.place)
        if step.mnemonic == _ADD and step.width == 8:
            self._steps(step.n, value, other.scale)
            self._steps(step.n, other, value.scale)
            for one in (value, other):
                if one.location is not None:
                    self._add(step.n, one.location, Use.INDEX, one.scale)
            self._state.set_register(step.i.op0_register, Value(scale=max(value.scale, other.scale)))
            return True
        if step.mnemonic in _CONDITIONAL_MOVES:
            either = (*value.constants, *other.constants)
            self._state.set_register(step.i.op0_register, Value(constants=either) if either else UNKNOWN)
            return True
        return False

    def _compare(self, step: _Step, subject: Location | None) -> None:
        number = step.number
        if number is None and len(step.kinds) == 2:
            for operand in (0, 1):
                if step.kinds[operand] == _REGISTER:
                    value = self._state.register(step.i.registers[operand])
                    if len(value.constants) == 1:
                        number = value.constants[0]
                    else:
                        subject = subject or value.location
            subject = subject or step.place
        if subject is not None and number is not None:
            self._add(step.n, subject, Use.EQUAL if self._equality(step.n) else Use.ORDER, number)

    def _equality(self, n: int) -> bool:
        """Return whether the flags of instruction `n` are asked for equality first."""
        for later in self._forms[n + 1 : n + 1 + _LOOK_AHEAD]:
            if later.mnemonic in _EQUALS:
                return True
            if later.mnemonic in _ORDERS:
                return False
        return True

    def _overwritten(self, step: _Step) -> None:
        if step.mnemonic in _LEAVES_IT:
            return
        if step.kinds[0] == _REGISTER:
            self._state.set_register(step.i.op0_register, UNKNOWN)
        if step.mnemonic == _XCHG and step.kinds[1] == _REGISTER:
            self._state.set_register(step.i.op1_register, UNKNOWN)


def _with_itself(step: _Step) -> bool:
    """Return whether both operands are one register."""
    return step.kinds == (_REGISTER, _REGISTER) and step.i.op0_register == step.i.op1_register


def _leads(index: Value, base: Value) -> bool:
    """Return whether what the encoding calls the index is the address, and the base what is added to it."""
    return (index.address is not None and base.address is None) or (base.scale > 1 and index.scale == 1)


def _after(operation: Operation, value: Value, subject: Location | None, step: _Step) -> Value:
    """Return what the result of an operation with a constant is known to be."""
    use, number = operation
    if step.mnemonic == _OR and number == _ones(step.width):
        return Value(constants=(number,))
    scale = value.scale
    if use is Use.SHIFT and number > 0:
        scale <<= min(number, _SHIFT_MAX)
    elif use is Use.MULTIPLY:
        scale *= number
    elif use is not Use.ADD:
        scale = 1
    if subject is not None:
        return Value(subject, scale=scale)
    address = value.address
    if address is not None:
        address = address + _signed(number, step.width) if use is Use.ADD else None
    return Value(scale=scale, last=operation, address=address)


def facts_of(
    body: Body, locate: Locate, constant: Locate, literal: Literal, dealing: Dealing, passes: Passes
) -> list[Fact]:
    """Return what a function does with lasting values.

    Args:
        body: the function.
        locate: turns addresses of its image into shared ones.
        constant: the same for numbers, which in an image with fixed addresses may be addresses.
        literal: returns so many bytes at an address as a number where nobody can change them, else None.
        dealing: says which calls take and which give back.
        passes: says which calls return what they are handed first.
    """
    return _Reader(body, locate, constant, literal, dealing, passes).run()


def returns_first_argument(body: Body) -> bool:
    """Return whether a function returns what it was handed first, on every way out of it."""
    reader = _Reader(body, _unknown, _unknown, lambda _a, _b: None, lambda _n: None, lambda _n: False)
    reader.run()
    first = Value(("argument", _FIRST_ARGUMENTS[0]))
    return bool(reader.returned) and all(value == first for value in reader.returned)


def _unknown(address: int) -> int | None:
    del address
    return None
