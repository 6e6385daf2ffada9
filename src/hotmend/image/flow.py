"""What a function does with an address: stores it, compares it, hands it to somebody.

Only a few instructions are followed, without a control flow graph; where that may miss something the rules that ask
are the ones that say so.
"""

from __future__ import annotations

from iced_x86 import FlowControl, Instruction, Mnemonic, OpKind, Register, RegisterExt

from hotmend.image.body import Body

_MEMORY, _REGISTER = int(OpKind.MEMORY), int(OpKind.REGISTER)
_RSP, _RBP = int(Register.RSP), int(Register.RBP)
_STORES = {
    getattr(Mnemonic, prefix + name)
    for prefix, names in (
        ("", ("MOV", "XCHG", "MOVD", "MOVQ", "MOVUPS", "MOVAPS", "MOVUPD", "MOVAPD", "MOVDQU", "MOVDQA")),
        ("V", ("MOVUPS", "MOVAPS", "MOVDQU", "MOVDQA")),
    )
    for name in names
}
_MOVES_ON = (Mnemonic.ADD, Mnemonic.SUB)
_FOLLOWED_MAX = 12


def reads_then_stores(body: Body, address: int, size: int, copiers: set[int]) -> bool:
    """Return whether a function stores what it takes from `[address, address + size)`, or the address itself.

    Followed are the next instructions only, up to a call or until the register is overwritten; stores to the
    function's own stack do not count, calls of `copiers` (PLT stubs or slots of memcpy and its like) do.
    """
    for n in body.taking(address, address + size):
        i = body.instructions[n]
        inside = i.is_ip_rel_memory_operand and address <= i.ip_rel_memory_address < address + size
        number = body.forms[n].number
        if number is not None and address <= number < address + size:
            if i.op0_kind == _MEMORY and i.memory_base not in (_RSP, _RBP):
                return True
            inside = True
        if not inside or i.op_count < 2 or i.op0_kind != _REGISTER:
            continue
        if _stored(body.instructions[n + 1 : n + 1 + _FOLLOWED_MAX], i, copiers):
            return True
    return False


def _stored(instructions: list[Instruction], taker: Instruction, copiers: set[int]) -> bool:
    whole = RegisterExt.full_register(taker.op0_register)
    for i in instructions:
        if i.flow_control in (FlowControl.CALL, FlowControl.INDIRECT_CALL):
            target = i.ip_rel_memory_address if i.is_ip_rel_memory_operand else i.near_branch_target
            return target in copiers
        if i.op_count >= 2 and i.op0_kind == _MEMORY and i.op1_kind == _REGISTER:
            stores = i.mnemonic in _STORES and RegisterExt.full_register(i.op1_register) == whole
            if stores and i.memory_base not in (_RSP, _RBP):
                return True
        if i.op_count and i.op0_kind == _REGISTER and RegisterExt.full_register(i.op0_register) == whole:
            if i.mnemonic in _MOVES_ON and i.op_count == 2 and i.op1_kind != _REGISTER:
                continue  # a place further on in the same object
            return False
    return False


def compares_address(body: Body, address: int) -> bool:
    """Return whether a function compares a register that it loaded with `address`, or an equal immediate."""
    return address in body.compared


def hands_over(body: Body, address: int, imports: set[int]) -> bool:
    """Return whether a function takes `address` by `lea` and then calls one of `imports` (PLT stubs or slots)."""
    for n in body.taking(address, address + 1):
        i = body.instructions[n]
        if i.mnemonic != Mnemonic.LEA or not i.is_ip_rel_memory_operand or i.ip_rel_memory_address != address:
            continue
        for later in body.instructions[n + 1 : n + 1 + _FOLLOWED_MAX]:
            if later.flow_control == FlowControl.CALL:
                if later.near_branch_target in imports:
                    return True
                break
            if later.flow_control == FlowControl.INDIRECT_CALL:
                if later.is_ip_rel_memory_operand and later.ip_rel_memory_address in imports:
                    return True
                break
            if later.flow_control == FlowControl.UNCONDITIONAL_BRANCH and later.near_branch_target in imports:
                return True
    return False
