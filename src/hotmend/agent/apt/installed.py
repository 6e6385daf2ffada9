"""A package as it is installed: its ELF files from the disk, each as the package manager put it there."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hotmend.image.deb import DEBUG_FILES, ELF_HEAD_BYTES, Deb, ElfFile, is_image
from hotmend.model.errors import InputError

_DPKG_SECONDS_MAX = 60
_FORMAT = "${Package}\\t${source:Package}\\t${Version}\\t${Architecture}\\n"


@dataclass(frozen=True, slots=True)
class InstalledFile:
    """A regular file of a package: path without leading slash, MD5 sum as in the package."""

    path: str
    md5: str


def parse_md5sums(text: str) -> tuple[InstalledFile, ...]:
    """Return the rows of a package's `md5sums`."""
    rows = (line.split(None, 1) for line in text.splitlines())
    return tuple(InstalledFile(row[1].removeprefix("./"), row[0]) for row in rows if len(row) == 2)


def elf_files(package: str, root: Path = Path("/")) -> tuple[InstalledFile, ...]:
    """Return the x86-64 programs and libraries of an installed package that are there.

    Raises:
        InputError: it is not installed.
    """
    files = parse_md5sums(dpkg_query("--control-show", package, "md5sums"))
    return tuple(f for f in files if not f.path.startswith(DEBUG_FILES) and _is_image(root / f.path))


def read_installed(package: str, files: Iterable[InstalledFile], root: Path = Path("/")) -> Deb:
    """Return a package as it is installed; it has no changelog, and no size of its own.

    Args:
        package: its name, with `:ARCHITECTURE` where there may be several.
        files: its programs and libraries, from `elf_files`.
        root: where the machine's files are.

    Raises:
        InputError: it is not installed, or one of its programs is not what the package holds.
    """
    name, source, version, architecture = dpkg_query("--show", f"--showformat={_FORMAT}", package).split()[:4]
    read = sorted((_read(root, file, name) for file in files), key=lambda f: f.path)
    return Deb(name, source, version, architecture, tuple(read), "", 0)


def service_names(package: str) -> tuple[str, ...]:
    """Return the names of the services that a package brings: units, and scripts of init, without suffix."""
    names: dict[str, None] = {}
    for line in dpkg_query("--listfiles", package).splitlines():
        path = Path(line)
        if path.parent.as_posix() in ("/lib/systemd/system", "/usr/lib/systemd/system") and path.suffix == ".service":
            names[path.stem.removesuffix("@")] = None
        elif path.parent.as_posix() == "/etc/init.d":
            names[path.name] = None
    return tuple(names)


def package_of(path: str) -> str:
    """Return package and installed version that a path belongs to, `nginx 1.22.1-9`; "" where it is of none.

    Since `/lib` and its like became links into `/usr`, packages name their files either way.
    """
    for name in dict.fromkeys((path, path.removeprefix("/usr"))):
        try:
            package = dpkg_query("--search", name).splitlines()[0].partition(": ")[0]
            version = dpkg_query("--show", "--showformat=${Version}", package)
        except (InputError, IndexError):
            continue
        return f"{package.partition(':')[0]} {version}"
    return ""


def _is_image(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return is_image(file.read(ELF_HEAD_BYTES))
    except OSError:
        return False


def _read(root: Path, file: InstalledFile, package: str) -> ElfFile:
    try:
        content = (root / file.path).read_bytes()
    except OSError as error:
        raise InputError(f"/{file.path}: {error.strerror or error}") from error
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != file.md5:
        raise InputError(
            f"/{file.path} is not what package {package} holds", f"put it back: apt-get install --reinstall {package}"
        )
    return ElfFile(file.path, content)


def dpkg_query(*arguments: str) -> str:
    """Run dpkg-query and return what it printed; `InputError` where it fails."""
    try:
        done = subprocess.run(
            ["dpkg-query", *arguments],
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=_DPKG_SECONDS_MAX,
            check=False,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise InputError(f"dpkg-query: {error}") from error
    if done.returncode:
        raise InputError(f"dpkg-query: {done.stderr.strip().removeprefix('dpkg-query: ')}")
    return done.stdout
