"""Whether a function writes to memory that outlives it."""

from __future__ import annotations

from iced_x86 import Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register

from hotmend.image.body import Body, uses_frame_pointer

_MEMORY = int(OpKind.MEMORY)
_STACK = (int(Register.RSP), int(Register.ESP))
_RBP, _NONE = int(Register.RBP), int(Register.NONE)
_WRITES = frozenset(
    int(a) for a in (OpAccess.WRITE, OpAccess.COND_WRITE, OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE)
)
_STRINGS = frozenset(int(getattr(Mnemonic, n)) for n in ("STOSB", "STOSD", "STOSQ", "STOSW", "MOVSB", "MOVSQ", "MOVSW"))


def writes_memory(body: Body) -> bool:
    """Return whether a function writes anywhere but to its own stack."""
    frame = uses_frame_pointer(body.instructions)
    return any(_written(i) and not _own(i, frame=frame) for i in body.instructions)


def lasting_writes(body: Body) -> list[int]:
    """Return the indices of instructions that write anywhere but to the function's own stack."""
    frame = uses_frame_pointer(body.instructions)
    return [n for n, i in enumerate(body.instructions) if _written(i) and not _own(i, frame=frame)]


def writes_to(body: Body, address: int) -> bool:
    """Return whether a function writes to the variable at `address`, or takes its address and may write."""
    for n in body.taking(address, address + 1):
        i = body.instructions[n]
        if i.is_ip_rel_memory_operand:
            if i.ip_rel_memory_address == address and (i.mnemonic == Mnemonic.LEA or _written(i)):
                return True
        elif i.memory_displacement == address and int(i.memory_base) == _NONE and _written(i):
            return True
        elif any(_number(i, k) == address for k in range(i.op_count)):
            return True  # the address itself, in an image that is loaded at fixed addresses
    return False


def _number(i: Instruction, n: int) -> int:
    kind = int(i.op_kind(n))
    return int(i.immediate(n)) if OpKind.IMMEDIATE8 <= kind <= OpKind.IMMEDIATE32TO64 else -1


def _written(i: Instruction) -> bool:
    if int(i.mnemonic) in _STRINGS:
        return True
    if not any(i.op_kind(n) == _MEMORY for n in range(i.op_count)):
        return False
    return any(int(m.access) in _WRITES for m in InstructionInfoFactory().info(i).used_memory())


def _own(i: Instruction, *, frame: bool) -> bool:
    return int(i.memory_base) in _STACK or (frame and int(i.memory_base) == _RBP)
