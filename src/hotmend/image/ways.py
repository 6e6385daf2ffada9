"""By which ways a function goes on elsewhere: through pointers, by tables, as a thread that begins, behind its end."""

from __future__ import annotations

from iced_x86 import FlowControl, Mnemonic, Register

from hotmend.image.body import Body, calls_by_instruction, tail_calls
from hotmend.image.code import padding_length
from hotmend.image.references import Survey

_RDX = frozenset(int(r) for r in (Register.RDX, Register.EDX, Register.DX, Register.DL))
_NONE = int(Register.NONE)
_FOLLOWED_MAX = 12
_TABLE_STEPS_MAX = 3
_DISTANCE_BYTES = 4
_LOWEST = 0x10000
"""Below this address nothing is mapped."""


def goals(body: Body) -> dict[int, int]:
    """Return for each call, and each jump out of a code, where it goes; 0 where a register or memory says so."""
    inside = range(body.code.start, body.code.end)
    jumps = {
        n: i.near_branch_target
        for n, i in enumerate(body.instructions)
        if i.flow_control == FlowControl.CONDITIONAL_BRANCH and i.near_branch_target not in inside
    }
    return calls_by_instruction(body) | tail_calls(body) | jumps


def pointer_jumps(body: Body) -> list[int]:
    """Return the indices of jumps through a register or memory, by tables or not."""
    return [n for n, i in enumerate(body.instructions) if i.flow_control == FlowControl.INDIRECT_BRANCH]


def pointers_followed(body: Body) -> list[int]:
    """Return where the pointers are that a function calls, or jumps to, but for tables; 0 where that is not known."""
    calls = [n for n, i in enumerate(body.instructions) if i.flow_control == FlowControl.INDIRECT_CALL]
    found = calls + [n for n in pointer_jumps(body) if not is_switch(body, n)]
    instructions = (body.instructions[n] for n in found)
    return [i.ip_rel_memory_address if i.is_ip_rel_memory_operand else 0 for i in instructions]


def falls_through(body: Body) -> bool:
    """Return whether a code may go on in what stands behind it."""
    ends = (FlowControl.RETURN, FlowControl.UNCONDITIONAL_BRANCH, FlowControl.INDIRECT_BRANCH)
    return not body.instructions or body.instructions[-1].flow_control not in ends


def runs_on(body: Body) -> bool:
    """Return whether a code is written so that it goes on in what stands behind it, as assembler of several entries is.

    What compilers end a function with that never gets so far is none: a call that does not return, a trap, an access to
    what is nowhere.
    """
    if not body.instructions:
        return False
    form = body.forms[-1]
    if form.flow_control == FlowControl.CONDITIONAL_BRANCH:
        return True
    nowhere = form.memory and form.memory_base == _NONE and form.memory_index == _NONE and form.displacement < _LOWEST
    return form.flow_control == FlowControl.NEXT and form.mnemonic != Mnemonic.HLT and not nowhere


def code_behind(survey: Survey, index: int) -> int:
    """Return the index of the code that another one runs on into, over padding or not; -1 where it does not."""
    if index + 1 >= len(survey.codes):
        return -1
    end, start = survey.codes[index].end, survey.codes[index + 1].start
    between = survey.image.read(end, start - end)
    return index + 1 if padding_length(between) == len(between) and runs_on(Body(survey, index)) else -1


def begins_threads(body: Body, address: int, begin: set[int]) -> bool:
    """Return whether each taking of an address puts it into rdx, which the next call hands to `pthread_create`."""
    taken = body.taking(address, address + 1)
    for n in taken:
        i = body.instructions[n]
        if i.mnemonic != Mnemonic.LEA or not i.is_ip_rel_memory_operand or int(i.op0_register) not in _RDX:
            return False
        if not _next_call_is(body, n, begin):
            return False
    return len(taken) > 0


def _next_call_is(body: Body, n: int, begin: set[int]) -> bool:
    following = range(n + 1, min(n + 1 + _FOLLOWED_MAX, len(body.instructions)))
    for i, form in ((body.instructions[k], body.forms[k]) for k in following):
        if i.flow_control == FlowControl.CALL:
            return i.near_branch_target in begin
        if i.flow_control == FlowControl.INDIRECT_CALL:
            return bool(form.is_ip_rel_memory_operand) and i.ip_rel_memory_address in begin
        uses = {*form.registers, form.memory_base, form.memory_index}
        if i.flow_control != FlowControl.NEXT or uses & _RDX:
            return False
    return False


def follows_distances(body: Body) -> bool:
    """Return whether a code adds a 4-byte distance from a table to where the table is, and does not jump there."""
    forms = body.forms
    for n, form in enumerate(forms):
        if form.mnemonic != Mnemonic.MOVSXD or form.memory_index_scale != _DISTANCE_BYTES or not form.memory:
            continue
        pair = {form.written, form.memory_base}
        for m in range(n + 1, min(n + 1 + _TABLE_STEPS_MAX, len(forms))):
            if pair == {forms[m].memory_base, forms[m].memory_index}:
                return True
            if forms[m].mnemonic == Mnemonic.ADD and pair == set(forms[m].registers[:2]):
                after = forms[m + 1 : m + 1 + _TABLE_STEPS_MAX]
                if all(f.flow_control != FlowControl.INDIRECT_BRANCH for f in after):
                    return True
    return False


def is_switch(body: Body, n: int) -> bool:
    """Return whether a jump through a register goes by a table of distances: the base was added just before."""
    i = body.instructions[n]
    if body.forms[n].memory or int(i.op0_register) == _NONE:
        return False
    before = body.instructions[max(0, n - _TABLE_STEPS_MAX) : n]
    adds = [b for b in before if b.mnemonic == Mnemonic.ADD and b.op0_register == i.op0_register]
    return any(int(b.op1_register) != _NONE for b in adds)
