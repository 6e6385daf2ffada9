"""Source line numbers in code: numbers that a call gets together with the name of a source file.

The name often waits in a register or in a slot of the frame while several calls use it, so that registers are followed
along all ways through the function.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from functools import cached_property

from iced_x86 import Decoder, FlowControl, Instruction, Mnemonic, OpKind, Register, RegisterExt

from hotmend.image.forms import Form, forms_of
from hotmend.image.references import Survey
from hotmend.image.values import FULL

_SOURCE_FILE = re.compile(rb"[\w./+@-]{1,200}\.(?:c|cc|cpp|cxx|c\+\+|C|h|hh|hpp|hxx|inc|inl|def|y|l|m|mm|rs)\0")
_LINE_MAX = 1_000_000
_IN_ORDER = tuple(int(r) for r in (Register.RDI, Register.RSI, Register.RDX, Register.RCX, Register.R8, Register.R9))
_ARGUMENTS = frozenset(_IN_ORDER)
_NAME_BEFORE = dict(zip(_IN_ORDER[1:], _IN_ORDER[:-1], strict=True))
"""The argument that holds the file's name: right before the number. Any other number is a size, a code, a limit."""

_PRESERVED = frozenset(
    int(r) for r in (Register.RBX, Register.RBP, Register.R12, Register.R13, Register.R14, Register.R15)
)
"""Registers that a callee leaves as they are (System V ABI, figure 3.4)."""

_READERS = frozenset({Mnemonic.CMP, Mnemonic.TEST, Mnemonic.PUSH, Mnemonic.BT, Mnemonic.NOP})
"""Instructions that only read their first operand."""

_REGISTER, _NEAR, _MEMORY = int(OpKind.REGISTER), int(OpKind.NEAR_BRANCH64), int(OpKind.MEMORY)
_NONE, _RSP = int(Register.NONE), int(Register.RSP)
_LEA, _MOV, _IMMEDIATE32 = int(Mnemonic.LEA), int(Mnemonic.MOV), int(OpKind.IMMEDIATE32)
_FOLLOWED_MAX = 24
_NUMBER_BYTES, _NAME_BYTES = 4, 256
_ENDS = (FlowControl.RETURN, FlowControl.INDIRECT_BRANCH, FlowControl.CONDITIONAL_BRANCH, FlowControl.INTERRUPT)
_CALLS = (FlowControl.CALL, FlowControl.INDIRECT_CALL)


