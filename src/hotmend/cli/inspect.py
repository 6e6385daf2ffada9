"""`hotmend inspect`: all that is in a hotpatch, to read."""

from __future__ import annotations

from pathlib import Path

import click

from hotmend.cli.inspect_shapes import InspectShape, LazyShape, RelocationShape, inspect_shape
from hotmend.cli.output import ExitCode, print_json, print_reasons, print_table, share_text
from hotmend.model.errors import HotmendError
from hotmend.model.hotpatch import Hotpatch
from hotmend.package.bundle import load
from hotmend.package.encode import encode
from hotmend.package.files import hotpatch_file_names, write_file


@click.command("inspect")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--extract",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write the ELF files of a bundle into DIR, for readelf, objdump and gdb.",
)
@click.option("--json", "as_json", is_flag=True, help="One object per image.")
def inspect_command(file: Path, extract: Path | None, as_json: bool) -> int:
    """Print what is in a hotpatch file or a bundle.

    Functions with their old and new addresses, sizes and names, and each relocation with its evidence.
    """
    hotpatches = load(file)
    for hotpatch in hotpatches:
        shape = inspect_shape(hotpatch)
        if as_json:
            print_json(shape)
        else:
            _print_hotpatch(shape)
    if extract is not None:
        _extract(hotpatches, extract)
    return ExitCode.DONE


def _extract(hotpatches: tuple[Hotpatch, ...], directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HotmendError(f"{directory}: {error.strerror or error}") from error
    for hotpatch, name in zip(hotpatches, hotpatch_file_names(hotpatches), strict=True):
        write_file(directory / name, encode(hotpatch))
        click.echo(str(directory / name), err=True)


def _print_hotpatch(shape: InspectShape) -> None:
    click.echo(f"{shape.name}: {shape.verdict}")
    if shape.package:
        click.echo(f"  package    {shape.package} {shape.old_version} -> {shape.new_version}")
    click.echo(f"  path       {shape.path}")
    click.echo(f"  old build  {shape.old_build_id}")
    click.echo(f"  new build  {shape.new_build_id}")
    if shape.cves:
        click.echo(f"  fixes      {', '.join(shape.cves)}")
    counts = shape.functions
    click.echo(
        f"  functions  {counts.identical} identical, {counts.changed} changed, {counts.added} added, "
        f"{counts.removed} removed"
    )
    rate = share_text(counts.reconstructed, counts.reconstructible)
    click.echo(f"  proof      {counts.reconstructed} of {counts.reconstructible} reconstructed {rate}")
    click.echo(f"  types      compared by debug information: {shape.types}")
    click.echo(f"  references {', '.join(f'{c.evidence} {c.count}' for c in shape.references)}")
    if shape.unwinding is not None:
        need = "must be made known to the process's unwinder" if shape.unwinding.needed else "useful, not needed"
        table = f"{shape.unwinding.functions} frame descriptions at {shape.unwinding.address:#x}"
        click.echo(f"  unwinding  {table}: {need}")
    _print_lazy(shape.lazy)
    print_reasons(shape.reasons)
    _print_tables(shape)


def _print_lazy(lazy: LazyShape | None) -> None:
    """Say whether `apply --consistency lazy` is proven, and by what, or what is in the way."""
    if lazy is None:
        click.echo("  lazy       not looked at")
    elif lazy.proven:
        click.echo("  lazy       proven: old invocations may go on in old code")
        for sentence in lazy.evidence:
            click.echo(f"             {sentence}")
    for obstacle in lazy.obstacles if lazy is not None else ():
        subjects = f": {', '.join(obstacle.subjects)}" if obstacle.subjects else ""
        click.echo(f"  lazy       not proven: {obstacle.sentence}{subjects} [{obstacle.code}]")


def _print_tables(shape: InspectShape) -> None:
    click.echo()
    print_table(
        "Segments",
        ("section", "#address", "#size", "#in file", "permissions"),
        ((s.section, hex(s.address), s.size, s.file_bytes, s.permissions) for s in shape.segments),
    )
    click.echo()
    print_table(
        "Functions",
        ("#new", "#size", "#old", "#size", "name"),
        (
            (
                hex(f.new.address),
                f.new.size,
                hex(f.old.address) if f.old else "",
                f.old.size if f.old else "added",
                f.name,
            )
            for f in shape.new_functions
        ),
    )
    click.echo()
    print_table(
        "Redirected entries",
        ("#old", "#new", "entry bytes", "name"),
        ((hex(r.old), hex(r.new), r.entry, r.name) for r in shape.redirections),
    )
    if shape.variables or shape.ports:
        click.echo()
        print_table(
            "Added, and known again by a later hotpatch",
            ("#new", "#size", "#jumps to", "#marks", "name"),
            (
                (hex(a.address), a.size, "" if a.function is None else hex(a.function), len(a.marks), a.name)
                for a in (*(shape.variables or ()), *shape.ports)
            ),
        )
    click.echo("\nRelocations")
    for relocation in shape.relocations:
        click.echo(_relocation_line(relocation))
    click.echo()


def _relocation_line(relocation: RelocationShape) -> str:
    """One line; there can be tens of thousands, and a table would measure them all first."""
    symbol = relocation.symbol
    if relocation.target is not None:
        symbol += f"+{relocation.target:#x}"
    addend = f"{relocation.addend:+#x}" if relocation.addend else ""
    votes = f" {relocation.votes}" if relocation.votes else ""
    return f"  {relocation.address:#10x}  {relocation.kind:<14}  {symbol + addend:<36}  {relocation.evidence}{votes}"
