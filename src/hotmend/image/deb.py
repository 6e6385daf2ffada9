"""Debian binary packages from untrusted sources: what is in them, their versions and their changelogs.

`dpkg-deb` opens the archive and decompresses; what it writes is read as a stream with every size bounded, and
nothing is unpacked to disk. Versions and changelogs are python-debian's.
"""

from __future__ import annotations

import gzip
import io
import re
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from hotmend.image.image import IMAGE_BYTES_MAX
from hotmend.image.tar import TarStream
from hotmend.model.errors import InputError

if TYPE_CHECKING:
    from debian.deb822 import Deb822

DEB_BYTES_MAX: Final = 4 << 30
UNPACKED_BYTES_MAX: Final = 16 << 30
"""Most that a package may unpack to; it is read in pieces, not held."""
MEMBERS_MAX: Final = 500_000
ELF_BYTES_MAX: Final = 2 << 30
"""Most bytes of ELF files of one package; these are held."""
CONTROL_BYTES_MAX: Final = 64 << 20
CONTROL_FILE_BYTES_MAX: Final = 1 << 20
CHANGELOG_BYTES_MAX: Final = 32 << 20
CHANGELOG_ENTRIES_MAX: Final = 2_000

_AR_MAGIC = b"!<arch>\n"
ELF_HEAD_BYTES = 20
CHANGELOG_PATH = re.compile(r"usr/share/doc/[^/]+/changelog(\.Debian)?\.gz")
_CHUNK_BYTES = 1 << 20
_Kept = TypeVar("_Kept")
_CVE = re.compile(r"\bCVE-[0-9]{4}-[0-9]{4,19}\b")
DEBUG_FILES = "usr/lib/debug/"


@dataclass(frozen=True, slots=True)
class ElfFile:
    """An x86-64 executable or shared library of a package. `path` has no leading slash."""

    path: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Deb:
    """A Debian binary package.

    Attributes:
        package, source, version, architecture: as in its control file; `source` without a version.
        elf_files: its ELF files, sorted by path.
        changelog: text of its Debian changelog, or "" when it has none.
        file_bytes: size of the .deb file.
        siblings: packages that it depends on in exactly its own version: parts of the same source.
    """

    package: str
    source: str
    version: str
    architecture: str
    elf_files: tuple[ElfFile, ...]
    changelog: str
    file_bytes: int
    siblings: tuple[str, ...] = ()


def is_deb(path: Path) -> bool:
    """Return whether the file begins like a Debian package."""
    with path.open("rb") as file:
        return file.read(len(_AR_MAGIC)) == _AR_MAGIC


def read_deb(path: Path) -> Deb:
    """Return what is in the package at `path`.

    Raises:
        InputError: it is not a Debian package for amd64, or is damaged, or is over a limit.
    """
    try:
        size = path.stat().st_size
        if not is_deb(path):
            raise InputError(f"{path}: not a Debian package")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    if size > DEB_BYTES_MAX:
        raise InputError(f"{path}: package of {size} bytes is longer than {DEB_BYTES_MAX}")
    try:
        control = read_control(path)
        elf_files, changelog = _read_files(path)
    except InputError as error:
        raise InputError(f"{path}: {error}", error.hint) from None
    source = control.get("Source", control["Package"]).split(" ")[0]
    return Deb(
        package=control["Package"],
        source=source,
        version=control["Version"],
        architecture=control["Architecture"],
        elf_files=elf_files,
        changelog=changelog,
        file_bytes=size,
        siblings=_siblings(control),
    )


def unpack_debug_files(path: Path, directory: Path) -> None:
    """Write the debug files of a package (`/usr/lib/debug`) below a directory.

    Raises:
        InputError: the package is damaged or over a limit.
    """
    with open_archive("--fsys-tarfile", path) as archive:
        for info in archive:
            name = info.name.removeprefix("./")
            parts = name.split("/")
            if not info.isreg() or not name.startswith(DEBUG_FILES) or {"", ".", ".."} & set(parts):
                continue
            try:
                _write_member(directory.joinpath(*parts), archive, info.size)
            except OSError as error:
                raise InputError(f"{path}: {name} cannot be unpacked: {error.strerror or error}") from error


