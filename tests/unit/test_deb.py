from __future__ import annotations

import io
import random
import tarfile
from pathlib import Path

import pytest

from hotmend.image import deb as deb_module
from hotmend.image.deb import changelog_cves, read_deb, version_order
from hotmend.image.tar import TarStream
from hotmend.model.errors import InputError
from tests.debs import CHANGELOG, ELF, make_deb, make_raw_deb, tar_of


def test_a_package_gives_its_images_names_and_changelog(tmp_path: Path) -> None:
    files = {
        "usr/bin/tool": ELF,
        "usr/bin/script": b"#!/bin/sh\n",
        "usr/lib/libtool.so.1": ELF + b"2",
        "usr/lib/debug/tool.debug": ELF,
        "usr/lib/arm.so": ELF[:18] + b"\xb7\0" + ELF[20:],
    }
    deb = read_deb(make_deb(tmp_path / "a.deb", files, depends="libc6, tool-common (= 1.0-3), x (= 9)"))
    assert (deb.package, deb.source, deb.version, deb.architecture) == ("tool", "tool", "1.0-3", "amd64")
    assert [(f.path, f.content) for f in deb.elf_files] == [
        ("usr/bin/tool", ELF),
        ("usr/lib/libtool.so.1", ELF + b"2"),
    ]
    assert deb.changelog == CHANGELOG
    assert deb.file_bytes == (tmp_path / "a.deb").stat().st_size
    assert deb.siblings == ("tool-common",)


def test_long_names_are_read(tmp_path: Path) -> None:
    name = "usr/lib/" + "d" * 90 + "/" + "e" * 120 + ".so"
    deb = read_deb(make_deb(tmp_path / "a.deb", {name: ELF}))
    assert [f.path for f in deb.elf_files] == [name]


def test_cves_are_those_above_the_old_version_up_to_the_new() -> None:
    assert changelog_cves(CHANGELOG, "1.0-1", "1.0-3") == ("CVE-2023-9999", "CVE-2024-2222", "CVE-2024-11111")
    assert changelog_cves(CHANGELOG, "1.0-2", "1.0-3") == ("CVE-2024-2222", "CVE-2024-11111")
    assert changelog_cves(CHANGELOG, "1.0-1", "1.0-2") == ("CVE-2023-9999",)
    assert changelog_cves(CHANGELOG, "1.0-3", "1.0-3") == ()


@pytest.mark.parametrize("version", ["", "no good", "a:1"])
def test_what_is_no_version_is_refused(version: str) -> None:
    with pytest.raises(InputError):
        version_order(version, "1.0")


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    path = make_deb(tmp_path / "a.deb", {"usr/bin/tool": ELF}, architecture="arm64")
    with pytest.raises(InputError, match="package for arm64"):
        read_deb(path)


@pytest.mark.parametrize("content", [b"", b"!<arch>\n", b"!<arch>\nnonsense", b"\x7fELF"])
def test_what_is_no_package_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.deb").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.deb: "):
        read_deb(tmp_path / "a.deb")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_deb(tmp_path / "a.deb")


def test_truncated_and_damaged_packages_are_refused_or_read(tmp_path: Path) -> None:
    whole = make_deb(tmp_path / "a.deb", {"usr/bin/tool": ELF * 50}).read_bytes()
    path = tmp_path / "b.deb"
    for size in range(0, len(whole) - 1, 101):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError):
            read_deb(path)
    dice = random.Random(7)
    for _ in range(40):
        damaged = bytearray(whole)
        damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
        path.write_bytes(damaged)
        try:
            read_deb(path)
        except InputError as error:
            assert str(error).startswith(str(path))


def test_limits_are_checked_before_sizes_are_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = ELF + bytes(50_000)
    path = make_deb(tmp_path / "a.deb", {"usr/bin/tool": large, "usr/bin/other": large})
    for limit, value in {
        "ELF_BYTES_MAX": 60_000,
        "UNPACKED_BYTES_MAX": 40_000,
        "IMAGE_BYTES_MAX": 40_000,
        "MEMBERS_MAX": 3,
        "DEB_BYTES_MAX": 100,
        "CONTROL_FILE_BYTES_MAX": 10,
    }.items():
        with monkeypatch.context() as patch:
            patch.setattr(deb_module, limit, value)
            with pytest.raises(InputError):
                read_deb(path)


def test_sizes_that_go_backwards_are_refused(tmp_path: Path) -> None:
    """Python 3.11's TarFile loops for ever on this one."""
    header = bytearray(tarfile.TarInfo("usr/bin/tool").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = (-512 & (1 << 96) - 1).to_bytes(12, "big")
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    path = make_raw_deb(tmp_path / "a.deb", bytes(header) + bytes(1024))
    with pytest.raises(InputError):
        read_deb(path)


def test_a_small_package_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deb_module, "UNPACKED_BYTES_MAX", 1 << 20)
    path = make_raw_deb(tmp_path / "a.deb", tar_of((tarfile.TarInfo("usr/share/zeros"), bytes(8 << 20))))
    with pytest.raises(InputError, match=r"claims|longer"):
        read_deb(path)


def test_names_are_fit_for_a_terminal(tmp_path: Path) -> None:
    path = make_raw_deb(tmp_path / "a.deb", tar_of((tarfile.TarInfo("./usr/bin/\x1b[31mred"), ELF)))
    assert [f.path for f in read_deb(path).elf_files] == ["usr/bin/?[31mred"]


def test_a_tar_stream_gives_what_tarfile_wrote() -> None:
    members = [("a" * 150, b"one"), ("b", b""), ("c", bytes(1000))]
    blob = tar_of(*((tarfile.TarInfo(name), data) for name, data in members))
    stream = TarStream(io.BytesIO(blob), members_max=10, bytes_max=1 << 20)
    assert [(info.name, stream.read(info.size)) for info in stream] == members


def test_a_tar_stream_with_too_many_members_is_refused() -> None:
    blob = tar_of(*((tarfile.TarInfo(str(n)), b"x") for n in range(5)))
    with pytest.raises(InputError, match="more than 4 members"):
        list(TarStream(io.BytesIO(blob), members_max=4, bytes_max=1 << 20))


def test_a_name_without_end_is_refused() -> None:
    info = tarfile.TarInfo("x")
    info.type = tarfile.GNUTYPE_LONGNAME
    blob = tar_of((info, b"n" * 100_000))
    with pytest.raises(InputError, match="a name of"):
        list(TarStream(io.BytesIO(blob), members_max=4, bytes_max=1 << 20))
