"""What an instruction says about the declarations it was compiled from: offsets, widths, steps, masks, constants."""

from __future__ import annotations

from iced_x86 import Mnemonic, Register

from hotmend.image.body import Body
from hotmend.image.forms import Form

_NONE, _RSP = int(Register.NONE), int(Register.RSP)
_VECTORS = range(int(Register.XMM0), int(Register.ZMM31) + 1)

_PLAIN = (0, 1)
"""Numbers that are yes, no and none, and the step of every count; -1 is one of them."""

_BITS = {"AND", "OR", "XOR", "TEST", "SHL", "SHR", "SAR", "ROL", "ROR", "IMUL", "BEXTR", "BT", "BTC", "BTR", "BTS"}
_MEANS_BITS = frozenset(int(getattr(Mnemonic, name)) for name in _BITS)
"""Operations for which one is a bit or a distance like any other."""

_NEEDS_ALIGNMENT = frozenset(
    int(getattr(Mnemonic, prefix + name))
    for name in ("MOVAPS", "MOVAPD", "MOVDQA", "MOVNTDQ", "MOVNTPS", "MOVNTPD", "MOVNTDQA")
    for prefix in ("", "V")
) | {int(Mnemonic.VMOVDQA32), int(Mnemonic.VMOVDQA64)}
"""They fault where the place is not aligned (Intel SDM, volume 1, 4.1.1)."""

Word = tuple[object, ...]
"""What one instruction says about declarations; empty where it says nothing."""


def words_of(body: Body) -> set[Word]:
    """Return all that a function says about declarations."""
    return {word_of(body, n, form) for n, form in enumerate(body.forms)}


def word_of(body: Body, n: int, form: Form) -> Word:
    """Return what instruction `n` of a function says."""
    return (*operand_of(body, n, form), *number_of(form))


def operand_of(body: Body, n: int, form: Form) -> Word:
    """Return what the memory operand of an instruction says: offset, size, step, kind."""
    vector = any(register in _VECTORS for register in form.registers)
    word: list[object] = []
    if member := body.members.get(n):
        word += ["member", member.displacement, member.access, max(member.scale, 1), vector]
    elif form.memory and form.memory_index != _NONE:
        word += ["element", form.memory_index_scale, form.width]
    elif form.memory and form.is_ip_rel_memory_operand:
        word += ["variable", form.width, vector]
    if word and form.mnemonic in _NEEDS_ALIGNMENT:
        word.append("aligned")
    return tuple(word)


def number_of(form: Form) -> Word:
    """Return the operation and its constant; nothing for the stack pointer and for numbers that anybody uses.

    Whether a number is compared at once or loaded into a register first is the compiler's choice.
    """
    if _is_doubling(form):
        return (int(Mnemonic.SHL), 1)
    plain = form.number is None or moves_stack(form) or _is_plain(form)
    operation = int(Mnemonic.MOV) if form.mnemonic == Mnemonic.CMP else form.mnemonic
    return () if plain else (operation, form.constant)


def moves_stack(form: Form) -> bool:
    """Return whether an instruction only makes room on the stack, or gives it back."""
    return form.written == _RSP


def is_step(form: Form) -> bool:
    """Return whether an instruction multiplies, as one does that goes from element to element."""
    scaled = form.memory_index != _NONE and form.memory_index_scale > 1
    return scaled or form.mnemonic in (Mnemonic.IMUL, Mnemonic.SHL) or _is_doubling(form)


def _is_doubling(form: Form) -> bool:
    return form.mnemonic == Mnemonic.ADD and form.kinds[1:] == form.kinds[:1] and form.op0_register == form.op1_register


def _is_plain(form: Form) -> bool:
    number = form.constant or 0
    minus_one = number == (1 << 8 * form.room) - 1
    return number == 0 or ((number in _PLAIN or minus_one) and form.mnemonic not in _MEANS_BITS)


def means_bits(form: Form) -> bool:
    """Return whether an instruction has a mask or a distance of bits."""
    return form.mnemonic in _MEANS_BITS and form.number is not None
