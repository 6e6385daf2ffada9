"""Whether a thread can stand at the end of a function and still be in it.

The end of a function is where the next one may begin, and addresses of functions are in registers and on stacks for
many reasons. As a return address or a program counter it belongs to the function only where its last instruction leaves
it there: a call that does not return, a system call, a trap. Told from the last bytes alone, and in doubt it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hotmend.linux.memory import ProcessMemory
from hotmend.live.gate import FunctionRecord
from hotmend.model.addresses import JUMP_BYTES
from hotmend.model.errors import KernelError

_TAIL_BYTES = 7
_CALL, _GROUP_5, _NEAR_CALL, _FAR_CALL, _NEAR_JUMP = 0xE8, 0xFF, 2, 3, 4
_JUMP, _SHORT_JUMP, _RETURN = 0xE9, 0xEB, 0xC3
_TRAPS = frozenset({0xCC, 0xF1})
_CALLS_OF_THE_KERNEL = frozenset({b"\x0f\x05", b"\x0f\x34"})
_INTERRUPT = 0xCD
_REGISTER, _SCALED, _NO_BASE = 3, 4, 5  # of the operand's form


def without_ends(memory: ProcessMemory, functions: Sequence[FunctionRecord]) -> list[FunctionRecord]:
    """Return the functions, one byte shorter where no thread that stands at their end is in them.

    Bytes that a redirected entry may have overwritten count as unknown.
    """
    tails = [min(_TAIL_BYTES, max(0, f.size - JUMP_BYTES)) for f in functions]
    ranges = [(f.address + f.size - tail, tail) for f, tail in zip(functions, tails, strict=True) if tail]
    try:
        content = bytes(memory.read_many(ranges))
    except KernelError:
        return list(functions)
    result, position = [], 0
    for function, tail in zip(functions, tails, strict=True):
        leaves = ends_elsewhere(content[position : position + tail])
        result.append(replace(function, size=function.size - 1) if leaves else function)
        position += tail
    return result


def ends_elsewhere(tail: bytes) -> bool:
    """Tell whether code certainly ends with a jump or a return, so that its end is no place to come back to.

    Args:
        tail: its last bytes, at most seven; one that is missing may be anything.
    """
    if len(tail) < _TAIL_BYTES - 1:
        return False
    kinds = {tail[1 - n] >> 3 & 7 for n in range(2, len(tail) + 1) if tail[-n] == _GROUP_5}
    possible = kinds | ({tail[0] >> 3 & 7} if len(tail) < _TAIL_BYTES else set())
    leaves = tail[-1] == _RETURN or tail[-2] == _SHORT_JUMP or tail[-5] == _JUMP or _is_indirect_jump(tail)
    return leaves and not (
        tail[-5] == _CALL
        or possible & {_NEAR_CALL, _FAR_CALL}
        or tail[-1] in _TRAPS
        or tail[-2] == _INTERRUPT
        or tail[-2:] in _CALLS_OF_THE_KERNEL
    )


def _is_indirect_jump(tail: bytes) -> bool:
    """Tell whether `ff /4` with all of its operand stands at the end."""
    for size in range(2, len(tail) + 1):
        code = tail[-size:]
        mod, kind, base = code[1] >> 6, code[1] >> 3 & 7, code[1] & 7
        if code[0] != _GROUP_5 or kind != _NEAR_JUMP:
            continue
        scaled = mod != _REGISTER and base == _SCALED
        last = code[2] & 7 if scaled and size > 2 else base
        displacement = 4 if mod == 2 or (mod == 0 and last == _NO_BASE) else int(mod == 1)
        if size == 2 + scaled + displacement:
            return True
    return False
