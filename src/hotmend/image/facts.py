"""What a function says about the values that it finds in memory: widths, constants, bits, strides."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

Location = tuple[str, int]
"""`("at", address)`, `("member", displacement)`, or `("argument", register)` for what a caller hands over."""

Locate = Callable[[int], int | None]
"""Turns an address of the image into one that both builds share, None where it is not known."""

Literal = Callable[[int, int], int | None]
"""Turns (address, bytes) into the number that always stands there, None where somebody may change it."""

Dealing = Callable[[int], tuple[bool, int] | None]
"""Says of a call at an instruction index whether it takes (True) or gives back, and a thing of which kind."""

Passes = Callable[[int], bool]
"""Says of a call at an instruction index whether it returns what it is handed first."""


class Use(StrEnum):
    """What is done with a value. The number of a fact is the constant, the bytes accessed, or the distance."""

    INTEGER = "read as an integer of bytes"
    FLOAT = "read as a floating-point number of bytes"
    STORE = "set to"
    WRITE = "written with bytes"
    EQUAL = "compared for equality with"
    ORDER = "compared for order with"
    MASK = "masked with"
    CLEAR = "cleared but for"
    SET_BITS = "combined by or with"
    FLIP = "combined by exclusive or with"
    SHIFT = "shifted by"
    ADD = "added to"
    MULTIPLY = "multiplied by"
    POINTER = "used as a pointer"
    INDEX = "used as an index times"
    STRIDE = "reached in steps of"
    TAKEN = "holds what was taken by a call of kind"
    GIVEN = "given back by a call of kind"


WITH_CONSTANT = frozenset({Use.STORE, Use.EQUAL, Use.ORDER, Use.ADD})
"""Uses whose number is a constant that could be an address."""


class Fact(NamedTuple):
    """One use of one location by instruction `at` (an index into the body)."""

    at: int
    location: Location
    use: Use
    number: int
