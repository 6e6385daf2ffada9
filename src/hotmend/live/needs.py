"""What a hotpatch is for in a process, and what it imports there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hotmend.linux.memory import ProcessMemory
from hotmend.linux.process import MappedImage
from hotmend.linux.procfs import Mapping
from hotmend.live import imports as live_imports
from hotmend.live.layout import Imports
from hotmend.model.errors import HotmendError
from hotmend.model.hotpatch import Hotpatch, ImportTarget
from hotmend.model.verdict import Reason


class Refusal(HotmendError):
    """Carries reasons out of the planning steps to the driver, which turns them into a result."""

    def __init__(self, *reasons: Reason) -> None:
        super().__init__("; ".join(reason.sentence for reason in reasons))
        self.reasons = reasons


@dataclass(frozen=True, slots=True)
class Target:
    """A hotpatch and the image it is for."""

    hotpatch: Hotpatch
    id: str
    image: MappedImage


@dataclass(frozen=True, slots=True)
class Needs:
    """The imports of one target.

    Attributes:
        values: load addresses, of those that an image of the process exports.
        added: those that another hotpatch of the update adds: that hotpatch's id, and the address in its shadow.
    """

    values: Imports
    added: dict[ImportTarget, tuple[str, int]]


def _added_export(name: str, own: Target, targets: Sequence[Target]) -> tuple[str, int] | None:
    """Return where another hotpatch of the update adds a function of that name; None if none or several do.

    Asked only for a name that no image of the process exports. The new builds were linked against each other, so an
    added function of that name is the export meant.
    """
    found = [
        (target.id, int(function.new.start))
        for target in targets
        if target is not own
        for function in target.hotpatch.functions
        if function.name == name and function.old.size == 0
    ]
    return found[0] if len(found) == 1 else None


def resolve_imports(
    targets: Sequence[Target], images: Sequence[MappedImage], memory: ProcessMemory, maps: tuple[Mapping, ...]
) -> tuple[Needs, ...]:
    """Return the imports of every target, or refuse with all that cannot be resolved."""
    wanted = [sorted({r.target for r in t.hotpatch.relocations if isinstance(r.target, ImportTarget)}) for t in targets]
    if not any(wanted):
        return tuple(Needs({}, {}) for _ in targets)
    libraries = link_map(images, memory)
    result, reasons = [], []
    for target, names in zip(targets, wanted, strict=True):
        needs = Needs({}, {})
        for name in names:
            value = live_imports.resolve(name, libraries, target.image.bias, maps)
            missing = value == 0 or (isinstance(value, Reason) and value.code == "import-missing")
            if missing and (added := _added_export(name.name, target, targets)) is not None:
                needs.added[name] = added
            elif isinstance(value, Reason):
                reasons.append(value)
            else:
                needs.values[name] = value
        result.append(needs)
    if reasons:
        raise Refusal(*reasons)
    return tuple(result)


def link_map(images: Sequence[MappedImage], memory: ProcessMemory) -> tuple[live_imports.Library, ...]:
    """Return the link map, from whichever image holds the debugger's pointer to it (the executable)."""
    for image in images:
        libraries = live_imports.read_link_map(memory, image)
        if libraries:
            return libraries
    return ()
