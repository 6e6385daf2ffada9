"""The hotpatch: everything a process that runs the old build needs to run the new code.

A hotpatch is a *sparse shadow of the new image*: each changed or added function, each new or changed object
stands at the link address the new build itself gave it, so that distances inside the shadow are the new
build's own and the new build's debug files fit. References that leave the shadow are relocations against the
old image, against an import, or against the gate byte. The shadow's load bias in a process is the load
address of new link address 0; it differs from the old image's load bias.

The stubs (see `docs/how-it-works.md`, gate protocol) are part of the shadow: they stand on pages of their own
behind the last link address of the new image.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hotmend.model.addresses import BuildId, Extent, LinkAddress
from hotmend.model.verdict import Reason, Verdict


class RelocationKind(StrEnum):
    """How a field is computed; the names and formulas are those of the x86-64 psABI, table 4.10.

    S is the load address of the target, A the addend, P the load address of the field.
    """

    PC32 = "R_X86_64_PC32"  # S + A - P, 4 bytes, signed, must fit
    ABS64 = "R_X86_64_64"  # S + A, 8 bytes
    ABS32 = "R_X86_64_32"  # S + A, 4 bytes, must zero-extend
    ABS32S = "R_X86_64_32S"  # S + A, 4 bytes, must sign-extend


@dataclass(frozen=True, slots=True, order=True)
class OldTarget:
    """A place in the old image. S = old image's load bias + `address`."""

    address: LinkAddress


@dataclass(frozen=True, slots=True, order=True)
class ShadowTarget:
    """A place in the shadow itself. S = shadow's load bias + `address`."""

    address: LinkAddress


@dataclass(frozen=True, slots=True, order=True)
class ImportTarget:
    """A symbol that another image of the process exports, resolved as ld.so would.

    Attributes:
        name: symbol name.
        version: symbol version, or "" for an unversioned reference.
        weak: an unresolved weak reference is 0, any other refuses.
    """

    name: str
    version: str
    weak: bool


@dataclass(frozen=True, slots=True, order=True)
class GateTarget:
    """The gate byte of the update in this process."""


Target = OldTarget | ShadowTarget | ImportTarget | GateTarget


