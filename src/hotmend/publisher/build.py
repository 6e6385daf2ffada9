"""Two builds, given as files, packages or names of packages -> the update: a result for each image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hotmend.diff.options import Options
from hotmend.diff.pipeline import compare
from hotmend.image.deb import Deb, ElfFile, changelog_cves, is_deb, read_deb, version_order
from hotmend.image.elf import read_image
from hotmend.image.image import Image, Symbol
from hotmend.model.addresses import BuildId
from hotmend.model.errors import InputError, UsageError
from hotmend.model.hotpatch import Outcome, Statistics
from hotmend.model.verdict import Reason, Verdict, note, refusal
from hotmend.publisher import feed
from hotmend.publisher.debug import BuildFile, DebugSources
from hotmend.publisher.fixes import Fix, find_fixes
from hotmend.publisher.pairing import FilePair, FileState, pair_files
from hotmend.publisher.patches import Patch, read_patches
from hotmend.publisher.update import FileReport, Side, Update, complete

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many steps are done, and how many there are."""


def build_update(
    old: str,
    new: str,
    progress: Progress,
    options: Options | None = None,
    patches: Path | None = None,
    debug_files: Sequence[Path] = (),
) -> Update:
    """Compare two builds.

    Args:
        old: the path of an ELF file or .deb, or `PACKAGE=VERSION`.
        new: the same, of the same kind.
        progress: called before each step.
        options: what is accepted and asked for.
        patches: of the source package: a `.debian.tar.xz` file or a directory; None: as apt offers them.
        debug_files: directories, packages and files with debug information of either build.

    Raises:
        UsageError: the two cannot be an old and a new build of one thing.
        InputError: a file is not what it should be.
        FetchError: apt does not offer a package.
    """
    progress("reading", 0, 1)
    options = options or Options()
    paths = [_locate(text, progress) for text in (old, new)]
    kinds = [_is_package(path) for path in paths]
    if kinds[0] != kinds[1]:
        raise UsageError("one side is a Debian package and the other an ELF file", "give two of one kind")
    with DebugSources(debug_files) as sources:
        comparison = _Comparison(options, sources)
        if kinds[0]:
            sides = (old, read_deb(paths[0])), (new, read_deb(paths[1]))
            return _build_from_packages(*sides, progress, comparison, patches)
        return _build_from_images((old, paths[0]), (new, paths[1]), progress, comparison)


def build_packages(old: Deb, new: Deb, progress: Progress, options: Options) -> Update:
    """Compare two packages that have been read; see `build_update`."""
    with DebugSources(()) as sources:
        sides = (f"{old.package}={old.version}", old), (f"{new.package}={new.version}", new)
        return _build_from_packages(*sides, progress, _Comparison(options, sources), None)


@dataclass(frozen=True, slots=True)
class _Comparison:
    """How images are compared, with their types where they can be had."""

    options: Options
    sources: DebugSources

    def __call__(self, old: BuildFile, new: BuildFile, path: str) -> Outcome:
        loaded = self.sources.load(old, new)
        images = [_named(side.image, names) for side, names in zip((old, new), loaded.symbols, strict=True)]
        outcome = compare(*images, path=path, options=replace(self.options, types=loaded.types))
        return replace(outcome, debug_information=loaded.text)


def _named(image: Image, symbols: tuple[Symbol, ...]) -> Image:
    """Return the image with what its debug file names."""
    return replace(image, symbols=(*image.symbols, *symbols)) if symbols else image


def _locate(text: str, progress: Progress) -> Path:
    """Return the file that an argument means; an existing file wins over a package's name."""
    path = Path(text)
    if path.exists():
        return path
    wanted = feed.parse_spec(text)
    if wanted is None:
        raise InputError(f"{text}: there is no such file", "give an ELF file, a .deb or PACKAGE=VERSION")
    progress(f"fetching {wanted}", 0, 1)
    return feed.fetch(wanted)


