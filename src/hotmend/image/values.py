"""What is known of registers and stack slots at one point of a function, and what meets at a label."""

from __future__ import annotations

from collections.abc import Set
from typing import Any, NamedTuple, cast

from iced_x86 import Register, RegisterExt

from hotmend.image.facts import Location, Use

FULL = [int(RegisterExt.full_register(cast("Any", n))) for n in range(int(Register.TMM7) + 1)]
"""Number of a register -> number of the widest register that holds it."""

BYTES = [RegisterExt.size(cast("Any", n)) for n in range(len(FULL))]
"""Number of a register -> its bytes."""

_ARGUMENTS = tuple(int(getattr(Register, r)) for r in ("RDI", "RSI", "RDX", "RCX", "R8", "R9"))
_LOST_IN_CALLS = tuple(int(getattr(Register, r)) for r in ("RAX", "RCX", "RDX", "RSI", "RDI", "R8", "R9", "R10", "R11"))
_CONSTANTS_MAX = 4


class Value(NamedTuple):
    """What is known of a value.

    Attributes:
        location: where it was loaded from.
        constants: what it may be.
        address: which address of the image it is.
        scale: it is a multiple of this many bytes.
        last: the last operation with a constant on something unknown.
        taken: the kind of thing that a call has just returned, -1 for none.
    """

    location: Location | None = None
    constants: tuple[int, ...] = ()
    address: int | None = None
    scale: int = 1
    last: tuple[Use, int] | None = None
    taken: int = -1


UNKNOWN = Value()

Slot = tuple[int, int]
"""Base register (rsp or rbp) and displacement of a word of the function's own stack."""


Arriving = dict[int, dict[int, Value]]
"""Address of a label -> what is known of the registers there."""


class State:
    """Registers and slots while a function is read forward, once.

    In the first round, a loop that only branches from further down lead into is passed over: nothing in it is merged
    with what is known, so that the second round can begin it with what these branches arrive with.

    Attributes:
        backward: what branches to instructions further up arrive with.
        arriving: what branches to instructions further down arrive with.
        lost: such beginnings of loops.
    """

    def __init__(self, rounds: Arriving | None = None, heads: Set[int] = frozenset()) -> None:
        self.backward: Arriving = {}
        self.lost: set[int] = set()
        self._rounds, self._heads = rounds or {}, heads
        self._asleep = False
        self._registers: dict[int, Value] = {r: Value(("argument", r)) for r in _ARGUMENTS}
        self._slots: dict[Slot, Value] = {}
        self.arriving: Arriving = {}

    def register(self, register: int) -> Value:
        """Return what any part of a register holds."""
        return self._registers.get(FULL[register], UNKNOWN)

    def set_register(self, register: int, value: Value) -> None:
        """Record that a register was set."""
        self._registers[FULL[register]] = value

    def slot(self, slot: Slot) -> Value:
        """Return what a stack slot holds."""
        return self._slots.get(slot, UNKNOWN)

    def set_slot(self, slot: Slot, value: Value) -> None:
        """Record that a stack slot was set."""
        self._slots[slot] = value

    def call(self) -> None:
        """A called function leaves nothing in the registers that are its own."""
        for register in _LOST_IN_CALLS:
            self._registers.pop(register, None)

    def branch(self, source: int, target: int) -> None:
        """Remember what arrives at a label."""
        if self._asleep:
            return
        arriving = self.arriving if target > source else self.backward
        known = arriving.get(target)
        arriving[target] = dict(self._registers) if known is None else _merge(known, self._registers)

    def label(self, address: int, *, through: bool) -> bool:
        """Take what arrives at an instruction: by branches, and (`through`) from the one before it.

        Returns:
            Whether anything is known to lead there.
        """
        arriving = self.arriving.pop(address, None)
        if arriving is not None:
            self._registers = _merge(self._registers, arriving) if through and not self._asleep else arriving
            self._asleep = False
        elif not through:
            self._registers = dict(self._rounds.get(address, {}))
            self._asleep = address in self._heads and address not in self._rounds
            if self._asleep:
                self.lost.add(address)
            return address in self._rounds
        return True


def _merge(a: dict[int, Value], b: dict[int, Value]) -> dict[int, Value]:
    """Keep what both ways agree upon; constants may be either way's."""
    result: dict[int, Value] = {}
    for register, value in a.items():
        other = b.get(register)
        if other == value:
            result[register] = value
        elif other is not None and value.constants and other.constants:
            either = sorted({*value.constants, *other.constants})[:_CONSTANTS_MAX]
            result[register] = Value(constants=tuple(either))
    return result
