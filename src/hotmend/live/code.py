"""Is the code in memory what the old build has? Compared before anything is planned."""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from hotmend.linux.memory import ProcessMemory
from hotmend.live.gate import Shadow
from hotmend.live.needs import Refusal, Target
from hotmend.live.registry import observe_entry, read_entries
from hotmend.model.addresses import JUMP_BYTES, PAGE_BYTES
from hotmend.model.verdict import Reason, refusal

_BREAKPOINT = 0xCC


class _Original:
    """Code as the old build has it: entries that one of our headers owns are put back in the copy."""

    def __init__(self, memory: ProcessMemory, shadows: Sequence[Shadow]) -> None:
        entries = [entry for shadow in shadows for entry in shadow.record.entries]
        contents = read_entries(memory, entries)
        written = {
            entry.address: entry.build_bytes[:JUMP_BYTES]
            for entry, content in zip(entries, contents, strict=True)
            if observe_entry(entry, content) in ("stub", "new")
        }
        self._memory = memory
        self._addresses = sorted(written)
        self._bytes = [written[address] for address in self._addresses]

    def read(self, start: int, size: int) -> bytes | None:
        """Return the code of a range; None where it cannot be read. A short function's jump reaches behind it."""
        raw = self._memory.try_read(start, size)
        if raw is None:
            return None
        content = bytearray(raw)
        low = bisect_right(self._addresses, start - JUMP_BYTES)
        high = bisect_left(self._addresses, start + size)
        for address, original in zip(self._addresses[low:high], self._bytes[low:high], strict=True):
            first, last = max(address, start), min(address + JUMP_BYTES, start + size)
            content[first - start : last - start] = original[first - address : last - address]
        return bytes(content)


def check_code(target: Target, memory: ProcessMemory, shadows: Sequence[Shadow]) -> tuple[Reason, ...]:
    """Compare every function to be replaced, and every entry, with what memory holds; return the differences."""
    bias, differing, trapped = target.image.bias, [], []
    own = [s for s in shadows if s.record.old_bias == bias and s.record.old_build_id == target.image.build_id]
    original = _Original(memory, own)
    for function in target.hotpatch.replaced:
        content = original.read(bias + function.old.start, function.old.size)
        if content is None or hashlib.sha256(content).hexdigest() != function.sha256:
            differing.append(function.name)
    for entry in target.hotpatch.redirections:
        if (bias + entry.old) % PAGE_BYTES > PAGE_BYTES - JUMP_BYTES:
            raise Refusal(refusal("entry-crosses-page", f"the entry of {entry.name} crosses a page boundary"))
        content = original.read(bias + entry.old, len(entry.entry))
        if content is not None and content[0] == _BREAKPOINT != entry.entry[0]:
            trapped.append(entry.name)
        elif content != entry.entry and entry.name not in differing:
            differing.append(entry.name)
    reasons = []
    if trapped:
        reasons.append(
            refusal(
                "breakpoint-at-entry",
                f"{target.hotpatch.name}: a breakpoint or uprobe stands on a function to be replaced; remove it first",
                *trapped,
            )
        )
    if differing := [name for name in differing if name not in trapped]:
        reasons.append(
            refusal(
                "code-differs",
                f"{target.hotpatch.name}: the code in memory is not what build {target.image.build_id} has; "
                "something else has changed it",
                *differing,
            )
        )
    return tuple(reasons)
