"""What seccomp filters say to a system call: classic BPF as the kernel runs it. No input, no output.

A filter is an array of `struct sock_filter` over one `struct seccomp_data`. The kernel runs all filters of a thread
and takes the strictest answer (`kernel/seccomp.c`, `seccomp_run_filters`). Only instructions that the kernel accepts
in a seccomp filter (`seccomp_check_filter`) are known here; anything else is an error, never an answer.
"""

from __future__ import annotations

import errno
import operator
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

ARCH_X86_64: Final = 0xC000003E
"""AUDIT_ARCH_X86_64 of `linux/audit.h`."""

INSTRUCTION: Final = struct.Struct("<HBBI")
"""`struct sock_filter`: code, jt, jf, k."""

_DATA = struct.Struct("<IIQ6Q")
_MASK32, _MASK64 = 0xFFFFFFFF, (1 << 64) - 1
_ACTION_MASK, _DATA_MASK = 0xFFFF0000, 0xFFFF
_INSTRUCTIONS_MAX = 4096  # BPF_MAXINSNS
_SLOTS = 16  # BPF_MEMWORDS

# Instruction classes, modes and operations of `linux/bpf_common.h`.
_LD, _LDX, _ST, _STX, _ALU, _JMP, _RET, _MISC = range(8)
_IMM, _ABS, _MEM, _LEN = 0x00, 0x20, 0x60, 0x80
_JA, _NEG, _DIV = 0x00, 0x80, 0x30
_X, _A, _TXA = 0x08, 0x10, 0x80

_ARITHMETIC: dict[int, Callable[[int, int], int]] = {
    0x00: operator.add,
    0x10: operator.sub,
    0x20: operator.mul,
    _DIV: operator.floordiv,
    0x40: operator.or_,
    0x50: operator.and_,
    0x60: lambda a, b: a << (b & 31),
    0x70: lambda a, b: a >> (b & 31),
    0xA0: operator.xor,
}
_CONDITIONS: dict[int, Callable[[int, int], bool]] = {
    0x10: operator.eq,
    0x20: operator.gt,
    0x30: operator.ge,
    0x40: lambda a, b: a & b != 0,
}


class FilterError(ValueError):
    """A program that is not one the kernel accepts as a seccomp filter."""


class Action(IntEnum):
    """What a filter answers (`linux/seccomp.h`), the values signed: the smallest is the strictest."""

    KILL_PROCESS = -0x80000000
    KILL_THREAD = 0x00000000
    TRAP = 0x00030000
    ERRNO = 0x00050000
    USER_NOTIF = 0x7FC00000
    TRACE = 0x7FF00000
    LOG = 0x7FFC0000
    ALLOW = 0x7FFF0000


_ACTIONS = frozenset(int(action) for action in Action)


