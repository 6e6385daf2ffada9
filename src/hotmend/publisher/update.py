"""An update: two builds of a package or a file, and what became of each of its images."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hotmend.model.addresses import BuildId
from hotmend.model.hotpatch import Hotpatch, Outcome
from hotmend.model.verdict import Reason, Severity, Verdict
from hotmend.publisher.fixes import Fix, FixState, fixes_not_held
from hotmend.publisher.pairing import FileState


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two builds.

    Attributes:
        label: what the user gave.
        package, version: of a Debian package, else "".
        file_bytes: size of the .deb or ELF file.
    """

    label: str
    package: str
    version: str
    file_bytes: int


@dataclass(frozen=True, slots=True)
class FileReport:
    """What became of one ELF file. `outcome` is there exactly for changed files; `old_path` may differ."""

    path: str
    old_path: str
    state: FileState
    outcome: Outcome | None


@dataclass(frozen=True, slots=True)
class Update:
    """The whole update.

    Attributes:
        old, new: the two builds.
        files: every ELF file of either, sorted by path.
        cves: what the new package's changelog names above the old version.
        notes: what concerns no single image.
        fixes: what becomes of each CVE, where a partial hotpatch was made.
    """

    old: Side
    new: Side
    files: tuple[FileReport, ...]
    cves: tuple[str, ...]
    notes: tuple[Reason, ...]
    fixes: tuple[Fix, ...] = ()

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """The results of the files that were compared."""
        return tuple(file.outcome for file in self.files if file.outcome is not None)

    @property
    def refused(self) -> tuple[Outcome, ...]:
        """Changed images that got no hotpatch."""
        return tuple(o for o in self.outcomes if o.verdict is Verdict.BASELINE_REQUIRED)

    @property
    def hotpatches(self) -> tuple[Hotpatch, ...]:
        """The hotpatches, in the order of paths; one for each build, however many names its file has."""
        found: dict[tuple[BuildId, BuildId], Hotpatch] = {}
        for outcome in self.outcomes:
            if outcome.hotpatch is not None:
                found.setdefault((outcome.old_build_id, outcome.new_build_id), outcome.hotpatch)
        return tuple(found.values())

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of an image."""
        verdicts = {outcome.verdict for outcome in self.outcomes}
        order = (Verdict.BASELINE_REQUIRED, Verdict.HOTPATCH_WITH_NOTES, Verdict.HOTPATCH)
        worst = next((verdict for verdict in order if verdict in verdicts), Verdict.NO_CHANGE)
        if worst is Verdict.HOTPATCH and self.notes:
            return Verdict.HOTPATCH_WITH_NOTES
        return worst


def complete(
    outcome: Outcome,
    *,
    update_bytes: int,
    cves: tuple[str, ...] = (),
    fixes: tuple[Fix, ...] = (),
    versions: tuple[str, str] = ("", ""),
    package: str = "",
) -> Outcome:
    """Add what only the package knows to the hotpatch."""
    if outcome.hotpatch is None:
        return outcome
    refused = [reason.code for reason in outcome.reasons if reason.severity is Severity.REFUSAL]
    if refused:
        raise AssertionError(f"{outcome.name} was refused for {refused} and yet has a hotpatch")
    hotpatch = outcome.hotpatch
    if outcome.left:
        cves = tuple(fix.cve for fix in fixes if fix.state is FixState.HELD)
        hotpatch = replace(hotpatch, reasons=(*hotpatch.reasons, *fixes_not_held(fixes)))
        outcome = replace(outcome, reasons=hotpatch.reasons)
    hotpatch = replace(hotpatch, cves=cves, versions=versions, package=package, update_bytes=update_bytes)
    return replace(outcome, hotpatch=hotpatch)