def _write_member(target: Path, archive: TarStream, size: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        while size > 0 and (chunk := archive.read(min(size, _CHUNK_BYTES))):
            size -= len(chunk)
            file.write(chunk)


def version_order(left: str, right: str) -> int:
    """Return less than 0, 0 or more than 0 as version `left` is older than, equal to or newer than `right`.

    Raises:
        InputError: one of them is no Debian version.
    """
    from debian.debian_support import Version

    try:
        one, other = Version(left), Version(right)
    except ValueError as error:
        raise InputError(f"not a Debian version: {error}") from None
    return int(one > other) - int(one < other)


def changelog_cves(changelog: str, old_version: str, new_version: str) -> tuple[str, ...]:
    """Return the CVE ids in the entries above `old_version` up to `new_version`, sorted by year and number.

    Raises:
        InputError: `changelog` is no Debian changelog.
    """
    entries = changelog_entries(changelog, old_version, new_version)
    found = {cve for entry in entries for cve in _CVE.findall(entry.text)}
    return tuple(sorted(found, key=lambda cve: [int(number) for number in cve.split("-")[1:]]))


@dataclass(frozen=True, slots=True)
class ChangelogEntry:
    """One version in a changelog.

    Attributes:
        version: of the package.
        distributions: that it was uploaded to, such as `bookworm-security`.
        urgency: as Debian writes it, in small letters.
        text: a line for each line of changes.
    """

    version: str
    distributions: str
    urgency: str
    text: str


def changelog_entries(changelog: str, old_version: str, new_version: str) -> tuple[ChangelogEntry, ...]:
    """Return the entries above `old_version` up to `new_version`, newest first.

    Raises:
        InputError: `changelog` is no Debian changelog.
    """
    from debian.changelog import Changelog, ChangelogParseError

    try:
        entries = Changelog(changelog, max_blocks=CHANGELOG_ENTRIES_MAX, allow_empty_author=True, strict=False)
    except (ChangelogParseError, ValueError) as error:
        raise InputError(f"damaged changelog: {error}") from None
    return tuple(
        ChangelogEntry(
            version,
            str(entry.distributions or ""),
            str(entry.urgency or "").lower(),
            "\n".join(entry.changes()).strip("\n"),
        )
        for entry in entries
        if version_order(version := str(entry.version), new_version) <= 0 < version_order(version, old_version)
    )


def read_control(path: Path) -> Deb822:
    """Return the control file of the package at `path`.

    Raises:
        InputError: it is damaged, or the package is for another architecture.
    """
    from debian.deb822 import Deb822

    control = Deb822()
    with open_archive("--ctrl-tarfile", path) as archive:
        for info in archive:
            if clean_name(info.name) == "control" and info.isreg():
                if info.size > CONTROL_FILE_BYTES_MAX:
                    raise InputError(f"control file of {info.size} bytes")
                control = Deb822(archive.read(info.size).decode("utf-8", "replace"))
    if any(not control.get(field) for field in ("Package", "Version", "Architecture")):
        raise InputError("the control file names no package, version or architecture")
    if control["Architecture"] not in ("amd64", "all"):
        raise InputError(f"package for {clean_name(control['Architecture'])}; hotmend knows amd64")
    version_order(control["Version"], control["Version"])
    return control


def _siblings(control: Deb822) -> tuple[str, ...]:
    depends = f"{control.get('Pre-Depends', '')}, {control.get('Depends', '')}"
    exact = re.findall(r"([a-z0-9][a-z0-9+.-]+)(?::any)? \(= ([^)\s]+)\)", depends)
    return tuple(dict.fromkeys(name for name, version in exact if version == control["Version"]))


def walk_files(
    path: Path, bytes_max: int, keep: Callable[[TarStream, bytes, tarfile.TarInfo, str], _Kept]
) -> tuple[tuple[_Kept, ...], str]:
    """Return what `keep` makes of each ELF file of a package, sorted by path, and the package's changelog.

    A hard link's other name is not another image.

    Args:
        path: the package.
        bytes_max: most bytes of all ELF files together.
        keep: gets the archive, the first bytes of the file, which have been read already, its header and its path.
    """
    kept: dict[str, _Kept] = {}
    changelogs: dict[str, str] = {}
    left = bytes_max
    with open_archive("--fsys-tarfile", path) as archive:
        for info in archive:
            name = clean_name(info.name)
            if not info.isreg() or name.startswith(DEBUG_FILES):
                continue
            if CHANGELOG_PATH.fullmatch(name):
                changelogs[name] = gunzip(archive.read(min(info.size, CHANGELOG_BYTES_MAX)))
                continue
            head = archive.read(ELF_HEAD_BYTES)
            if not is_image(head):
                continue
            left -= info.size
            if info.size > IMAGE_BYTES_MAX or left < 0:
                raise InputError(f"{name}: {info.size} bytes are more than is allowed for ELF files")
            kept[name] = keep(archive, head, info, name)
    return tuple(kept[name] for name in sorted(kept)), choose_changelog(changelogs)


def _read_files(path: Path) -> tuple[tuple[ElfFile, ...], str]:
    return walk_files(
        path, ELF_BYTES_MAX, lambda archive, head, info, name: ElfFile(name, head + archive.read(info.size))
    )


def choose_changelog(changelogs: Mapping[str, str]) -> str:
    """Return Debian's changelog out of those found by path, or "". A native package has only changelog.gz."""
    ordered = sorted(changelogs, key=lambda name: (not name.endswith(".Debian.gz"), name))
    return changelogs[ordered[0]] if ordered else ""


def is_image(head: bytes) -> bool:
    """Return whether a file begins like an image: ELF, 64 bit, little endian, type EXEC or DYN, x86-64."""
    type_, machine = head[16:18], head[18:20]
    return head[:6] == b"\x7fELF\x02\x01" and type_ in (b"\x02\0", b"\x03\0") and machine == b"\x3e\0"


def clean_name(name: str) -> str:
    """Return a member's name without `./`, fit for a terminal."""
    text = name.removeprefix("./").encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "?" for c in text)