@dataclass(frozen=True, slots=True)
class Relocation:
    """One field of the shadow that depends on where things are loaded.

    Attributes:
        address: link address of the field, in the shadow.
        kind: size and formula.
        target: S.
        addend: A, signed.
        evidence: why the target is the right one: `votes`, `name`, `function`, `import`, `neighbours`,
            `aligned`, `stub`, `new`.
        votes: number of unchanged functions that agree, where the evidence is `votes`; else 0.
    """

    address: LinkAddress
    kind: RelocationKind
    target: Target
    addend: int
    evidence: str
    votes: int = 0


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of bytes of the shadow.

    Attributes:
        extent: where it stands, in link addresses. `extent.size` may exceed `len(content)`; the rest is zero.
        permissions: one of `r-x`, `r--`, `rw-`. No page holds parts with two different permissions.
        content: the bytes, before relocation.
        section: name of the section it goes by in the file, for example `.text`.
    """

    extent: Extent
    permissions: str
    content: bytes
    section: str


@dataclass(frozen=True, slots=True)
class NewFunction:
    """A function in the shadow. `old` is empty (size 0) when the new build added it."""

    name: str
    new: Extent
    old: Extent


@dataclass(frozen=True, slots=True)
class ReplacedFunction:
    """A function of the old image that the hotpatch replaces: no thread may be inside when it does.

    Attributes:
        name: where known, else `sub_<old address>`.
        old: its extent in the old image.
        sha256: hexadecimal digest of its bytes in the old build's file; what memory must hold. Fields that the
            dynamic linker changed at start (text relocations) do not occur: such images are refused.
    """

    name: str
    old: Extent
    sha256: str


@dataclass(frozen=True, slots=True)
class Redirection:
    """An entry of the old image that leads to new code once the gate is open.

    Attributes:
        name: function name where known.
        old: link address of the entry in the old image.
        new: link address of the new function in the shadow.
        entry: the old bytes of the entry, at least 5: the instructions that the stub holds displaced.
        near_stub: the stub whose gate test reaches ±2 GiB (`cmpb $0, gate(%rip)`).
        far_stub: the stub whose gate may be anywhere (`push; movabs; cmpb; pop`).
    Each stub means exactly the old code while the gate is 0, and the new function while it is 1.
    """

    name: str
    old: LinkAddress
    new: LinkAddress
    entry: bytes
    near_stub: Extent
    far_stub: Extent


@dataclass(frozen=True, slots=True)
class UnwindTable:
    """The shadow's sorted table of frame descriptions, as `PT_GNU_EH_FRAME` of an image names one.

    Attributes:
        extent: where it stands, in link addresses: a header of 12 bytes, then 8 bytes for each function.
        needed: exceptions may have to pass the new functions; else the table is of use to `backtrace()` and
            `pthread_cancel` alone, and a process in which it cannot be made known does without.
    """

    extent: Extent
    needed: bool

    @property
    def functions(self) -> int:
        """How many functions it leads to."""
        return (self.extent.size - 12) // 8


@dataclass(frozen=True, slots=True)
class Mark:
    """A sign by which a variable is known again in a later hotpatch of the same baseline.

    Attributes:
        text: `name:NAME`, or `use:HASH:N`: the variable is what reference number N of new code leads to; HASH is over
            that code's bytes without its references, and the old function it replaces (none: the new build added it).
        offset: from the variable's start to the place named so, in bytes.
    """

    text: str
    offset: int


@dataclass(frozen=True, slots=True)
class AddedVariable:
    """A variable that the new build added: it lives in the shadow.

    Attributes:
        name: where known, else `data_<new address>`.
        extent: all of it that is in the shadow.
        sha256: hexadecimal digest of what it holds at first, pointers as zeros, zeros at its end left out.
        marks: sorted; each stands once.
    All references to it, also those from inside the shadow, are relocations: they can lead to another copy of it.
    """

    name: str
    extent: Extent
    sha256: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Port:
    """Where the address of an added function is handed out, this is handed out instead: a jump to the function.

    A later hotpatch can lead it to its own function, whoever has kept the address.

    Attributes:
        name: of the function.
        address: of the jump, `JUMP_BYTES` long.
        function: the new function.
        marks: sorted; offsets are 0. Besides those of variables there is `code:HASH`: the function's own code.
    """

    name: str
    address: LinkAddress
    function: LinkAddress
    marks: tuple[Mark, ...]


class TypeCoverage(StrEnum):
    """Whether the types of both builds were compared by their debug information."""

    NONE = "none"
    PARTIAL = "partial"
    COMPLETE = "complete"
    """Of all code that changed."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counts that `build` and `inspect` print.

    Attributes:
        identical, changed, added, removed: functions.
        references: evidence -> number of references mapped by it.
        reconstructed, reconstructible: unchanged functions whose bytes came out the same, and all of them.
        cosmetic: functions that differ in source line numbers alone and stay as they are.
        types: whether types were compared exactly.
    """

    identical: int
    changed: int
    added: int
    removed: int
    references: tuple[tuple[str, int], ...]
    reconstructed: int
    reconstructible: int
    cosmetic: int = 0
    types: TypeCoverage = TypeCoverage.NONE


@dataclass(frozen=True, slots=True)
class Lazy:
    """Whether invocations of the old function may go on beside new ones (`apply --consistency lazy`).

    Attributes:
        evidence: what was shown, a sentence each; all of it where nothing is in the way.
        obstacles: why it is not proven.
    """

    evidence: tuple[str, ...] = ()
    obstacles: tuple[Reason, ...] = ()

    @property
    def proven(self) -> bool:
        """Whether old code may run beside the new."""
        return bool(self.evidence) and not self.obstacles


@dataclass(frozen=True, slots=True)
class Hotpatch:
    """One image's hotpatch, as built, written to a file, read back, and applied.

    Attributes:
        name: base name of the image, for example `nginx` or `libcrypto.so.3`.
        path: path of the image inside its package, or the file name given.
        old_build_id, new_build_id: identity of the two builds.
        old_extent: link addresses the old image occupies in memory (first to last PT_LOAD page).
        new_extent: the same for the new image; segments except stubs lie inside.
        segments: sorted by address, not overlapping.
        relocations: sorted by address.
        functions: every function in the shadow, sorted by new address.
        replaced: every old function that must be off the stack at the switch.
        redirections: entries to redirect.
        reasons: notes (refusals never reach a hotpatch file).
        cves: what the new package's changelog names, for example `CVE-2024-7347`.
        versions: (old, new) package versions, or empty strings for bare ELF files.
        package: binary package name or "".
        update_bytes: size of the full update (.deb or ELF file) in bytes; 0 where unknown.
        unwinding: where the unwinder finds the new functions' frames; None where there is nothing to find.
        variables: that the new build added, sorted by address; None in files of before they were told.
        ports: of added functions whose address new code, or data of the shadow, hands out, sorted by address.
        compared: names of constant objects of the shadow whose address new code compares with others.
        lazy: whether old invocations may go on; None in files of before it was looked at.
    """

    name: str
    path: str
    old_build_id: BuildId
    new_build_id: BuildId
    old_extent: Extent
    new_extent: Extent
    segments: tuple[Segment, ...]
    relocations: tuple[Relocation, ...]
    functions: tuple[NewFunction, ...]
    replaced: tuple[ReplacedFunction, ...]
    redirections: tuple[Redirection, ...]
    statistics: Statistics
    verdict: Verdict
    reasons: tuple[Reason, ...] = ()
    cves: tuple[str, ...] = ()
    versions: tuple[str, str] = ("", "")
    package: str = ""
    update_bytes: int = 0
    unwinding: UnwindTable | None = None
    variables: tuple[AddedVariable, ...] | None = None
    ports: tuple[Port, ...] = ()
    compared: tuple[str, ...] = ()
    lazy: Lazy | None = None

    @property
    def part(self) -> bool:
        """Whether it leaves functions that changed for the baseline."""
        return any(reason.code == "left-for-baseline" for reason in self.reasons)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What comparing two images gave: the hotpatch, or why there is none.

    Attributes:
        name, path: of the image.
        old_build_id, new_build_id: identity.
        verdict: `NO_CHANGE` and `BASELINE_REQUIRED` come without a hotpatch.
        reasons: all of them, refusals first.
        statistics: counts, also for a refused pair as far as it got.
        hotpatch: present exactly for the two hotpatch verdicts.
        left: names of changed functions that stay old: some where the hotpatch is a partial one, all without one.
        same_names: names of unchanged functions, as far as the image knows names; only for a partial hotpatch.
        seconds: wall time of each step of the comparison, in order.
        whole: the refused outcome of everything, where this one is that of a part.
        debug_information: where the types came from, or why they were not compared; empty where there was nothing.
    """

    name: str
    path: str
    old_build_id: BuildId
    new_build_id: BuildId
    verdict: Verdict
    reasons: tuple[Reason, ...]
    statistics: Statistics
    hotpatch: Hotpatch | None
    left: tuple[str, ...] = ()
    same_names: frozenset[str] = frozenset()
    seconds: tuple[tuple[str, float], ...] = ()
    whole: Outcome | None = None
    debug_information: str = ""
