"""Whether a changed function that code outside of the hotpatch calls expects more than before.

Other images go on to call it as the old build's header said: an argument that it newly
reads is what happens to lie in the register.
"""

from __future__ import annotations

from hotmend.diff.align import Aligned
from hotmend.diff.compare import Contents
from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding, blame
from hotmend.image.arguments import arguments_read
from hotmend.image.references import ABSOLUTE, LEA
from hotmend.model.addresses import LinkAddress
from hotmend.model.verdict import refusal

_SHOWN = 20
_ALL = 6
_LEVELS = 2


def judge_arguments(c: Correspondence, aligned: Aligned) -> list[Finding]:
    """Return a refusal for exported functions that read more arguments."""
    exported = c.new.image.exported_addresses & set(c.new.at)
    found: dict[int, str] = {}
    exports = {symbol.name: symbol.value for symbol in c.old.image.exports.values()}
    staying = c.staying()
    for i, j in sorted(c.pairs.items()):
        code = c.new.codes[j]
        if code.gap or i in staying or code.start not in exported:
            continue
        after = arguments_read(aligned.new(j))
        if not _more(arguments_read(aligned.old(i)), after):
            continue
        before = _may_read(c, aligned, exports, i, _LEVELS)
        if _more(before, after):
            found[j] = f"{code.label}: {_text(before)} -> {_text(after)}"
    if not found:
        return []
    reason = refusal(
        "argument-added",
        "a function that others call reads an argument that it did not read before; they may not hand it over",
        *list(found.values())[:_SHOWN],
    )
    return [blame(reason, found)]


def judge_pointed(contents: Contents, aligned: Aligned, shadow: set[int]) -> list[Finding]:
    """Return refusals for a part of an update where functions that are called by pointers read more arguments.

    Who calls them is not known: it may stay old, and hand over what they read before. In the whole of an update all
    callers of the image change with them. For the same reason no function that calls by pointers goes in beside them.
    What an old version only hands on does not count as read: nothing says that its caller means it.

    Args:
        contents: compared objects, with the correspondence.
        aligned: bodies of changed functions.
        shadow: new codes of the whole update.
    """
    c = contents.c
    found: dict[int, str] = {}
    for i, j in sorted(c.pairs.items()):
        code = c.old.codes[i]
        if j not in shadow or code.gap or not _is_pointed_to(contents, code.start):
            continue
        before, after = arguments_read(aligned.old(i)), arguments_read(aligned.new(j))
        if _more(before, after):
            found[j] = f"{c.new.codes[j].label}: {_text(before)} -> {_text(after)}"
    if not found:
        return []
    sentence = "functions called by pointers read arguments that they did not read before; their callers may stay old"
    findings = [blame(refusal("argument-added", sentence, *list(found.values())[:_SHOWN]), found)]
    callers = {j: c.new.codes[j].label for j in sorted(shadow - found.keys()) if _calls_by_pointer(c, aligned, j)}
    if callers:
        sentence = "nothing shows that these functions are not part of the change that the others make"
        findings.append(blame(refusal("part-not-proven", sentence, *callers.values()), callers))
    return findings


def _is_pointed_to(contents: Contents, start: LinkAddress) -> bool:
    """Return whether the address of an old function is kept in data, or taken by code."""
    taken = any(kind in (LEA, ABSOLUTE) for _, kind in contents.old.references_to(start))
    return taken or bool(contents.old.words_to(start, 1))


def _calls_by_pointer(c: Correspondence, aligned: Aligned, j: int) -> bool:
    """Return whether a new function calls, or jumps to, what a register or an object holds."""
    for instruction in aligned.new(j).instructions:
        if not (instruction.is_call_near_indirect or instruction.is_jmp_near_indirect):
            continue
        if not (instruction.is_ip_rel_memory_operand and instruction.ip_rel_memory_address in c.new.image.slots):
            return True
    return False


def _more(before: tuple[int, int, int], after: tuple[int, int, int]) -> bool:
    return any(b > a for a, b in zip(before, after, strict=True))


def _may_read(
    c: Correspondence, aligned: Aligned, exports: dict[str, LinkAddress], i: int, levels: int
) -> tuple[int, int, int]:
    """Return the most that an old function may read: what it hands on to others counts as far as they read it."""
    body = aligned.old(i)

    def handed_on(n: int) -> int:
        instruction = body.instructions[n]
        near = not instruction.is_ip_rel_memory_operand
        target = instruction.near_branch_target if near else instruction.ip_rel_memory_address
        if body.code.start <= target < body.code.end:
            return 0
        slot = c.old.image.slots.get(c.old_plt.get(target, target))
        callee = c.old.at.get(exports.get(slot.name, -1) if slot is not None else target, -1)
        if callee < 0 or levels == 0:
            return _ALL
        return _may_read(c, aligned, exports, callee, levels - 1)[0]

    return arguments_read(body, handed_on)


def _text(read: tuple[int, int, int]) -> str:
    whole, vectors, stack = read
    parts = [f"{whole} in registers"]
    if vectors:
        parts.append(f"{vectors} in vector registers")
    if stack:
        parts.append(f"{stack} bytes on the stack")
    return ", ".join(parts)
