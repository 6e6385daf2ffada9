"""`hotmend build`: from two stock builds to hotpatch files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from hotmend.cli import shapes
from hotmend.cli.output import (
    ExitCode,
    Steps,
    print_json,
    print_note,
    print_reasons,
    print_table,
    share_text,
    size_text,
)
from hotmend.model.errors import UsageError
from hotmend.model.hotpatch import Hotpatch
from hotmend.model.verdict import Severity, Verdict
from hotmend.package.bundle import pack
from hotmend.package.encode import encode
from hotmend.package.files import BUNDLE_SUFFIX, HOTPATCH_SUFFIX, hotpatch_file_names, write_file

if TYPE_CHECKING:
    from hotmend.publisher.update import Update


@click.command("build")
@click.argument("old")
@click.argument("new")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Where to write.")
@click.option(
    "--accept",
    multiple=True,
    metavar="CODE",
    help="Accept a reason that depends on what the process does, for example allocation-size-changed.",
)
@click.option("--keep-going", is_flag=True, help="Write the other images' hotpatches when one is refused.")
@click.option("--partial", is_flag=True, help="Where an image is refused, make the largest part of it that is safe.")
@click.option("--exact", is_flag=True, help="Take in functions that differ in line numbers alone.")
@click.option(
    "--patches",
    type=click.Path(path_type=Path, exists=True),
    metavar="PATH",
    help="The source package's patches (.debian.tar.xz or a directory), to say which fixes a part holds.",
)
@click.option(
    "--debug-files",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    metavar="PATH",
    help="Debug information of either build: a directory, a -dbgsym package or a file.",
)
@click.option("--json", "as_json", is_flag=True, help="One object on stdout.")
def build_command(
    old: str,
    new: str,
    output: Path | None,
    accept: tuple[str, ...],
    keep_going: bool,
    partial: bool,
    exact: bool,
    patches: Path | None,
    debug_files: tuple[Path, ...],
    as_json: bool,
) -> int:
    """Make hotpatches from an OLD and a NEW build.

    Each is an ELF file, a .deb file, or PACKAGE=VERSION, which apt fetches without installing it. Two ELF files
    give one hotpatch file; two packages give a bundle, and beside it a directory with one hotpatch file for
    each changed image.

    Some refusals depend on what the running process does: an operator who knows that it holds no object or copy
    of the kind named may turn them into notes with --accept.
    """
    # The comparison brings numpy and the decoder with it; the other commands start faster without.
    from hotmend.diff.options import ACCEPTABLE, Options
    from hotmend.publisher.build import build_update

    unknown = sorted(set(accept) - ACCEPTABLE)
    if unknown:
        known = ", ".join(sorted(ACCEPTABLE))
        raise UsageError(f"{', '.join(unknown)} cannot be accepted", f"only these can: {known}")

    with Steps(threaded=True) as steps:
        options = Options(frozenset(accept), exact, partial)
        update = build_update(old, new, steps, options, patches, debug_files)
        hotpatches = update.hotpatches
        wanted = bool(hotpatches) and (keep_going or not update.refused)
        steps("writing", 0, 1)
        written = _write(update, hotpatches, output) if wanted else _Written()
    shape = _shape(update, written)
    if as_json:
        print_json(shape)
    else:
        _print_update(shape)
        _print_acceptable(shape, ACCEPTABLE)
    return _exit_code(update)


class _Written(msgspec.Struct, frozen=True):
    """What was written: the file for `apply`, and each hotpatch's own file and size by the new build-id."""

    file: str | None = None
    file_bytes: int = 0
    hotpatch_files: tuple[tuple[str, str, int], ...] = ()


def _write(update: Update, hotpatches: tuple[Hotpatch, ...], output: Path | None) -> _Written:
    target = output or _default_output(update, hotpatches)
    files = [encode(hotpatch) for hotpatch in hotpatches]
    ids = [str(hotpatch.new_build_id) for hotpatch in hotpatches]
    from_package = bool(update.new.package)
    if target.suffix == HOTPATCH_SUFFIX or not (from_package or target.suffix == BUNDLE_SUFFIX):
        if len(files) > 1:
            raise UsageError(
                f"{target}: one {HOTPATCH_SUFFIX} file cannot hold {len(files)} images",
                f"give the file another name, for example {target.with_suffix(BUNDLE_SUFFIX)}",
            )
        write_file(target, files[0])
        return _Written(str(target), len(files[0]), ((ids[0], str(target), len(files[0])),))
    directory = target.with_suffix(".d") if target.suffix == BUNDLE_SUFFIX else Path(f"{target}.d")
    bundle = pack(hotpatches)
    write_file(target, bundle)
    names = [directory / name for name in hotpatch_file_names(hotpatches)]
    _make_directory(directory)
    for name, data in zip(names, files, strict=True):
        write_file(name, data)
    rows = tuple((i, str(name), len(data)) for i, name, data in zip(ids, names, files, strict=True))
    return _Written(str(target), len(bundle), rows)


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(exist_ok=True)
    except OSError as error:
        raise UsageError(f"{directory}: {error.strerror or error}", "choose another place with -o") from error


def _default_output(update: Update, hotpatches: tuple[Hotpatch, ...]) -> Path:
    if update.new.package:
        return Path(f"{update.new.package}_{update.new.version.replace(':', '%3a')}{BUNDLE_SUFFIX}")
    return Path(hotpatch_file_names(hotpatches)[0])