def _is_package(path: Path) -> bool:
    try:
        return is_deb(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error


def _build_from_images(
    old: tuple[str, Path], new: tuple[str, Path], progress: Progress, comparison: _Comparison
) -> Update:
    name = old[1].name
    sides = [Side(label, "", "", path.stat().st_size) for label, path in (old, new)]
    progress(f"comparing {name}", 0, 1)
    old_image, new_image = _read_labelled(old, name), _read_labelled(new, name)
    path = str(new[1])
    if old_image.build_id == new_image.build_id:
        report = FileReport(path, str(old[1]), FileState.IDENTICAL, None)
    else:
        outcome = comparison(BuildFile(old_image, old[1]), BuildFile(new_image, new[1]), path)
        outcome = complete(outcome, update_bytes=sides[1].file_bytes)
        report = FileReport(path, str(old[1]), FileState.CHANGED, outcome)
    progress(f"comparing {name}", 1, 1)
    return Update(sides[0], sides[1], (report,), (), ())


def _read_labelled(side: tuple[str, Path], name: str) -> Image:
    """Read an image; both may have the same base name, so an error says which of the two it is about."""
    try:
        return read_image(side[1], name)
    except InputError as error:
        raise InputError(f"{side[0]}: {str(error).removeprefix(f'{name}: ')}", error.hint) from error


def _build_from_packages(
    old: tuple[str, Deb], new: tuple[str, Deb], progress: Progress, comparison: _Comparison, patches: Path | None
) -> Update:
    old_deb, new_deb = old[1], new[1]
    _check_order(old_deb, new_deb)
    cves, notes = _find_cves(old_deb, new_deb)
    pairs = pair_files(old_deb.elf_files, new_deb.elf_files)
    if not pairs:
        siblings = ", ".join(new_deb.siblings)
        hint = f"its programs may be in {siblings}" if siblings else "it may have its programs in another package"
        raise InputError(f"{new_deb.package}: the package has no x86-64 programs or libraries", hint)
    files = _compare_together(pairs, comparison, progress)
    versions = (old_deb.version, new_deb.version)
    fixes: tuple[Fix, ...] = ()
    outcomes = [file.outcome for file in files if file.outcome is not None]
    if any(outcome.left and outcome.hotpatch for outcome in outcomes):
        found = _patches(new_deb, patches)
        notes += _without_patches(new_deb, cves) if found is None else ()
        fixes = find_fixes(cves, found or (), outcomes)
    completed = tuple(
        replace(
            file,
            outcome=file.outcome
            and complete(
                file.outcome,
                cves=cves,
                fixes=fixes,
                versions=versions,
                package=new_deb.package,
                update_bytes=new_deb.file_bytes,
            ),
        )
        for file in files
    )
    sides = [Side(label, deb.package, deb.version, deb.file_bytes) for label, deb in (old, new)]
    return Update(sides[0], sides[1], completed, cves, notes, fixes)


def _compare_together(
    pairs: Sequence[FilePair[ElfFile]], comparison: _Comparison, progress: Progress
) -> list[FileReport]:
    """Compare the files of an update. What of one image stays old binds the others, which are then compared again."""
    known: dict[tuple[bytes, bytes], FileReport] = {}
    stays_old: frozenset[str] = frozenset()
    again = set(range(len(pairs)))
    while again:
        comparison = replace(comparison, options=replace(comparison.options, stays_old=stays_old))
        for number in sorted(again):
            pair = pairs[number]
            progress(f"comparing {pair.path}", number, len(pairs))
            contents = _contents(pair)
            if contents not in known or stays_old:
                known[contents] = _compare_pair(pair, comparison)
        outcomes = [report.outcome for report in known.values() if report.outcome is not None]
        before, stays_old = stays_old, frozenset(name for o in outcomes for name in o.left)
        again = {n for n, pair in enumerate(pairs) if _uses(pair, stays_old - before, known[_contents(pair)])}
    progress("comparing", len(pairs), len(pairs))
    return [_under_its_name(known[_contents(pair)], pair) for pair in pairs]


def _contents(pair: FilePair[ElfFile]) -> tuple[bytes, bytes]:
    return (pair.old.content if pair.old else b"", pair.new.content if pair.new else b"")


def _uses(pair: FilePair[ElfFile], names: frozenset[str], report: FileReport) -> bool:
    """Return whether an image that gets a hotpatch may import one of `names` (its file has the text)."""
    if pair.new is None or report.outcome is None or report.outcome.hotpatch is None:
        return False
    return any(b"\0" + name.encode() + b"\0" in pair.new.content for name in names)


def _patches(deb: Deb, given: Path | None) -> tuple[Patch, ...] | None:
    """Return the patches of the package's source, or None where they cannot be had."""
    found = given or feed.fetch_patches(feed.PackageVersion(deb.source, deb.version))
    return None if found is None else read_patches(found)


def _without_patches(deb: Deb, cves: tuple[str, ...]) -> tuple[Reason, ...]:
    """Return the note that says why nothing is known of the fixes of a part, and what would help."""
    if not cves:
        return ()
    sentence = (
        "which fixes the part holds is not known, because apt does not offer the source package: "
        "add a deb-src line for its suite, or give --patches"
    )
    return (note("patches-not-found", sentence, f"{deb.source} {deb.version}"),)


def _check_order(old: Deb, new: Deb) -> None:
    if old.package != new.package:
        raise UsageError(f"{old.package} and {new.package} are two different packages")
    if version_order(old.version, new.version) > 0:
        raise UsageError(
            f"{old.package} {old.version} is newer than {new.version}",
            "the old build comes first: hotmend build OLD NEW",
        )


def _find_cves(old: Deb, new: Deb) -> tuple[tuple[str, ...], tuple[Reason, ...]]:
    """Return the CVE ids between the versions, and a note where no changelog could be read."""
    changelog = new.changelog or feed.fetch_changelog(feed.PackageVersion(new.package, new.version))
    try:
        if changelog:
            return changelog_cves(changelog, old.version, new.version), ()
        why = "The package has no changelog and the distribution's could not be fetched"
    except InputError as error:
        why = f"The package's changelog cannot be read ({error})"
    return (), (note("changelog-missing", f"{why}: CVE ids are not known.", new.package),)


def _compare_pair(pair: FilePair[ElfFile], comparison: _Comparison) -> FileReport:
    """Return what became of one file. A file that cannot be read is refused; the others go on."""
    if pair.old is None or pair.new is None or pair.state is FileState.IDENTICAL:
        old_path = pair.old.path if pair.old else ""
        return FileReport(pair.path, old_path, pair.state, None)
    name = Path(pair.old.path).name
    try:
        old_image = read_image(pair.old.content, name)
        new_image = read_image(pair.new.content, name)
    except InputError as error:
        return FileReport(pair.path, pair.old.path, FileState.CHANGED, _unreadable(name, pair.path, error))
    if old_image.build_id == new_image.build_id:
        return FileReport(pair.path, pair.old.path, FileState.IDENTICAL, None)
    sides = BuildFile(old_image, pair.old.content), BuildFile(new_image, pair.new.content)
    outcome = comparison(*sides, pair.path)
    return FileReport(pair.path, pair.old.path, FileState.CHANGED, outcome)


def _under_its_name(report: FileReport, pair: FilePair[ElfFile]) -> FileReport:
    """Return the report of a file with the same contents as that of `pair`: Debian ships copies of one program."""
    outcome = report.outcome and replace(report.outcome, path=pair.path)
    return FileReport(pair.path, pair.old.path if pair.old else "", report.state, outcome)


def _unreadable(name: str, path: str, error: InputError) -> Outcome:
    reason = refusal("image-unreadable", f"The image cannot be compared: {error}.", path)
    unknown = BuildId("")
    nothing = Statistics(0, 0, 0, 0, (), 0, 0)
    return Outcome(name, path, unknown, unknown, Verdict.BASELINE_REQUIRED, (reason,), nothing, None)
