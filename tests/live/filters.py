"""Seccomp filters for live targets, put together from rules."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hotmend.linux.seccomp import INSTRUCTION, Action

MMAP, MPROTECT, RT_SIGRETURN, RESTART_SYSCALL = 9, 10, 15, 219
PROT_EXEC = 4
_LOAD, _RETURN, _JUMP_EQUAL, _AND = 0x20, 0x06, 0x15, 0x54


@dataclass(frozen=True, slots=True)
class Rule:
    """One answer to one system call.

    Attributes:
        number: of the call.
        action: with its value in the low 16 bits.
        argument: which argument has to have all bits of `mask`; None: the call as such.
        mask: 32 bits.
    """

    number: int
    action: int
    argument: int | None = None
    mask: int = 0


def _code(operation: int, k: int, jump_true: int = 0, jump_false: int = 0) -> bytes:
    return INSTRUCTION.pack(operation, jump_true, jump_false, k & 0xFFFFFFFF)


def make_filter(*rules: Rule, otherwise: int = Action.ALLOW) -> bytes:
    """Return the program that answers by the first rule that fits."""
    program = b""
    for rule in rules:
        test = b""
        if rule.argument is not None:
            test = _code(_LOAD, 16 + 8 * rule.argument) + _code(_AND, rule.mask) + _code(_JUMP_EQUAL, rule.mask, 0, 1)
        body = test + _code(_RETURN, rule.action)
        program += _code(_LOAD, 0) + _code(_JUMP_EQUAL, rule.number, 0, len(body) // 8) + body
    return program + _code(_RETURN, otherwise)


def from_one_place(number: int, address: int, action: int) -> bytes:
    """Return the program that answers `action` to a call unless it comes from `address`."""
    low, high = struct.unpack("<II", struct.pack("<Q", address))
    return (
        _code(_LOAD, 0)
        + _code(_JUMP_EQUAL, number, 0, 4)
        + _code(_LOAD, 8)
        + _code(_JUMP_EQUAL, low, 0, 3)
        + _code(_LOAD, 12)
        + _code(_JUMP_EQUAL, high, 0, 1)
        + _code(_RETURN, Action.ALLOW)
        + _code(_RETURN, action)
    )


MEMORY_DENY_WRITE_EXECUTE = make_filter(
    Rule(MMAP, Action.ERRNO | 1, argument=2, mask=6),
    Rule(MPROTECT, Action.ERRNO | 1, argument=2, mask=PROT_EXEC),
    Rule(329, Action.ERRNO | 1, argument=2, mask=PROT_EXEC),
    Rule(30, Action.ERRNO | 1, argument=2, mask=0o100000),
)
"""What systemd's `MemoryDenyWriteExecute=` installs: mmap writable and executable, mprotect and pkey_mprotect
to executable, shmat executable."""
