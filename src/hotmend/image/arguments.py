"""Which argument registers and stack arguments a function reads."""

from __future__ import annotations

from collections.abc import Callable

from iced_x86 import FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register, RegisterExt

from hotmend.image.body import Body, uses_frame_pointer
from hotmend.image.loops import successors

_WHOLE = tuple(int(getattr(Register, r)) for r in ("RDI", "RSI", "RDX", "RCX", "R8", "R9"))
_VECTORS = tuple(int(getattr(Register, f"XMM{n}")) for n in range(8))
_READS = frozenset(int(a) for a in (OpAccess.READ, OpAccess.COND_READ, OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE))
_CLEARS = frozenset(int(getattr(Mnemonic, n)) for n in ("XOR", "SUB", "PXOR", "XORPS", "XORPD", "PCMPEQD"))
_RSP, _RBP, _NONE, _REGISTER, _MEMORY = (
    int(Register.RSP),
    int(Register.RBP),
    int(Register.NONE),
    int(OpKind.REGISTER),
    int(OpKind.MEMORY),
)
_LEAVES = (FlowControl.CALL, FlowControl.INDIRECT_CALL, FlowControl.UNCONDITIONAL_BRANCH, FlowControl.INDIRECT_BRANCH)
_STEPS_MAX = 4000
_WORD_BYTES = 8


def arguments_read(body: Body, handed_on: Callable[[int], int] = lambda _: 0) -> tuple[int, int, int]:
    """Return how many integer arguments, vector arguments and bytes of stack arguments a function reads at least.

    Counted is up to the last register that is read before it is written, on any way from the entry to a call.

    Args:
        body: the function.
        handed_on: how many integer arguments the call of an instruction index takes; those that were not written
            since the entry are handed on as they came.
    """
    factory = InstructionInfoFactory()
    following = successors(body)
    found: set[int] = set()
    seen: set[tuple[int, frozenset[int]]] = set()
    work: list[tuple[int, frozenset[int]]] = [(0, frozenset())] if body.instructions else []
    while work and len(seen) < _STEPS_MAX:
        state = work.pop()
        if state in seen:
            continue
        seen.add(state)
        n, written = state
        i = body.instructions[n]
        read, wrote = _registers(factory, i)
        found |= read - written
        if i.flow_control in _LEAVES:
            found |= set(_WHOLE[: handed_on(n)]) - written
        if i.flow_control not in (FlowControl.CALL, FlowControl.INDIRECT_CALL):
            work += [(other, written | wrote) for other in following[n]]
    whole = max((n + 1 for n, r in enumerate(_WHOLE) if r in found), default=0)
    vectors = max((n + 1 for n, r in enumerate(_VECTORS) if r in found), default=0)
    return whole, vectors, _stack_arguments(body)


def _registers(factory: InstructionInfoFactory, i: Instruction) -> tuple[set[int], frozenset[int]]:
    """Return the argument registers that an instruction reads, and those that it writes."""
    read: set[int] = set()
    wrote: set[int] = set()
    for used in factory.info(i).used_registers():
        register = int(RegisterExt.full_register(used.register))
        if register not in _WHOLE:
            number = int(used.register) - int(Register.XMM0)
            if not 0 <= number < len(_VECTORS):
                continue
            register = _VECTORS[number]
        if int(used.access) in _READS and not _clears(i):
            read.add(register)
        if int(used.access) not in (int(OpAccess.READ), int(OpAccess.COND_READ), int(OpAccess.COND_WRITE)):
            wrote.add(register)
    return read, frozenset(wrote)


def _clears(i: Instruction) -> bool:
    """`xor r, r` reads nothing."""
    if int(i.mnemonic) not in _CLEARS:
        return int(i.mnemonic) == int(Mnemonic.NOP)
    kinds = [int(i.op_kind(n)) for n in range(i.op_count)]
    return kinds == [_REGISTER, _REGISTER] and int(i.op0_register) == int(i.op1_register)


def _stack_arguments(body: Body) -> int:
    """Return up to which byte of what its caller pushed a function reads, before it first takes its frame down."""
    frame = uses_frame_pointer(body.instructions)
    depth = most = 0
    for i in body.instructions:
        if i.mnemonic in (Mnemonic.POP, Mnemonic.LEAVE) or i.flow_control == FlowControl.RETURN:
            break
        if any(i.op_kind(n) == _MEMORY for n in range(i.op_count)):
            base, displacement = int(i.memory_base), i.memory_displacement
            if base == _RSP and i.mnemonic == Mnemonic.LEA:
                pass  # It may be the end of the frame; off the frame pointer, what lies above belongs to the caller.
            elif base == _RSP and int(i.memory_index) == _NONE and displacement < 1 << 31:
                most = max(most, displacement - depth)
            elif base == _RBP and frame and displacement < 1 << 31:
                most = max(most, displacement - _WORD_BYTES)
        if i.mnemonic == Mnemonic.PUSH:
            depth += _WORD_BYTES
        elif i.mnemonic in (Mnemonic.SUB, Mnemonic.ADD) and i.op0_kind == _REGISTER and int(i.op0_register) == _RSP:
            if i.op1_kind == OpKind.REGISTER:
                break
            depth += int(i.immediate(1)) if i.mnemonic == Mnemonic.SUB else -int(i.immediate(1))
    return most