@dataclass(frozen=True, slots=True)
class CallData:
    """A system call as a filter sees it (`struct seccomp_data`, always of 64-bit code).

    Attributes:
        number: of the call.
        arguments: the six argument registers, unsigned.
        instruction_pointer: load address behind the `syscall` instruction.
    """

    number: int
    arguments: tuple[int, ...]
    instruction_pointer: int

    def words(self) -> tuple[int, ...]:
        """Return the structure as sixteen 32-bit words."""
        arguments = [value & _MASK64 for value in (*self.arguments, 0, 0, 0, 0, 0, 0)[:6]]
        packed = _DATA.pack(self.number & _MASK32, ARCH_X86_64, self.instruction_pointer & _MASK64, *arguments)
        return struct.unpack("<16I", packed)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the filters of a thread say together.

    Attributes:
        action: what the kernel does.
        value: the low 16 bits that come with it: an error number, or data for a tracer.
    """

    action: Action
    value: int

    @property
    def passes(self) -> bool:
        """Whether the call is simply made."""
        return self.action in (Action.ALLOW, Action.LOG)

    def __str__(self) -> str:
        if self.action is Action.ERRNO:
            return f"ERRNO ({errno.errorcode.get(self.value, self.value)})"
        return self.action.name


@dataclass(slots=True)
class _Machine:
    """The registers of the classic BPF machine: 32-bit, unsigned."""

    words: tuple[int, ...]
    memory: list[int]
    a: int = 0
    x: int = 0

    def load(self, mode: int, k: int) -> int:
        """Return what a load instruction fetches."""
        if mode == _IMM:
            return k
        if mode == _MEM and k < _SLOTS:
            return self.memory[k]
        if mode == _LEN:
            return 4 * len(self.words)
        if mode == _ABS and k % 4 == 0 and k // 4 < len(self.words):
            return self.words[k // 4]
        raise FilterError(f"load of mode {mode:#x} at {k}")

    def store(self, k: int, value: int) -> None:
        """Put a register into a slot."""
        if k >= _SLOTS:
            raise FilterError(f"store into slot {k}")
        self.memory[k] = value

    def calculate(self, operation: int, operand: int) -> bool:
        """Change A; return False where the program ends with 0 (a division by zero)."""
        if operation == _NEG:
            self.a = -self.a & _MASK32
            return True
        if operation not in _ARITHMETIC:
            raise FilterError(f"arithmetic operation {operation:#x}")
        if operation == _DIV and operand == 0:
            return False
        self.a = _ARITHMETIC[operation](self.a, operand) & _MASK32
        return True


def decode(program: bytes) -> tuple[tuple[int, int, int, int], ...]:
    """Return the instructions of a filter: (code, jt, jf, k).

    Raises:
        FilterError: it is empty, too long, or not whole.
    """
    count, rest = divmod(len(program), INSTRUCTION.size)
    if rest or not 0 < count <= _INSTRUCTIONS_MAX:
        raise FilterError(f"a filter of {len(program)} bytes")
    return tuple(INSTRUCTION.iter_unpack(program))


def run(program: Sequence[tuple[int, int, int, int]], words: tuple[int, ...]) -> int:
    """Run one filter over `CallData.words()`; return the 32-bit number it answers.

    Raises:
        FilterError: an instruction the kernel would not accept, or the end was passed.
    """
    machine, position = _Machine(words, [0] * _SLOTS), 0
    while position < len(program):  # jumps only go forward, so this ends
        code, jump_true, jump_false, k = program[position]
        position += 1
        kind, operand = code & 7, machine.x if code & _X else k
        if kind == _RET:
            return _returned(code, machine, k)
        if kind == _JMP:
            position += k if code & 0xF0 == _JA else _branch(code, machine.a, operand, jump_true, jump_false)
        elif kind == _ALU:
            if not machine.calculate(code & 0xF0, operand):
                return 0
        else:
            _move(code, machine, k)
    raise FilterError("the program does not end")


def _returned(code: int, machine: _Machine, k: int) -> int:
    """Return what a return instruction answers."""
    if code & 0xF8 not in (0, _A):
        raise FilterError(f"return instruction {code:#x}")
    return machine.a if code & _A else k


def _branch(code: int, a: int, operand: int, jump_true: int, jump_false: int) -> int:
    """Return how far a conditional jump goes."""
    condition = _CONDITIONS.get(code & 0xF0)
    if condition is None:
        raise FilterError(f"jump instruction {code:#x}")
    return jump_true if condition(a, operand) else jump_false


def _move(code: int, machine: _Machine, k: int) -> None:
    """Do a load, a store, or a move between the registers."""
    kind = code & 7
    if kind in (_LD, _LDX):
        if code & 0x18 or (kind == _LDX and code & 0xE0 == _ABS):
            raise FilterError(f"load instruction {code:#x}")
        value = machine.load(code & 0xE0, k)
        if kind == _LD:
            machine.a = value
        else:
            machine.x = value
    elif kind in (_ST, _STX):
        machine.store(k, machine.a if kind == _ST else machine.x)
    elif code == _MISC | _TXA:
        machine.a = machine.x
    elif code == _MISC:
        machine.x = machine.a
    else:
        raise FilterError(f"instruction {code:#x}")


def answer(filters: Iterable[bytes], call: CallData) -> Answer:
    """Return what the filters of a thread, the newest first, say to a call: the strictest wins, no filter allows.

    An action this module does not know is KILL_PROCESS, as in the kernel.

    Raises:
        FilterError: a filter cannot be understood.
    """
    words = call.words()
    strictest = Answer(Action.ALLOW, 0)
    for program in filters:
        value = run(decode(program), words)
        number = value & _ACTION_MASK
        number -= 1 << 32 if number >= 1 << 31 else 0
        action = Action(number) if number in _ACTIONS else Action.KILL_PROCESS
        if action < strictest.action:
            strictest = Answer(action, value & _DATA_MASK)
    return strictest
