"""What is done in a child of its own: unpacking two packages, comparing two files."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from hotmend.diff.options import Options
from hotmend.diff.pipeline import compare
from hotmend.image.deb import changelog_cves
from hotmend.image.elf import read_image
from hotmend.image.image import Image
from hotmend.image.unpack import UnpackedDeb, unpack_deb
from hotmend.model.errors import InputError
from hotmend.model.hotpatch import Outcome, Statistics
from hotmend.model.verdict import Reason
from hotmend.package.encode import encode
from hotmend.publisher.pairing import FileState, pair_files
from hotmend.publisher.survey.child import Task
from hotmend.publisher.survey.results import SUBJECTS_MAX, CountRow, FunctionsRow, PartialRow, ReasonRow, StepRow


class Unpacking(msgspec.Struct, frozen=True):
    """Two packages and where their files go."""

    old: str
    new: str
    directory: str


class PairedFile(msgspec.Struct, frozen=True):
    """An ELF file of the update; `old_file` and `new_file` are on disk for changed files, else "".

    `content` is equal for pairs of equal files: Debian ships copies of one program.
    """

    path: str
    old_path: str
    state: str
    old_bytes: int
    new_bytes: int
    old_file: str = ""
    new_file: str = ""
    content: str = ""


class Unpacked(msgspec.Struct, frozen=True):
    """What is in the two packages. `cves` is None when no changelog could be read. The largest files come first."""

    source: str
    files: tuple[PairedFile, ...]
    cves: tuple[str, ...] | None


def unpack(argument: dict[str, object]) -> Unpacked:
    """Write the ELF files of both packages to disk, pair them, and delete those that do not need comparing."""
    given = msgspec.convert(argument, Unpacking)
    directory = Path(given.directory)
    old, new = (unpack_deb(Path(deb), directory / side) for deb, side in ((given.old, "old"), (given.new, "new")))
    files = []
    for pair in pair_files(old.elf_files, new.elf_files):
        before, after = pair.old, pair.new
        changed = before is not None and after is not None and pair.state is FileState.CHANGED
        for file in (before, after):
            if file is not None and not changed:
                file.stored.unlink()
        files.append(
            PairedFile(
                path=pair.path,
                old_path=before.path if before else "",
                state=pair.state.value,
                old_bytes=before.size if before else 0,
                new_bytes=after.size if after else 0,
                old_file=str(before.stored.relative_to(directory)) if before and changed else "",
                new_file=str(after.stored.relative_to(directory)) if after and changed else "",
                content=f"{before.content.hex()}{after.content.hex()}" if before and after and changed else "",
            )
        )
    files.sort(key=lambda file: (-file.old_bytes - file.new_bytes, file.path))
    return Unpacked(new.source, tuple(files), _cves(old, new))


def _cves(old: UnpackedDeb, new: UnpackedDeb) -> tuple[str, ...] | None:
    try:
        return changelog_cves(new.changelog, old.version, new.version) if new.changelog else None
    except InputError:
        return None


class Comparison(msgspec.Struct, frozen=True):
    """Two files on disk, the name of the image and its path in the package; `partial`: whether to try a part."""

    old: str
    new: str
    name: str
    path: str
    partial: bool


class Compared(msgspec.Struct, frozen=True):
    """What comparing gave; `same_build` says that the build-ids are equal, and then there is nothing else."""

    same_build: bool
    verdict: str = ""
    old_build_id: str = ""
    new_build_id: str = ""
    functions: FunctionsRow | None = None
    references: tuple[CountRow, ...] = ()
    reasons: tuple[ReasonRow, ...] = ()
    steps: tuple[StepRow, ...] = ()
    hotpatch_bytes: int | None = None
    partial: PartialRow | None = None


def compare_files(argument: dict[str, object]) -> Compared:
    """Compare two builds as `hotmend build` does, the writing of the hotpatch included."""
    given = msgspec.convert(argument, Comparison)
    old, new = (_read(Path(file), given.name) for file in (given.old, given.new))
    if old.build_id == new.build_id:
        return Compared(True)
    return _compared(compare(old, new, path=given.path, options=Options(partial=given.partial)))


def _read(file: Path, name: str) -> Image:
    return read_image(file, name)


def _compared(result: Outcome) -> Compared:
    """Return the outcome of the whole, and beside it that of a part where only a part goes in."""
    outcome = result.whole or result
    counts = outcome.statistics
    return Compared(
        same_build=False,
        verdict=outcome.verdict.value,
        old_build_id=str(outcome.old_build_id),
        new_build_id=str(outcome.new_build_id),
        functions=_functions(counts),
        references=tuple(CountRow(evidence, count) for evidence, count in counts.references),
        reasons=tuple(map(_reason, outcome.reasons)),
        steps=tuple(StepRow(step, round(seconds, 3)) for step, seconds in result.seconds),
        hotpatch_bytes=len(encode(outcome.hotpatch)) if outcome.hotpatch else None,
        partial=_part(result, outcome) if result.whole is not None else None,
    )


def _functions(counts: Statistics) -> FunctionsRow | None:
    """Return the counts, or None where the two builds were not compared at all."""
    row = FunctionsRow(
        counts.identical,
        counts.changed,
        counts.added,
        counts.removed,
        counts.cosmetic,
        counts.reconstructed,
        counts.reconstructible,
    )
    return row if any(msgspec.structs.astuple(row)) else None


def _part(part: Outcome, whole: Outcome) -> PartialRow:
    return PartialRow(
        part.verdict.value,
        part.statistics.changed + part.statistics.added,
        whole.statistics.changed + whole.statistics.added,
        len(encode(part.hotpatch)) if part.hotpatch else 0,
    )


def _reason(reason: Reason) -> ReasonRow:
    subjects = reason.subjects[:SUBJECTS_MAX]
    return ReasonRow(reason.code, reason.severity.value, reason.sentence, subjects, len(reason.subjects))


TASKS: Final[dict[str, Task]] = {"unpack": unpack, "compare": compare_files}
