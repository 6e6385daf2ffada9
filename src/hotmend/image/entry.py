"""Copy the first instructions of a function so that they mean the same elsewhere.

Five bytes at an entry make room for a jump; the instructions they hold move into a stub. Addresses relative to
the instruction pointer become relocations, short branches become long ones, and a call becomes a push of the
old return address and a jump, so that no frame ever returns into a stub.
"""

from __future__ import annotations

from dataclasses import dataclass

from iced_x86 import ConstantOffsets, Decoder, FlowControl, Instruction, Mnemonic, OpKind, Register, RflagsBits

from hotmend.model.addresses import JUMP_BYTES, LinkAddress

_ENTRY_MAX = 64
_RSP, _REGISTER = int(Register.RSP), int(OpKind.REGISTER)
_CONDITIONS = {
    getattr(Mnemonic, name): number
    for number, name in enumerate(
        ("JO", "JNO", "JB", "JAE", "JE", "JNE", "JBE", "JA", "JS", "JNS", "JP", "JNP", "JL", "JGE", "JLE", "JG")
    )
}
"""Mnemonic -> the low four bits of the conditional jump's opcode (Intel SDM, appendix B.1.4.7)."""


@dataclass(frozen=True, slots=True)
class Field:
    """A 4-byte field of displaced code that is relative to its own place.

    Attributes:
        offset: of the field in the code.
        target: old link address it leads to, or None for the return address literal.
        tail: bytes from the field to the end of its instruction.
    """

    offset: int
    target: LinkAddress | None
    tail: int


@dataclass(frozen=True, slots=True)
class Displaced:
    """The instructions of an entry, ready to stand elsewhere.

    Attributes:
        size: bytes of the entry that they cover.
        code: their copy.
        fields: what has to be relocated in it.
        returns_to: the return address a displaced call pushes, else None.
        continues: control goes on behind the entry.
    """

    size: int
    code: bytes
    fields: tuple[Field, ...]
    returns_to: LinkAddress | None
    continues: bool


class Immovable(Exception):
    """The entry cannot be displaced; the message says why."""


def displace(text: bytes, start: LinkAddress, branch_targets: set[int]) -> Displaced:
    """Copy the instructions in the first five bytes of `text`, the bytes of a function at `start`.

    Args:
        text: the function and the padding behind it.
        start: its link address in the old image.
        branch_targets: where branches of the whole image's code lead, as far as they lead here.

    Raises:
        Immovable: with the reason.
    """
    if any(start < t < start + JUMP_BYTES for t in branch_targets):
        raise Immovable("a branch leads into the first five bytes")
    copier = _Copier(start)
    decoder = Decoder(64, text[:_ENTRY_MAX], ip=start)
    used = 0
    while used < JUMP_BYTES:
        i = decoder.decode()
        if i.is_invalid:
            raise Immovable("the first instructions cannot be decoded")
        if not copier.continues:
            if i.mnemonic not in (Mnemonic.NOP, Mnemonic.INT3) and text[i.ip - start] != 0xCC:
                raise Immovable("the function is shorter than five bytes and no padding follows")
        else:
            raw = text[i.ip - start : i.next_ip - start]
            copier.add(i, raw, decoder.get_constant_offsets(i))
        used = i.next_ip - start
    if start in branch_targets and copier.reads_flags:
        raise Immovable("a branch leads to the entry with live flags")
    return Displaced(used, bytes(copier.code), tuple(copier.fields), copier.returns_to, copier.continues)


class _Copier:
    def __init__(self, start: int) -> None:
        self.start = start
        self.code = bytearray()
        self.fields: list[Field] = []
        self.returns_to: LinkAddress | None = None
        self.continues = True
        self.reads_flags = False
        self._written = 0

    def add(self, i: Instruction, raw: bytes, offsets: ConstantOffsets) -> None:
        """Append the copy of one instruction."""
        self.reads_flags |= bool(i.rflags_read & ~self._written & ~int(RflagsBits.DF))
        self._written |= i.rflags_modified
        flow = i.flow_control
        if flow == FlowControl.NEXT:
            self._plain(i, raw, offsets)
        elif flow == FlowControl.RETURN:
            self._plain(i, raw, offsets)
            self.continues = False
        elif flow in (FlowControl.UNCONDITIONAL_BRANCH, FlowControl.CONDITIONAL_BRANCH):
            self._branch(i, flow)
        elif flow == FlowControl.INDIRECT_BRANCH:
            self._plain(i, raw, offsets)
            self.continues = False
        elif flow == FlowControl.CALL and i.is_call_near:  # a system call is a call to the decoder
            self._push_return(i)
            self._jump(i.near_branch_target)
        elif flow == FlowControl.INDIRECT_CALL:
            self._indirect_call(i, raw, offsets)
        elif flow in (FlowControl.INTERRUPT, FlowControl.EXCEPTION):
            self._plain(i, raw, offsets)
        else:
            raise Immovable("the first instructions cannot stand elsewhere")

    def _plain(self, i: Instruction, raw: bytes, offsets: ConstantOffsets) -> None:
        at = len(self.code)
        self.code += raw
        if i.is_ip_rel_memory_operand:
            offset = offsets.displacement_offset
            self.fields.append(Field(at + offset, LinkAddress(i.ip_rel_memory_address), i.len - offset))
            self.code[at + offset : at + offset + 4] = bytes(4)

    def _branch(self, i: Instruction, flow: int) -> None:
        if flow == FlowControl.UNCONDITIONAL_BRANCH:
            self._jump(i.near_branch_target)
            return
        if not (i.is_jcc_short or i.is_jcc_near):
            raise Immovable("a loop instruction stands at the entry")
        self.code += b"\x0f" + bytes([0x80 | _CONDITIONS[i.mnemonic]])
        self.fields.append(Field(len(self.code), LinkAddress(i.near_branch_target), 4))
        self.code += bytes(4)

    def _jump(self, target: int) -> None:
        self.code += b"\xe9"
        self.fields.append(Field(len(self.code), LinkAddress(target), 4))
        self.code += bytes(4)
        self.continues = False

    def _push_return(self, i: Instruction) -> None:
        if i.next_ip < self.start + JUMP_BYTES:
            raise Immovable("a call returns into the first five bytes")
        self.code += b"\xff\x35"  # push literal(%rip)
        self.fields.append(Field(len(self.code), None, 4))
        self.code += bytes(4)
        self.returns_to = LinkAddress(i.next_ip)

    def _indirect_call(self, i: Instruction, raw: bytes, offsets: ConstantOffsets) -> None:
        uses_stack = _RSP in (i.memory_base, i.memory_index)
        if uses_stack or (i.op0_kind == _REGISTER and i.op0_register == _RSP):
            raise Immovable("a call through the stack pointer stands at the entry")
        self._push_return(i)
        at = raw.index(b"\xff")
        modrm = raw[at + 1]
        if (modrm >> 3 & 7) != 2:
            raise Immovable("a far call stands at the entry")
        copy = raw[: at + 1] + bytes([modrm & 0xC7 | 4 << 3]) + raw[at + 2 :]
        self._plain(i, copy, offsets)
        self.continues = False
