"""Which changed functions may belong to a change of lasting values that is seen in others.

Where a structure, an element or the meaning of a value changed, a rule sees it in some functions and blames those.
Others may be compiled from the same declarations without showing it: a loop that steps by another size, a test of
another bit, eight bytes that are taken for a floating-point number. For a part of an update it is not enough that no
rule blames a function. It has to be seen that it goes by the old declarations: whatever sizes, offsets, masks, steps
and constants it uses, its old version used them for the same kind of thing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from iced_x86 import Mnemonic, Register

from hotmend.diff.align import Aligned
from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding, blame
from hotmend.diff.groups import Groups
from hotmend.image.body import Body, calls_by_instruction, tail_calls
from hotmend.image.forms import Form
from hotmend.image.lines import NumberedCalls
from hotmend.model.verdict import refusal

_OF_STATE = frozenset({
    "contents-may-be-copied", "element-changed", "initial-value-changed", "locking-changed",
    "member-added", "new-thread-local", "object-grew", "offsets-changed", "ownership-changed", "state-encoding-changed",
    "structure-layout-changed", "tls-layout-changed", "types-changed", "variable-replaced", "variable-never-set",
})  # fmt: skip
"""Refusals after which declarations of lasting values may differ from those that the process was filled by.

A structure that is only allocated larger grew at its end; who uses that end is blamed by the rule itself.
"""

_AT_START = frozenset({"start-only-code", "registered-at-start"})
"""Refusals for code that has run and does not run again."""

_NONE, _RSP, _RBP = int(Register.NONE), int(Register.RSP), int(Register.RBP)
_VECTORS = range(int(Register.XMM0), int(Register.ZMM31) + 1)
_LARGE_MIN = 1 << 32
_PLAIN = (0, 1)
"""Numbers that are yes, no and none, and the step of every count; -1 is one of them."""

_MEANS_BITS = frozenset(
    int(getattr(Mnemonic, name)) for name in dir(Mnemonic)
    if name in {"AND", "OR", "XOR", "TEST", "SHL", "SHR", "SAR", "ROL", "ROR", "IMUL", "BEXTR"} or name[:2] == "BT"
)  # fmt: skip
"""Operations for which one is a bit or a distance like any other."""

_NEEDS_ALIGNMENT = frozenset(
    int(getattr(Mnemonic, prefix + name))
    for name in ("MOVAPS", "MOVAPD", "MOVDQA", "MOVNTDQ", "MOVNTPS", "MOVNTPD", "MOVNTDQA")
    for prefix in ("", "V")
) | {int(Mnemonic.VMOVDQA32), int(Mnemonic.VMOVDQA64)}
"""They fault where the place is not aligned (Intel SDM, volume 1, 4.1.1)."""

_Word = tuple[object, ...]


def judge_doubts(
    c: Correspondence, aligned: Aligned, groups: Groups, shadow: set[int], causes: list[Finding]
) -> list[Finding]:
    """Return refusals that blame the functions of a part that are not seen to go by the old declarations.

    Args:
        c: the correspondence.
        aligned: bodies of changed functions.
        groups: which of them are patched together; a group may move a piece of code from one function to another.
        shadow: new codes that are to be patched.
        causes: refusals that make others stay old.
    """
    codes = {f.reason.code for f in causes}
    doubted: set[int] = set()
    if codes & _OF_STATE:
        doubted = _with_other_words(c, aligned, groups, shadow)
    if codes & _AT_START and _begin_calls(c, aligned, causes):
        doubted = set(shadow)
    if not doubted:
        return []
    names = [c.new.codes[j].label for j in sorted(doubted)]
    sentence = "nothing shows that these functions are not part of the change that the others make"
    return [blame(refusal("part-not-proven", sentence, *names), doubted)]


def _with_other_words(c: Correspondence, aligned: Aligned, groups: Groups, shadow: set[int]) -> set[int]:
    """Return the codes that use something their old versions, and what was moved into them, did not use."""
    origin = {j: i for i, j in c.pairs.items()} | {j: i for i, j in c.staying().items()}
    lent: dict[int, set[_Word]] = {}
    for removed, code in enumerate(c.old.codes):
        if not code.gap and c.partner(removed) < 0:
            lent.setdefault(groups.root(-1 - removed), set()).update(_words(aligned.old(removed)))
    doubted = set()
    for j in shadow:
        i = origin.get(j, -1)
        after = aligned.new(j)
        if i >= 0 and not c.old.codes[i].gap:
            before = aligned.old(i)
            strange = _strange(after, _words(before) | lent.get(groups.root(j), set()))
            strange |= _changed(before, after, aligned.pairs(i, j))
        else:
            siblings = {origin[k] for k in shadow if k in origin and groups.root(k) == groups.root(j)}
            bodies = [aligned.old(k) for k in siblings if not c.old.codes[k].gap]
            strange = _strange(after, lent.get(groups.root(j), set()).union(*map(_words, bodies)))
        if strange - _lines(c, j, strange):
            doubted.add(j)
    return doubted


def _strange(after: Body, known: set[_Word]) -> set[int]:
    """Return the instructions of a new function that say something that is not known."""
    return {n for n, form in enumerate(after.forms) if (word := _word_of(after, n, form)) and word not in known}


def _changed(before: Body, after: Body, pairs: list[tuple[int, int]]) -> set[int]:
    """Return the new instructions that say something else than the old ones they stand for.

    A mask or a distance of bits counts wherever nothing old stands for it: two bits may have changed places.
    """
    old_of = {n: m for m, n in pairs}
    result = set()
    for n, form in enumerate(after.forms):
        m = old_of.get(n)
        if m is None:
            if form.mnemonic in _MEANS_BITS and form.number is not None:
                result.add(n)
        elif _word_of(before, m, before.forms[m]) != _word_of(after, n, form):
            result.add(n)
    return result


def _words(body: Body) -> set[_Word]:
    """Return all that a function says about declarations."""
    return {_word_of(body, n, form) for n, form in enumerate(body.forms)}


def _word_of(body: Body, n: int, form: Form) -> _Word:
    """Return what an instruction says about declarations: offsets, sizes, steps, masks, constants; () for none."""
    word: list[object] = []
    vector = any(register in _VECTORS for register in form.registers)
    member = body.members.get(n)
    if member is not None:
        word += ["member", member.displacement, member.access, max(member.scale, 1), vector]
    elif form.memory and form.memory_index != _NONE:
        word += ["element", form.memory_index_scale, form.width]
    elif form.memory and form.is_ip_rel_memory_operand:
        word += ["variable", form.width, vector]
    if word and form.mnemonic in _NEEDS_ALIGNMENT:
        word.append("aligned")
    if form.number is not None and form.written != _RSP and not _plain(form):
        word += [form.mnemonic, form.constant]
    return tuple(word)


def _plain(form: Form) -> bool:
    number = form.constant or 0
    minus_one = number == (1 << 8 * form.room) - 1
    return number == 0 or ((number in _PLAIN or minus_one) and form.mnemonic not in _MEANS_BITS)


def _lines(c: Correspondence, j: int, suspected: Iterable[int]) -> set[int]:
    """Return which of the instructions only set the number of a source line."""
    if not suspected:
        return set()
    calls = NumberedCalls(c.new, j)
    return {n for n in suspected if calls.line_at(n) is not None}


def _begin_calls(c: Correspondence, aligned: Aligned, causes: list[Finding]) -> bool:
    """Return whether code that has run begins to call something: what that would have set up is not known."""
    origin = {j: i for i, j in c.pairs.items()}
    blamed = set().union(*(f.blamed or frozenset() for f in causes if f.reason.code in _AT_START))
    for j in blamed:
        i = origin.get(j)
        before = _callees(c, aligned.old(i), new=False) if i is not None else set()
        if set(_callees(c, aligned.new(j), new=True)) - set(before):
            return True
    return False


def _callees(c: Correspondence, body: Body, *, new: bool) -> Iterator[object]:
    """Yield what a function calls: an address of the old build, or what the image imports, or a new address."""
    for target in (calls_by_instruction(body) | tail_calls(body)).values():
        mapped = c.to_old.get(target) if new else None
        plt = c.new_plt if new else c.old_plt
        image = c.new.image if new else c.old.image
        slot = image.slots.get(plt.get(target, target))
        yield slot.name if slot is not None else mapped.old if mapped is not None else target
