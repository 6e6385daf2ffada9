"""What a patcher that died left in a process, finished or undone. Neither needs haste, a stack check or a file.

The gate decides which: 0 and some entries lead to stubs, they get their old bytes back; 1 and some entries still go
through their stubs, they become direct jumps. Nothing reaches a shadow that was not completed: it stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from hotmend.linux.memory import ProcessMemory
from hotmend.linux.process import MappedImage, process_images
from hotmend.live.audit import recorded
from hotmend.live.gate import HeaderRecord, Shadow
from hotmend.live.machine import State, Step, state_of, steps_to_repair
from hotmend.live.needs import Refusal
from hotmend.live.plan import read_shadows
from hotmend.live.registry import observe
from hotmend.live.work import ProcessResult, Work
from hotmend.model.addresses import PAGE_BYTES
from hotmend.model.verdict import refusal

Group = tuple[HeaderRecord, ...]
"""The headers that share one gate, the one that has it first."""


def gate_groups(shadows: Iterable[Shadow]) -> tuple[Group, ...]:
    """Return the complete shadows by update."""
    groups: dict[int, list[HeaderRecord]] = {}
    for shadow in shadows:
        if shadow.placed:
            groups.setdefault(shadow.record.gate, []).append(shadow.record)
    return tuple(
        tuple(sorted(group, key=lambda r: (not r.header <= gate < r.header + PAGE_BYTES, r.header)))
        for gate, group in groups.items()
    )


def find_leftovers(
    memory: ProcessMemory, groups: Iterable[Group], shadows: Sequence[Shadow]
) -> list[tuple[Group, Step]]:
    """Return the updates that stand in the middle of something, and the step that ends it.

    Raises:
        Refusal: an entry holds what no step writes.
    """
    found = []
    for group in groups:
        seen = observe(memory, group, placed=True, shadows=shadows)
        if state_of(seen) is State.DAMAGED:
            raise Refusal(
                refusal("entry-changed-meanwhile", f"process {memory.pid}: entries of {group[0].name} hold other code")
            )
        found += [(group, step) for step in steps_to_repair(seen)]
    return found


def end_leftovers(
    work: Work, memory: ProcessMemory, images: tuple[MappedImage, ...], left: Sequence[tuple[Group, Step]]
) -> None:
    """Do the steps.

    Raises:
        NotNowError: no safe moment until the deadline; what is left is as harmless as before.
    """
    for group, step in left:
        recorded(work, memory, "repair", group, (step,), partial(_end, work, memory, images, group, step))


def _end(work: Work, memory: ProcessMemory, images: tuple[MappedImage, ...], group: Group, step: Step) -> ProcessResult:
    work.begin(memory, group, images, work.stopper()).run(step)
    return work.result("repaired")


def repair_one(work: Work) -> ProcessResult:
    """Finish or undo whatever was left in one process.

    Raises:
        Refusal: an entry holds what no step writes; other updates were ended all the same.
    """
    with ProcessMemory(work.pid, writable=not work.options.dry_run) as memory:
        images = process_images(work.pid, memory, disk=False).images
        shadows = read_shadows(memory, images)
        left: list[tuple[Group, Step]] = []
        damaged: list[Refusal] = []
        for group in gate_groups(shadows):
            try:
                left += find_leftovers(memory, (group,), shadows)
            except Refusal as refused:
                damaged.append(refused)
        if left and work.options.dry_run:
            work.records = left[0][0]
        elif left:
            end_leftovers(work, memory, images, left)
        if damaged:
            raise damaged[0]
        if not left:
            return work.result("unchanged")
        return work.result("would-repair" if work.options.dry_run else "repaired")
