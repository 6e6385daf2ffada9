"""Decode many functions at once with arrays: where each instruction begins and which class it has.

The functions are walked in step: one pass of array operations takes each of thousands of them one instruction further.
Long ones are entered at several places. Decoding that begins inside of an instruction soon falls into step with the
right one; where the walk from the function's start meets it, the rest of it counts, and what came before is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hotmend.image.heads import INSTRUCTION_BYTES_MAX, ODD, UNKNOWN, Heads, without_registers
from hotmend.image.image import Integers

_WINDOW_BYTES = 2 << 20
_STRIDE_BYTES = 256
_LEARNT_AT_ONCE = 64
_NOBODY = -1


@dataclass(frozen=True, slots=True)
class Swept:
    """Instructions of one window of functions.

    Attributes:
        code: index of the function of each instruction, as given to `sweep`.
        at: its offset in the memory.
        kind: its class.
        odd: functions that need plain decoding; none of their instructions is listed.
    """

    code: Integers
    at: Integers
    kind: Integers
    odd: frozenset[int]


def sweep(memory: NDArray[np.uint8], starts: Integers, ends: Integers, heads: Heads) -> Iterator[Swept]:
    """Decode functions window by window.

    Args:
        memory: what the functions lie in.
        starts: their offsets in it, ascending.
        ends: where they end; they do not overlap and none is empty.
        heads: what is known of instructions; it learns.
    """
    low = 0
    while low < len(starts):
        high = int(np.searchsorted(ends, starts[low] + _WINDOW_BYTES, "right"))
        high = max(high, low + 1)
        yield _Window(memory, starts[low:high], ends[low:high], heads).run(low)
        low = high


class _Window:
    """One stretch of memory that is walked at once."""

    def __init__(self, memory: NDArray[np.uint8], starts: Integers, ends: Integers, heads: Heads) -> None:
        self._heads = heads
        self._base = int(starts[0])
        size = int(ends[-1]) - self._base
        self._text = np.zeros(size + INSTRUCTION_BYTES_MAX + 1, np.uint8)
        self._text[:size] = memory[self._base : self._base + size]
        self._pairs = without_registers(self._text[:-1]).astype(np.uint16) | (self._text[1:].astype(np.uint16) << 8)
        self._make_lanes(starts - self._base, ends - self._base)
        count = len(self._lane_at)
        self._owner = np.full(size, _NOBODY, np.int32)
        self._joins = np.full(count, _NOBODY, np.int64)
        self._joins_at = np.zeros(count, np.int64)
        self._odd = np.zeros(count, np.bool_)
        self._lengths = np.zeros(0, np.int64)
        self._found: list[tuple[Integers, Integers, Integers]] = []

    def _make_lanes(self, starts: Integers, ends: Integers) -> None:
        """Enter each function at its start and at every further stride."""
        lanes = np.maximum((ends - starts + _STRIDE_BYTES // 2) // _STRIDE_BYTES, 1)
        self._first = np.cumsum(lanes) - lanes
        within = np.arange(int(lanes.sum())) - np.repeat(self._first, lanes)
        self._lane_code = np.repeat(np.arange(len(starts)), lanes)
        self._lane_at = np.repeat(starts, lanes) + within * _STRIDE_BYTES
        self._lane_end = np.repeat(ends, lanes)

    def run(self, first_code: int) -> Swept:
        lane = np.arange(len(self._lane_at))
        at = self._lane_at
        while len(lane):
            lane, at = self._step(lane, at)
        keep, odd_codes = self._true_lanes()
        lanes, places, kinds = (np.concatenate(column) for column in zip(*self._found, strict=True))
        good = places >= keep[lanes]
        code = self._lane_code[lanes[good]]
        places, kinds = places[good], kinds[good]
        if odd_codes:
            good = ~np.isin(code, np.array(sorted(odd_codes)))
            code, places, kinds = code[good], places[good], kinds[good]
        odd = frozenset(first_code + c for c in odd_codes)
        return Swept(code + first_code, places + self._base, kinds, odd)

    def _step(self, lane: Integers, at: Integers) -> tuple[Integers, Integers]:
        """Take each lane one instruction further; lanes that meet another one, or their end, are done."""
        owner = self._owner
        taken = owner[at]
        met = taken != _NOBODY
        if met.any():
            self._join(lane[met], taken[met], at[met])
            lane, at = lane[~met], at[~met]
        owner[at] = lane
        taken = owner[at]
        met = taken != lane
        if met.any():
            self._join(lane[met], taken[met], at[met])
            lane, at = lane[~met], at[~met]
        kind = self._classify(at, lane)
        after = at + self._lengths[kind]
        end = self._lane_end[lane]
        odd = (kind == ODD) | (after > end)
        if odd.any():
            self._odd[lane[odd]] = True
            good = ~odd
            lane, at, kind, after, end = lane[good], at[good], kind[good], after[good], end[good]
        self._found.append((lane, at, kind))
        on = after < end
        return lane[on], after[on]

    def _join(self, lane: Integers, other: Integers, at: Integers) -> None:
        self._joins[lane] = other
        self._joins_at[lane] = at

    def _classify(self, at: Integers, lane: Integers) -> Integers:
        """Return the class of the instruction at each place; learn what is new, few at a time since many are alike."""
        value = self._walk(at)
        new = np.nonzero(value == UNKNOWN)[0]
        while len(new):
            for n in new[:_LEARNT_AT_ONCE].tolist():
                place = int(at[n])
                end = min(place + INSTRUCTION_BYTES_MAX, int(self._lane_end[lane[n]]))
                value[n] = self._heads.learn(self._text[place:end].tobytes())
            new = new[_LEARNT_AT_ONCE:]
            value[new] = self._walk(at[new])
            new = new[value[new] == UNKNOWN]
        if len(self._lengths) != len(self._heads.classes):
            self._lengths = np.array([c.length for c in self._heads.classes], np.int64)
        return value

    def _walk(self, at: Integers) -> Integers:
        value: Integers = self._heads.root[self._pairs[at]]
        depth = 2
        deeper = np.nonzero(value < 0)[0]
        while len(deeper):
            found = self._heads.tree[-value[deeper], self._text[at[deeper] + depth]]
            value[deeper] = found
            deeper = deeper[found < 0]
            depth += 1
        return value

    def _true_lanes(self) -> tuple[Integers, set[int]]:
        """Return from where on the instructions of each lane count, and the functions with an odd one."""
        keep = np.full(len(self._lane_at), np.iinfo(np.int64).max, np.int64)
        keep[self._first] = self._lane_at[self._first]
        current = self._first
        odd: set[int] = set()
        while len(current):
            odd.update(self._lane_code[current[self._odd[current]]].tolist())
            current = current[self._joins[current] != _NOBODY]
            following = self._joins[current]
            keep[following] = self._joins_at[current]
            current = following
        return keep, odd
