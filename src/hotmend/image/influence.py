"""What a function does to the world while it runs, in which order, and whether what changed in it has a say in that.

A *deed* is a store to memory that outlives the call, a call or jump to another function, or a fence. A value *leaves*
the function before it returns by a deed: as what is stored, where, or as an argument. What only decides a branch, or is
returned, does not leave it so. Everything unclear counts as leaving: the own stack is one cell, which a call may read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from iced_x86 import FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, Register

from hotmend.image.body import Body, uses_frame_pointer
from hotmend.image.reach import reached
from hotmend.image.values import FULL
from hotmend.image.writes import lasting_writes

END = 0
"""Stands for the return among the deeds that may come next."""

DONE = -1
"""Stands for all nodes from which on no deed comes any more."""

_FACTORY = InstructionInfoFactory()
_RSP, _RBP = int(Register.RSP), int(Register.RBP)
_STACK_POINTERS = frozenset({_RSP, int(Register.ESP)})
_WRITES = frozenset(
    int(a) for a in (OpAccess.WRITE, OpAccess.COND_WRITE, OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE)
)
_READS = frozenset(int(a) for a in (OpAccess.READ, OpAccess.COND_READ, OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE))
_WHOLLY = int(OpAccess.WRITE)
_WIDE = range(int(Register.EAX), int(Register.R15) + 1)
"""Registers of 4 and 8 bytes: writing one replaces all of it."""

_CALLS = frozenset({int(FlowControl.CALL), int(FlowControl.INDIRECT_CALL)})
_JUMPS = frozenset({int(FlowControl.CONDITIONAL_BRANCH), int(FlowControl.UNCONDITIONAL_BRANCH)})
_ENDS = frozenset(
    int(f)
    for f in (
        FlowControl.RETURN,
        FlowControl.UNCONDITIONAL_BRANCH,
        FlowControl.INDIRECT_BRANCH,
        FlowControl.INTERRUPT,
        FlowControl.EXCEPTION,
    )
)
_DECISIONS = frozenset({int(FlowControl.CONDITIONAL_BRANCH), int(FlowControl.INDIRECT_BRANCH)})
_FENCES = frozenset(int(m) for m in (Mnemonic.MFENCE, Mnemonic.SFENCE, Mnemonic.LFENCE))


def _bits(*registers: int) -> int:
    """Return whole registers as bits of a number."""
    result = 0
    for register in registers:
        result |= 1 << FULL[register]
    return result


_FLAGS, _STACK = 1 << 300, 1 << 301
_VECTORS = _bits(*(int(Register.XMM0) + n for n in range(16)))
_ARGUMENTS = _bits(
    *(int(r) for r in (Register.RDI, Register.RSI, Register.RDX, Register.RCX, Register.R8, Register.R9, Register.R10)),
    *(int(Register.XMM0) + n for n in range(8)),
)
_RAX = _bits(int(Register.RAX))
_SCRATCH = _ARGUMENTS | _RAX | _VECTORS | _bits(int(Register.R11))


@dataclass(frozen=True, slots=True)
class Piece:
    """A function, or a part of one; sets hold indices of its instructions.

    Attributes:
        body: decoded.
        changed: no equal one in the other build stands for it.
        foreign: calls of other images, which leave no scratch register as it was.
        silent: calls that do nothing to the world.
        final: calls that do not return.
        cases: link addresses of own instructions that its jumps by a table lead to.
    """

    body: Body
    changed: frozenset[int]
    foreign: frozenset[int] = frozenset()
    silent: frozenset[int] = frozenset()
    final: frozenset[int] = frozenset()
    cases: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Node:
    """One instruction.

    Attributes:
        reads, writes, kills: registers and flags, as bits; kills: what is wholly replaced.
        loads, stacks, lasting: it reads memory, writes to the own stack, writes elsewhere.
        after: index of the next node; -1 at the end of the code, and where nothing comes back.
    """

    instruction: Instruction
    piece: Piece
    number: int
    flow: int
    reads: int
    writes: int
    kills: int
    loads: bool
    stacks: bool
    lasting: bool
    after: int

    @property
    def changed(self) -> bool:
        return self.number in self.piece.changed


class Conduct:
    """One function with its parts, and with what only it calls."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._nodes: list[_Node] = []
        self._at: dict[int, int] = {}
        self._entries = {int(piece.body.code.start) for piece in pieces}
        for piece in pieces:
            self._add(piece)

    def _add(self, piece: Piece) -> None:
        body = piece.body
        frame, lasting = uses_frame_pointer(body.instructions), set(lasting_writes(body))
        first, last = len(self._nodes), len(body.instructions) - 1
        for n, i in enumerate(body.instructions):
            self._at[i.ip] = first + n
            after = first + n + 1 if n < last and n not in piece.final else -1
            self._nodes.append(_node_of(i, piece, n, after, frame=frame, lasting=n in lasting))

    # --- the order of deeds -----------------------------------------------------------------------------

    def deeds(self) -> set[int]:
        """Return the addresses of instructions that are deeds."""
        return {node.instruction.ip for node in self._nodes if self._is_deed(node)}

    def following(self) -> dict[int, frozenset[int]]:
        """Return for each deed, and each entry, which deeds may come next, or `END`; by address.

        An entry is known by the negative of its address.
        """
        result = {-start: self._next([self._at[start]]) for start in self._entries if start in self._at}
        for node in self._nodes:
            if self._is_deed(node):
                ends = frozenset({END}) if self._leaves(node) else frozenset()
                result[node.instruction.ip] = ends | self._next(self._successors(node))
        return result

    def _next(self, starts: Sequence[int]) -> frozenset[int]:
        found: set[int] = set()
        seen, waiting = set(starts), list(starts)
        while waiting:
            node = self._nodes[waiting.pop()]
            if self._is_deed(node):
                found.add(node.instruction.ip)
                continue
            if node.flow == FlowControl.RETURN:
                found.add(END)
            for other in self._successors(node):
                if other not in seen:
                    seen.add(other)
                    waiting.append(other)
        return frozenset(found)

    def _is_deed(self, node: _Node) -> bool:
        if node.flow in _CALLS:
            return node.number not in node.piece.silent
        return node.lasting or self._leaves(node) or int(node.instruction.mnemonic) in _FENCES

    def _leaves(self, node: _Node) -> bool:
        """Return whether an instruction jumps to another function."""
        return node.flow in _JUMPS and node.instruction.near_branch_target not in self._at

    def _successors(self, node: _Node) -> list[int]:
        following = [] if node.flow in _ENDS or node.after < 0 else [node.after]
        if node.flow in _JUMPS:
            target = self._at.get(node.instruction.near_branch_target)
            following += [] if target is None else [target]
        elif node.flow == FlowControl.INDIRECT_BRANCH:
            following = [self._at[case] for case in node.piece.cases]
        return following

    # --- decisions --------------------------------------------------------------------------------------

    def advance(self, index: int) -> int | None:
        """Return the next deed or decision from a node on, as a node; `DONE` where no deed can come any more.

        Decisions in which something has a say that changed are passed over, if on all ways but one of them no deed
        comes any more: that one is taken. None where that is not so.
        """
        seen: set[int] = set()
        while index not in seen:
            seen.add(index)
            if index not in self._busy:
                return DONE
            node = self._nodes[index]
            if self._is_deed(node):
                return index
            ways = self._successors(node)
            if node.flow in _DECISIONS:
                if not self._is_changed_decision(index):
                    return index
                ways = [way for way in ways if way in self._busy]
            if len(set(ways)) != 1:
                return None
            index = ways[0]
        return DONE

    @cached_property
    def _busy(self) -> set[int]:
        """The nodes from which on a deed may come."""
        before: dict[int, list[int]] = defaultdict(list)
        for index, node in enumerate(self._nodes):
            for following in self._successors(node):
                before[following].append(index)
        deeds = [index for index, node in enumerate(self._nodes) if self._is_deed(node)]
        return reached(deeds, lambda index: before.get(index, ()))

    def _is_changed_decision(self, index: int) -> bool:
        node, state = self._nodes[index], self._influences[index]
        return node.changed or bool(state & (node.reads | _FLAGS))

    def node(self, address: int) -> int:
        """Return the node of an instruction."""
        return self._at[address]

    def address(self, index: int) -> int:
        """Return the address of a node."""
        return self._nodes[index].instruction.ip

    def ways(self, index: int) -> list[int]:
        """Return the nodes that may come behind one: for a decision what follows each answer, in a fixed order."""
        return self._successors(self._nodes[index])

    @property
    def entries(self) -> list[int]:
        """Nodes at which functions begin that are called from here."""
        called = (self._own(node) for node in self._nodes if node.flow in _CALLS)
        return sorted({own for own in called if own is not None})

    # --- the say of what changed ------------------------------------------------------------------------

    def leaving(self) -> list[int]:
        """Return the addresses of deeds that changed, or that something has a say in which changed; sorted."""
        states = self._influences
        return sorted(
            node.instruction.ip
            for node, state in zip(self._nodes, states, strict=True)
            if self._is_deed(node) and (node.changed or self._given(node, state))
        )

    @cached_property
    def _influences(self) -> list[int]:
        """What is influenced before each instruction, as bits."""
        states = [0] * len(self._nodes)
        waiting = list(range(len(states)))
        while waiting:
            index = waiting.pop()
            for following, after in self._pass(self._nodes[index], states[index]):
                if after | states[following] != states[following]:
                    states[following] |= after
                    waiting.append(following)
        return states

    def _given(self, node: _Node, state: int) -> bool:
        """Return whether a deed is given something influenced."""
        if node.flow in _CALLS and self._own(node) is not None:
            return False  # its own deeds tell
        given = node.reads
        if node.flow in _CALLS or self._leaves(node):
            given |= _ARGUMENTS | _STACK
        if node.instruction.mnemonic == Mnemonic.SYSCALL:
            given |= _RAX
        return bool(state & given) or (node.loads and bool(state & _STACK))

    def _own(self, node: _Node) -> int | None:
        """Return the node at which an own function begins that is called."""
        target = node.instruction.near_branch_target if node.flow == FlowControl.CALL else END
        return self._at[target] if target in self._entries and target in self._at else None

    def _pass(self, node: _Node, state: int) -> Iterator[tuple[int, int]]:
        """Yield the instructions that follow one, and what is influenced before each of them."""
        if node.flow in _CALLS:
            own = self._own(node)
            if own is not None:
                yield own, state & (_ARGUMENTS | _STACK)
                state |= _SCRATCH
            elif node.number in node.piece.foreign:
                state &= ~(_SCRATCH | _FLAGS)
        elif node.changed or state & node.reads or (node.loads and state & _STACK):
            state |= node.writes | (_STACK if node.stacks else 0)
        else:
            state &= ~node.kills
        for following in self._successors(node):
            yield following, state


def _node_of(i: Instruction, piece: Piece, number: int, after: int, *, frame: bool, lasting: bool) -> _Node:
    """Return what an instruction does; the stack pointer counts as no value."""
    info = _FACTORY.info(i)
    reads = writes = kills = 0
    for used in info.used_registers():
        register, access = int(used.register), int(used.access)
        if FULL[register] == _RSP:
            continue
        if access in _READS:
            reads |= _bits(register)
        if access in _WRITES:
            writes |= _bits(register)
            if access == _WHOLLY and register in _WIDE:
                kills |= _bits(register)
    if i.rflags_read and i.flow_control != FlowControl.CONDITIONAL_BRANCH:
        reads |= _FLAGS
    if i.rflags_modified:
        writes |= _FLAGS
    memory = info.used_memory()
    bases = {int(m.base) for m in memory if int(m.access) in _WRITES}
    stacks = not lasting and (bool(bases & _STACK_POINTERS) or (frame and _RBP in bases))
    loads = any(int(m.access) in _READS for m in memory)
    return _Node(i, piece, number, int(i.flow_control), reads, writes, kills, loads, stacks, lasting, after)
