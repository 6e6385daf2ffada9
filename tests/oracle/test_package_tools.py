"""readelf, objdump and gdb read a hotpatch file, and say what we say."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from hotmend.model.addresses import JUMP_BYTES
from hotmend.model.hotpatch import GateTarget, ImportTarget, OldTarget, ShadowTarget, Target
from hotmend.package.encode import encode
from tests.hotpatches import sample


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("package") / "server.hotpatch"
    path.write_bytes(encode(sample()))
    return path


def _run(*command: str | Path) -> str:
    """Return what the tool prints; it must have nothing to complain about."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "warning" not in done.stdout.lower()
    return done.stdout


def _symbol(target: Target) -> tuple[str, int]:
    match target:
        case OldTarget(address):
            return "old_image", address
        case ShadowTarget(address):
            return "new_image", address
        case ImportTarget(name, version, _):
            return (f"{name}@{version}" if version else name), 0
        case GateTarget():
            return "hotmend_gate", 0


def _expected_relocations() -> list[tuple[int, str, str, int]]:
    rows = []
    for relocation in sample().relocations:
        name, address = _symbol(relocation.target)
        rows.append((int(relocation.address), relocation.kind.value, name, address + relocation.addend))
    return rows


def test_readelf_reads_everything_without_a_warning(file: Path) -> None:
    printed = _run("readelf", "-aW", file)
    assert "DYN (Shared object file)" in printed
    assert printed.count("LOAD ") == len(sample().segments)


def test_readelf_prints_our_relocations(file: Path) -> None:
    rows = re.findall(r"^([0-9a-f]{16})  [0-9a-f]{16} (R_\S+) +[0-9a-f]{16} (\S+) ([+-]) ([0-9a-f]+)$",
                      _run("readelf", "-rW", file), re.MULTILINE)  # fmt: skip
    printed = [(int(at, 16), kind, name, int(sign + value, 16)) for at, kind, name, sign, value in rows]
    assert printed == _expected_relocations()


def test_readelf_prints_our_functions(file: Path) -> None:
    rows = re.findall(r": ([0-9a-f]{16}) +(\d+) FUNC +LOCAL +DEFAULT +\d+ (\S+)", _run("readelf", "-sW", file))
    printed = {(int(at, 16), int(size), name) for at, size, name in rows}
    expected = {(int(f.new.start), f.new.size, f.name) for f in sample().functions}
    for r in sample().redirections:
        expected.add((int(r.near_stub.start), r.near_stub.size, f"stub.{r.name}"))
        expected.add((int(r.far_stub.start), r.far_stub.size, f"stub.far.{r.name}"))
    expected |= {(int(port.address), JUMP_BYTES, f"port.{port.name}") for port in sample().ports}
    assert printed == expected


def test_objdump_prints_our_relocations_inside_the_code(file: Path) -> None:
    printed = _run("objdump", "-d", "-r", "-w", file)
    code = [s.extent for s in sample().segments if s.permissions == "r-x"]
    for address, kind, name, value in _expected_relocations():
        if any(address in extent for extent in code):
            sign = "-" if value < 0 else "+"
            suffix = f"{sign}{abs(value):#x}" if value else ""
            assert f"{address:x}: {kind}\t{name}{suffix}\n" in printed
    for function in sample().functions:
        assert f"{function.new.start:016x} <{function.name}>:" in printed


def test_gdb_disassembles_a_function_and_knows_the_sections(file: Path) -> None:
    # -nh -nx: no initialisation files of the person who runs this.
    printed = _run("gdb", "-nh", "-nx", "-batch", "-ex", "disassemble parse", "-ex", "info files", file)
    assert "0x0000000000001010 <+0>:\tpush   %rbp" in printed
    assert ".text.stub" in printed


def test_segments_stand_at_their_link_addresses(file: Path) -> None:
    rows = re.findall(
        r"LOAD +0x([0-9a-f]+) 0x([0-9a-f]+) 0x[0-9a-f]+ 0x([0-9a-f]+) 0x([0-9a-f]+) (...) ",
        _run("readelf", "-lW", file),
    )
    data = file.read_bytes()
    for (offset, address, in_file, size, flags), segment in zip(rows, sample().segments, strict=True):
        start, length = int(offset, 16), int(in_file, 16)
        assert data[start : start + length] == segment.content
        assert (int(address, 16), int(size, 16)) == (segment.extent.start, segment.extent.size)
        assert flags == {"r-x": "R E", "r--": "R  ", "rw-": "RW "}[segment.permissions]