def gunzip(data: bytes) -> str:
    """Return the text of a gzip file, or "" when it is damaged."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            return file.read(CHANGELOG_BYTES_MAX).decode("utf-8", "replace")
    except (OSError, EOFError, zlib.error):
        return ""


@contextmanager
def open_archive(option: str, path: Path) -> Iterator[TarStream]:
    """Give the tar stream that dpkg-deb writes; its own complaint is raised in place of a short stream's."""
    with tempfile.TemporaryFile() as complaints:
        try:
            process = subprocess.Popen(
                ["dpkg-deb", option, str(path.absolute())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=complaints,
            )
        except FileNotFoundError:
            raise InputError("dpkg-deb is not installed", "it comes with dpkg") from None
        assert process.stdout is not None  # noqa: S101 - Popen was told to make it
        limit = CONTROL_BYTES_MAX if option == "--ctrl-tarfile" else UNPACKED_BYTES_MAX
        failed = False
        try:
            yield TarStream(process.stdout, members_max=MEMBERS_MAX, bytes_max=limit)
            # What follows the end marker is padding; reading a little more lets dpkg-deb end by itself.
            process.stdout.read(1 << 20)
        except InputError:
            failed = True
            raise
        finally:
            process.stdout.close()
            if failed:
                process.kill()
            code = process.wait()
            complaints.seek(0)
            text = complaints.read(1000).decode("utf-8", "replace").strip()
            if code > 0 and text:
                first = "".join(c if c.isprintable() else " " for c in text.splitlines()[0])
                raise InputError(f"damaged package: {first.removeprefix('dpkg-deb: error: ')}")