def _exit_code(update: Update) -> ExitCode:
    if update.refused:
        return ExitCode.REFUSED
    return ExitCode.DONE if update.hotpatches else ExitCode.NOTHING_TO_DO


def _shape(update: Update, written: _Written) -> shapes.BuildShape:
    files = {build_id: (name, size) for build_id, name, size in written.hotpatch_files}
    images = []
    for file in update.files:
        image = shapes.ImageShape(file.path, file.old_path, file.state.value)
        if file.outcome is not None:
            image = shapes.outcome_fields(image, file.outcome)
            name, size = files.get(file.outcome.new_build_id, (None, None)) if file.outcome.hotpatch else (None, None)
            image = msgspec.structs.replace(image, hotpatch_file=name, hotpatch_bytes=size)
        images.append(image)
    return shapes.BuildShape(
        old=shapes.SideShape(update.old.label, update.old.package, update.old.version, update.old.file_bytes),
        new=shapes.SideShape(update.new.label, update.new.package, update.new.version, update.new.file_bytes),
        verdict=update.verdict.value,
        cves=update.cves,
        notes=shapes.reason_shapes(update.notes),
        images=tuple(images),
        file=written.file,
        file_bytes=written.file_bytes,
        update_bytes=update.new.file_bytes,
        fixes=tuple(shapes.FixShape(f.cve, f.state.value, f.held, f.left, f.unknown) for f in update.fixes),
    )


def _print_update(shape: shapes.BuildShape) -> None:
    if shape.new.package:
        click.echo(f"{shape.new.package} {shape.old.version} -> {shape.new.version}")
    changed = [image for image in shape.images if image.functions is not None]
    by_state = [image.state for image in shape.images]
    states = ", ".join(f"{by_state.count(state)} {state}" for state in dict.fromkeys(by_state))
    click.echo(f"ELF files: {states}")
    same_code = [image for image in changed if image.verdict == Verdict.NO_CHANGE]
    changed = [image for image in changed if image.verdict != Verdict.NO_CHANGE]
    if same_code and changed:
        click.echo(f"{len(same_code)} of the changed files hold the same code as before and are not listed")
    elif same_code:
        click.echo("the changed files hold the same code as before")
    if changed:
        click.echo()
        _print_images(changed)
    for image in changed:
        _print_details(image)
    if shape.notes:
        click.echo()
        print_reasons(shape.notes, indent="")
    if shape.fixes:
        click.echo("\nFixes, by the functions that the source package's patches touch:")
        rows = ((f.cve, f.state, ", ".join(f.held), ", ".join(f.left), ", ".join(f.unknown)) for f in shape.fixes)
        print_table("", ("CVE", "fix", "goes in", "stays old", "not known by name"), rows)
    elif shape.cves:
        click.echo(f"\nCVE ids in the changelog: {', '.join(shape.cves)}")
    click.echo(f"\nVerdict: {shape.verdict}")
    _print_result(shape)


def _print_acceptable(shape: shapes.BuildShape, acceptable: frozenset[str]) -> None:
    """Tell an operator who could know better that there is a way."""
    refused = [r.code for image in shape.images for r in image.reasons if r.severity == Severity.REFUSAL]
    if refused and acceptable.issuperset(refused):
        options = " ".join(f"--accept {code}" for code in dict.fromkeys(refused))
        print_note(f"What was refused depends on what the process does. If you know it does no harm: {options}")


def _print_images(images: list[shapes.ImageShape]) -> None:
    rows = []
    for image in images:
        counts = image.functions or shapes.FunctionCountsShape(0, 0, 0, 0, 0, 0, 0)
        references = sum(c.count for c in image.references)
        proof = share_text(counts.reconstructed, counts.reconstructible)
        numbers = (counts.identical, counts.cosmetic, counts.changed, counts.added, counts.removed, references)
        size = size_text(image.hotpatch_bytes) if image.hotpatch_bytes is not None else ""
        rows.append((image.path, *numbers, proof, size, image.verdict))
    columns = (
        "image", "#identical", "#lines", "#changed", "#added", "#removed", "#references", "#proof", "#size", "verdict"
    )  # fmt: skip
    print_table("", columns, rows)


def _print_details(image: shapes.ImageShape) -> None:
    """Print the evidence and the reasons, where there are any."""
    if not image.references and not image.reasons:
        return
    click.echo(f"\n{image.path}")
    if image.types is not None and image.debug_information:
        click.echo(f"  types compared: {image.types} ({image.debug_information})")
    if image.references:
        click.echo(f"  references by {', '.join(f'{c.evidence} {c.count}' for c in image.references)}")
    print_reasons(image.reasons)


def _print_result(shape: shapes.BuildShape) -> None:
    if shape.file is not None:
        share = share_text(shape.file_bytes, shape.update_bytes)
        update = f", {share} of the update's {size_text(shape.update_bytes)}" if share else ""
        click.echo(f"Wrote {shape.file}: {size_text(shape.file_bytes)}{update}")
    elif shape.verdict == Verdict.BASELINE_REQUIRED:
        print_note("Nothing was written. --keep-going writes the hotpatches of the other images, if any.")
    elif all(image.state == "identical" for image in shape.images):
        print_note("The two are the same build: there is nothing to do.")
    else:
        print_note("No code changed: there is nothing to do.")
