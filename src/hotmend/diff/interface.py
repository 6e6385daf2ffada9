"""Whether a changed function that code outside of the hotpatch calls expects more than before.

Other images go on to call it as the old build's header said: an argument that it newly
reads is what happens to lie in the register.
"""

from __future__ import annotations

from hotmend.diff.align import Aligned
from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding, blame
from hotmend.image.arguments import arguments_read
from hotmend.model.verdict import refusal

_SHOWN = 20


def judge_arguments(c: Correspondence, aligned: Aligned) -> list[Finding]:
    """Return a refusal for exported functions that read more arguments."""
    exported = c.new.image.exported_addresses & set(c.new.at)
    found: dict[int, str] = {}
    staying = c.staying()
    for i, j in sorted(c.pairs.items()):
        code = c.new.codes[j]
        if code.gap or i in staying or code.start not in exported:
            continue
        before, after = arguments_read(aligned.old(i)), arguments_read(aligned.new(j))
        if any(b > a for a, b in zip(before, after, strict=True)):
            found[j] = f"{code.label}: {_text(before)} -> {_text(after)}"
    if not found:
        return []
    reason = refusal(
        "argument-added",
        "a function that others call reads an argument that it did not read before; they may not hand it over",
        *list(found.values())[:_SHOWN],
    )
    return [blame(reason, found)]


def _text(read: tuple[int, int, int]) -> str:
    whole, vectors, stack = read
    parts = [f"{whole} in registers"]
    if vectors:
        parts.append(f"{vectors} in vector registers")
    if stack:
        parts.append(f"{stack} bytes on the stack")
    return ", ".join(parts)
