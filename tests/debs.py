"""Debian packages for tests, made by dpkg-deb, or byte by byte where dpkg-deb would refuse."""

from __future__ import annotations

import gzip
import io
import lzma
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

ELF = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\0\x3e\0" + b"a small image"
"""What the reader of packages takes for an x86-64 shared library."""

CHANGELOG = """\
tool (1.0-3) bookworm-security; urgency=high

  * Fix CVE-2024-2222 and CVE-2024-11111.

 -- A Maintainer <a@example.org>  Wed, 03 Jan 2024 00:00:00 +0000

tool (1.0-2) bookworm-security; urgency=high

  * CVE-2023-9999: length was not checked

 -- A Maintainer <a@example.org>  Tue, 02 Jan 2024 00:00:00 +0000

tool (1.0-1) unstable; urgency=medium

  * New upstream release, fixes CVE-2020-1234.

 -- A Maintainer <a@example.org>  Mon, 01 Jan 2024 00:00:00 +0000
"""


def make_deb(
    path: Path,
    files: Mapping[str, bytes],
    *,
    package: str = "tool",
    version: str = "1.0-3",
    architecture: str = "amd64",
    changelog: str = CHANGELOG,
    depends: str = "",
) -> Path:
    """Make a package with `files` at `path`."""
    root = path.with_suffix(".root")
    (root / "DEBIAN").mkdir(parents=True)
    control = f"Package: {package}\nVersion: {version}\nArchitecture: {architecture}\n"
    control += "Maintainer: A Maintainer <a@example.org>\nDescription: a tool\n"
    control += f"Depends: {depends}\n" if depends else ""
    (root / "DEBIAN" / "control").write_text(control)
    contents = dict(files)
    if changelog:
        contents[f"usr/share/doc/{package}/changelog.Debian.gz"] = gzip.compress(changelog.encode())
    for name, data in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", root, path], check=True, capture_output=True)
    return path


def make_raw_deb(path: Path, data_tar: bytes) -> Path:
    """Make a package whose data archive is `data_tar`, whatever that is."""
    control = io.BytesIO()
    with tarfile.open(fileobj=control, mode="w") as archive:
        text = b"Package: tool\nVersion: 1.0-3\nArchitecture: amd64\n"
        info = tarfile.TarInfo("./control")
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text))
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": lzma.compress(control.getvalue()),
        "data.tar.xz": lzma.compress(data_tar),
    }
    blob = b"!<arch>\n"
    for name, data in members.items():
        blob += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode()
        blob += data + b"\n" * (len(data) % 2)
    path.write_bytes(blob)
    return path


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """Return an uncompressed tar archive."""
    blob = io.BytesIO()
    with tarfile.open(fileobj=blob, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return blob.getvalue()
