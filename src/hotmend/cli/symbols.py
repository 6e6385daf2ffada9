"""`hotmend symbols`: names and frame descriptions of new code, as gdb and perf read them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import click

from hotmend.cli.output import ExitCode, print_json, print_note
from hotmend.cli.shapes import SymbolFileShape, SymbolsShape
from hotmend.linux import procfs
from hotmend.linux.core import CoreMemory
from hotmend.linux.memory import ProcessMemory, Readable
from hotmend.live.gate import HeaderRecord, find_shadows
from hotmend.live.symbols import gdb_script, perf_map, symbol_file
from hotmend.model.errors import InputError, UsageError


@click.command("symbols")
@click.argument("pid", type=click.IntRange(min=1), required=False)
@click.option(
    "--core", type=click.Path(path_type=Path, dir_okay=False), help="Of the process that left this core file instead."
)
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Folder for the files; perf looks in /tmp.",
)
@click.option("--json", "as_json", is_flag=True, help="One object.")
def symbols_command(pid: int | None, core: Path | None, folder: Path, as_json: bool) -> int:
    """Write what gdb and perf need to show names in the new code of a process.

    For gdb: a symbol file for each hotpatch and a script that loads them (gdb -x). For perf: perf-PID.map. Everything
    is read from the memory of the process, or from a core file; the hotpatch file is not needed.
    """
    if core is not None and pid is None:
        with CoreMemory(core) as dead:
            name = "".join(letter if letter.isprintable() else "_" for letter in core.name)  # of a program, often
            shape = _write(folder, f"hotmend-{name}", "", _records(dead, dead.maps), dead)
    elif pid is None or core is not None:
        raise UsageError("give either a process or --core FILE")
    else:
        name = f"perf-{procfs.inner_pid(pid)}.map"
        with ProcessMemory(pid) as memory:
            shape = _write(folder, f"hotmend-{pid}", name, _records(memory, procfs.read_maps(pid)), memory)
    if as_json:
        print_json(shape)
    else:
        _print(shape)
    return ExitCode.DONE if shape.files else ExitCode.NOTHING_TO_DO


def _records(memory: Readable, maps: tuple[procfs.Mapping, ...]) -> list[HeaderRecord]:
    return [shadow.record for shadow in find_shadows(memory, maps) if shadow.placed]


def _write(folder: Path, stem: str, perf_name: str, records: list[HeaderRecord], memory: Readable) -> SymbolsShape:
    """Write all files; none where there is no hotpatch."""
    if not records:
        return SymbolsShape((), "", "")
    shapes, files = [], []
    for record in records:
        file = _put(folder / f"{stem}-{record.hotpatch_id}.symbols", symbol_file(record, memory.try_read))
        files.append((file, record))
        bias = record.shadow_bias % 2**64
        shapes.append(SymbolFileShape(file, record.name, record.hotpatch_id, str(record.new_build_id), bias))
    script = _put(folder / f"{stem}.gdb", gdb_script(files).encode())
    names = _put(folder / perf_name, perf_map(records).encode()) if perf_name else ""
    return SymbolsShape(tuple(shapes), script, names)


def _put(path: Path, content: bytes) -> str:
    """Write a file by another name and rename it, so that a link that waits in /tmp leads nowhere; return its path."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".hotmend-")
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o644)
        Path(name).rename(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error
    return str(path.absolute())


def _print(shape: SymbolsShape) -> None:
    if not shape.files:
        print_note("There is no hotpatch in it.")
        return
    click.echo(f"gdb:  gdb -x {shape.gdb_script} ...")
    if shape.perf_map:
        click.echo(f"perf: {shape.perf_map}, which perf looks for in /tmp of the process")
    for file in shape.files:
        click.echo(
            f"lines and variables of {file.name}: add-symbol-file DEBUG-FILE -o {file.load_bias:#x} "
            f"(debug file of build {file.new_build_id})"
        )