class NumberedCalls:
    """A decoded function, and what its instructions hand to calls as a line number.

    Attributes:
        start: its link address.
        instructions: all of them.
    """

    def __init__(self, survey: Survey, index: int, twin: NumberedCalls | None = None) -> None:
        """Decode code `index`.

        Args:
            survey: of its build.
            index: which code.
            twin: a code that differs from it in what `mov` puts into registers and in where references lead.
        """
        self.survey = survey
        self._twin = twin
        code = survey.codes[index]
        self.start = int(code.start)
        self.instructions: list[Instruction] = list(Decoder(64, survey.bytes_of(index), ip=code.start))
        self.forms: list[Form] = twin.forms if twin else forms_of(self.instructions, survey.without_places(index))
        self.at = {i.ip: n for n, i in enumerate(self.instructions)}

    @cached_property
    def files(self) -> list[dict[int, bytes]]:
        """For each instruction, which registers hold the name of a source file before it, whichever way led there.

        Slots of the frame count as registers below zero: compilers keep the name there between calls.
        """
        if self._twin is not None and self._twin.names == self.names:
            return self._twin.files
        before: list[dict[int, bytes] | None] = [None] * len(self.instructions)
        work = [(0, dict[int, bytes]())]
        while work:
            n, held = work.pop()
            known = before[n]
            merged = held if known is None else {r: f for r, f in known.items() if held.get(r) == f}
            if merged == known:
                continue
            before[n] = merged
            after = self._after(n, merged)
            work += [(k, after) for k in self._successors(n)]
        return [held or {} for held in before]

    def _after(self, n: int, held: dict[int, bytes]) -> dict[int, bytes]:
        i = self.forms[n]
        if i.flow_control in _CALLS:
            return {r: f for r, f in held.items() if r in _PRESERVED or r < 0}
        if i.mnemonic in _READERS:
            return held
        if i.stack_pointer_increment or i.written == _RSP:
            return {r: f for r, f in held.items() if r >= 0}
        written = i.written or _slot_of(i, 0)
        after = {r: f for r, f in held.items() if r != written} if written in held else held
        file = self.names.get(n)
        if i.mnemonic == Mnemonic.MOV and i.op_count == 2 and written:
            file = held.get(FULL[i.op1_register] if i.op1_kind == _REGISTER else _slot_of(i, 1), file)
        return after if file is None else after | {written: file}

    def _successors(self, n: int) -> list[int]:
        form = self.forms[n]
        flow = form.flow_control
        result = []
        if flow in (FlowControl.UNCONDITIONAL_BRANCH, FlowControl.CONDITIONAL_BRANCH) and form.op0_kind == _NEAR:
            target = self.at.get(self.instructions[n].near_branch_target)
            result = [] if target is None else [target]
        if flow == FlowControl.INDIRECT_BRANCH:
            return self._unannounced
        ends = (FlowControl.UNCONDITIONAL_BRANCH, FlowControl.RETURN)
        return result + ([n + 1] if flow not in ends and n + 1 < len(self.instructions) else [])

    @cached_property
    def _unannounced(self) -> list[int]:
        """Instructions that nothing leads to but the indirect jumps of the function."""
        reached = {k for n, i in enumerate(self.forms) if i.flow_control != FlowControl.INDIRECT_BRANCH
                   for k in self._successors(n)}  # fmt: skip
        return [n for n in range(1, len(self.instructions)) if n not in reached]

    @cached_property
    def names(self) -> dict[int, bytes]:
        """The names of source files whose address an instruction loads, by its index."""
        found = {}
        for n, form in enumerate(self.forms):
            if form.mnemonic == _LEA and form.is_ip_rel_memory_operand:
                address = self.instructions[n].ip_rel_memory_address
            elif form.mnemonic == _MOV and form.op_count == 2 and form.op1_kind == _IMMEDIATE32:
                address = self.instructions[n].immediate32
            else:
                continue
            text = _SOURCE_FILE.match(self.survey.image.read(address, _NAME_BYTES))
            if text:
                found[n] = text[0]
        return found

    def line_at(self, n: int) -> tuple[bytes, int, int] | None:
        """Return (file name, argument register, number) where instruction `n` sets a line number, else None."""
        i = self.instructions[n]
        register = _argument(i)
        if register is None or not 0 < i.immediate32 < _LINE_MAX:
            return None
        file = self._file_of_call(n, register)
        return None if file is None else (file, register, int(i.immediate32))

    def numbers_at(self, offsets: Iterable[int]) -> list[int] | None:
        """Return the instructions whose numbers stand at these offsets of the function, ascending.

        None where something else stands at one of them than the number that an argument register is set to.
        """
        ends = [int(i.next_ip) - self.start for i in self.instructions]
        found: dict[int, None] = {}
        for offset in sorted(offsets):
            n = bisect_right(ends, offset)
            if n == len(ends) or offset < ends[n] - _NUMBER_BYTES or _argument(self.instructions[n]) is None:
                return None
            found[n] = None
        return list(found)

    def _file_of_call(self, n: int, register: int) -> bytes | None:
        """Return the source file that the call gets which instruction `n` sets an argument for."""
        for _ in range(_FOLLOWED_MAX):
            n += 1
            if n >= len(self.instructions):
                return None
            i = self.instructions[n]
            leaves = i.flow_control == FlowControl.UNCONDITIONAL_BRANCH and i.near_branch_target not in self.at
            if i.flow_control in _CALLS or leaves:
                return self.files[n].get(_NAME_BEFORE.get(register, _NONE))
            if i.flow_control in _ENDS:
                return None
            if i.flow_control == FlowControl.UNCONDITIONAL_BRANCH:
                n = self.at[i.near_branch_target] - 1
            elif self.forms[n].written == register and i.mnemonic not in _READERS:
                return None
        return None


def _argument(i: Instruction) -> int | None:
    """Return the argument register that `mov $number, %register` sets, or None."""
    if i.mnemonic != Mnemonic.MOV or i.op0_kind != _REGISTER or i.op1_kind != OpKind.IMMEDIATE32:
        return None
    register = int(RegisterExt.full_register(i.op0_register))
    return register if register in _ARGUMENTS else None


def _slot_of(i: Form, operand: int) -> int:
    """Return a number below zero for a slot of the function's frame that an operand names, or 0."""
    plain = i.kinds[operand : operand + 1] == (_MEMORY,) and i.memory_base == _RSP and i.memory_index == _NONE
    return -1 - i.memory_displacement if plain and i.memory_displacement < 1 << 31 else 0
