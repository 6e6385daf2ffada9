"""What the reader says of images of this system against what readelf prints of them."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from hotmend.image.elf import read_image
from hotmend.image.frames import read_frames
from hotmend.image.image import Image

_IMAGES = ("/bin/bash", "/bin/ls", "/lib/x86_64-linux-gnu/libc.so.6", "/lib/x86_64-linux-gnu/libstdc++.so.6",
           "/usr/bin/dpkg", "/lib/x86_64-linux-gnu/libz.so.1")  # fmt: skip


@pytest.fixture(params=_IMAGES)
def path(request: pytest.FixtureRequest) -> Path:
    return Path(str(request.param)).resolve()


@cache
def _image(path: Path) -> Image:
    return read_image(path)


def _readelf(*arguments: str | Path) -> str:
    done = subprocess.run(["readelf", "-W", *arguments], capture_output=True, text=True, check=False)
    # Status 1 alone is no error: it follows warnings, such as that of missing separate debug information.
    assert "Error" not in done.stderr
    return done.stdout


def _descriptions(path: Path) -> list[tuple[int, int, str]]:
    """Return (start, end, augmentation of the CIE) of each frame description."""
    text = _readelf("--debug-dump=frames", path).split("Contents of the .debug_frame")[0]
    augmentations: dict[int, str] = {}
    result: list[tuple[int, int, str]] = []
    for block in text.split("\n\n"):
        cie = re.search(r'^([0-9a-f]+) \S+ \S+ CIE\n(?:.*\n)*?  Augmentation: +"(\w*)"', block, re.MULTILINE)
        if cie:
            augmentations[int(cie[1], 16)] = cie[2]
        fde = re.search(r"FDE cie=([0-9a-f]+) pc=([0-9a-f]+)\.\.([0-9a-f]+)", block)
        if fde:
            result.append((int(fde[2], 16), int(fde[3], 16), augmentations[int(fde[1], 16)]))
    return sorted(result)


def test_functions_are_the_frame_descriptions(path: Path) -> None:
    expected = [(start, end) for start, end, _ in _descriptions(path)]
    assert [(f.extent.start, f.extent.end) for f in _image(path).frames] == expected
    assert len(expected) > 50


def test_language_areas_are_where_the_augmentation_has_them(path: Path) -> None:
    """A description with `L` in its CIE may still have none: its pointer is 0 then."""
    having = {start for start, _, augmentation in _descriptions(path) if "L" in augmentation}
    ours = {int(f.extent.start) for f in _image(path).frames if f.lsda}
    assert ours <= having
    assert bool(ours) == bool(having)


def test_language_areas_lie_in_their_section() -> None:
    """In libstdc++ every area that readelf prints for a description (its augmentation data) is one of ours."""
    path = Path("/lib/x86_64-linux-gnu/libstdc++.so.6").resolve()
    text = _readelf("--debug-dump=frames", path)
    areas = {
        int(start, 16)
        for start, data in re.findall(r"pc=([0-9a-f]+)\.\.\S+\n  Augmentation data: +((?:[0-9a-f]{2} ?)+)", text)
        if len(data.split()) >= 4 and data.split()[:4] != ["00"] * 4
    }
    image = _image(path)
    assert {int(f.extent.start) for f in image.frames if f.lsda} == areas
    assert len(areas) > 100


def test_frames_can_be_read_again_from_memory(path: Path) -> None:
    image = _image(path)
    header = next(s for s in image.sections if s.name == ".eh_frame_hdr")
    again = read_frames(image.memory, image.extent.start, header.address, header.size)
    assert again == image.frames


_POINTERS = (
    "static int x[200]; int *all[] = {"
    + ",".join(f"x + {n}" for n in range(150))
    + "}; int *one = x + 7;"
    + "int get(int n) { return x[n]; }"
)
_KINDS = {"NOTYPE": 0, "OBJECT": 1, "FUNC": 2, "SECTION": 3, "FILE": 4, "COMMON": 5, "TLS": 6, "IFUNC": 10}


def test_dynamic_symbols_and_their_versions(path: Path) -> None:
    printed = _readelf("--dyn-syms", path)
    rows = re.findall(
        r"^ +\d+: ([0-9a-f]+) +(\w+) (\w+) +(\w+) +\w+ +(?:\[.*\] )?(\w+) (\S+?)(?:@@?(\S+))?(?: \(\d+\))?$",
        printed,
        re.MULTILINE,
    )
    expected = [
        (name, version, int(value, 16), int(size, 0), _KINDS[kind], bind, where)
        for value, size, kind, bind, where, name, version in rows
    ]
    ours = [
        (s.name, s.version, int(s.value), s.size, s.kind, s.weak, s.local, s.defined)
        for s in _image(path).symbols
        if s.dynamic
    ]
    assert len(ours) == len(expected) > 10
    for mine, (name, version, value, size, kind, bind, where) in zip(ours, expected, strict=True):
        assert mine[0] == name
        # The symbol of a version itself: readelf leaves out that it has its own version.
        assert mine[1] == version or (where == "ABS" and mine[1] == name), name
        assert mine[2:5] == (value, size, kind), name
        assert mine[5:] == (bind == "WEAK", bind == "LOCAL", where != "UND"), name


def test_relocations_and_what_they_name(path: Path) -> None:
    printed = _readelf("-r", path)
    rows = re.findall(r"^([0-9a-f]{16})  ([0-9a-f]{16}) R_X86_64_\w+ *(.*)$", printed, re.MULTILINE)
    stated = sum(
        int(n) for n in re.findall(r"^Relocation section '\.rela\..* contains (\d+) entr", printed, re.MULTILINE)
    )
    relocations = _image(path).relocations
    assert len(relocations.address) == stated == len(rows)
    expected = sorted((int(at, 16), int(info, 16) & 0xFFFFFFFF, int(info, 16) >> 32) for at, info, _ in rows)
    ours = zip(relocations.address.tolist(), relocations.kind.tolist(), relocations.symbol.tolist(), strict=True)
    assert sorted(ours) == expected
    addends = {int(at, 16): rest for at, _, rest in rows}
    for at, kind, addend in zip(
        relocations.address.tolist(), relocations.kind.tolist(), relocations.addend.tolist(), strict=True
    ):
        found = re.search(r"([+-]?) ?([0-9a-f]+)$", addends[at])
        assert found, (kind, addends[at])
        assert int(found[1] + found[2], 16) == addend


def test_packed_relocations(tmp_path: Path) -> None:
    source, library = tmp_path / "a.c", tmp_path / "a.so"
    source.write_text(_POINTERS)
    command: list[str | Path] = [
        "gcc",
        "-shared",
        "-fPIC",
        "-Wl,-z,pack-relative-relocs",
        "-Wl,--build-id",
        "-o",
        library,
        source,
    ]
    subprocess.run(command, check=True)
    image = read_image(library)
    printed = _readelf("-r", library)
    rows = re.search(r"\.relr\.dyn.*?\n +\d+ offsets\n((?:[0-9a-f]{16}\n)+)", printed)
    assert rows, printed
    assert image.relocations.relr.tolist() == [int(row, 16) for row in rows[1].split()]
    assert len(image.relocations.relr) > 70


def test_identity_needs_and_segments(path: Path) -> None:
    image = _image(path)
    assert f"Build ID: {image.build_id}\n" in _readelf("-n", path)
    dynamic = _readelf("-d", path)
    assert list(image.needed) == re.findall(r"\(NEEDED\) +Shared library: \[(.*)\]", dynamic)
    assert [image.soname] == (re.findall(r"\(SONAME\) +Library soname: \[(.*)\]", dynamic) or [""])
    rows = re.findall(
        r"^  LOAD +0x([0-9a-f]+) 0x([0-9a-f]+) 0x[0-9a-f]+ 0x([0-9a-f]+) 0x([0-9a-f]+) (...) ",
        _readelf("-l", path),
        re.MULTILINE,
    )
    ours = [
        (int(s.offset), int(s.extent.start), s.file_size, s.extent.size, s.executable, s.writable)
        for s in image.segments
    ]
    assert ours == [
        (*(int(n, 16) for n in row[:4]), "E" in row[4], "W" in row[4]) for row in rows
    ]  # fmt: skip


def test_memory_is_what_the_file_says(path: Path) -> None:
    data, image = path.read_bytes(), _image(path)
    for s in image.segments:
        assert image.read(s.extent.start, s.file_size) == data[s.offset : s.offset + s.file_size]
        assert not any(image.read(s.extent.start + s.file_size, s.extent.size - s.file_size))
