"""Packages from the distribution's archive, by apt, without installing anything."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hotmend.linux.apt import call_apt
from hotmend.linux.outside import outside
from hotmend.model.errors import FetchError

CHANGELOG_SECONDS_MAX: Final = 30
_SPEC = re.compile(r"(?P<package>[a-z0-9][a-z0-9+.-]+(:[a-z0-9]+)?)=(?P<version>[0-9A-Za-z.+~:-]+)")


@dataclass(frozen=True, slots=True)
class PackageVersion:
    """`PACKAGE=VERSION`, as apt takes it."""

    package: str
    version: str

    def __str__(self) -> str:
        """Return it as it is given on the command line."""
        return f"{self.package}={self.version}"


def parse_spec(text: str) -> PackageVersion | None:
    """Return the package and version that `text` names, or None when it is something else."""
    match = _SPEC.fullmatch(text)
    return PackageVersion(match["package"], match["version"]) if match else None


def cache_directory() -> Path:
    """Return where fetched packages are kept: `$XDG_CACHE_HOME/hotmend/debs`."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "hotmend" / "debs"


def fetch(wanted: PackageVersion) -> Path:
    """Return the .deb file of `wanted`, from the cache or downloaded into it.

    apt checks the signature of its lists and the file's hash against them.

    Raises:
        FetchError: apt is missing or does not offer it; the message names the versions it offers.
    """
    cache = cache_directory()
    if (present := find(cache, wanted)) is not None:
        return present
    found = fetch_many([wanted], cache)
    if len(found) != 1:
        raise FetchError(f"apt downloaded {len(found)} files for {wanted}")
    return found[0]


def fetch_many(wanted: Sequence[PackageVersion], directory: Path) -> tuple[Path, ...]:
    """Download the packages into `directory` with one call of apt, and return the files.

    apt checks the signature of its lists and the files' hashes against them.

    Raises:
        FetchError: apt is missing, or one of them cannot be had; then none is kept.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory) as download:
            # The sandbox user may not be able to reach a cache in somebody's home.
            command = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *map(str, wanted)]
            _apt(command, wanted, download)
            return tuple(path.replace(directory / path.name) for path in Path(download).glob("*.deb"))
    except OSError as error:
        raise FetchError(f"{directory}: {error.strerror or error}") from error


def find(cache: Path, wanted: PackageVersion) -> Path | None:
    """Return the file as apt names it, if it is there: PACKAGE_VERSION_ARCHITECTURE.deb with `:` written as %3a."""
    package = wanted.package.partition(":")[0]
    names = [f"{package}_{wanted.version.replace(':', '%3a')}_{word}.deb" for word in ("amd64", "all")]
    return next((cache / name for name in names if (cache / name).exists()), None)


def offered_versions(package: str) -> tuple[str, ...]:
    """Return the versions of `package` that apt's lists offer, newest first."""
    try:
        done = subprocess.run(
            ["apt-cache", "madison", package], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    rows = [[cell.strip() for cell in line.split("|")] for line in done.stdout.splitlines()]
    bare = package.partition(":")[0]
    binary = (row for row in rows if len(row) == 3 and row[0] == bare and not row[2].endswith("Sources"))
    return tuple(dict.fromkeys(row[1] for row in binary))


def fetch_changelog(wanted: PackageVersion) -> str:
    """Return the changelog the distribution publishes for `wanted`, or "" when it cannot be had."""
    variables = {"PAGER": "cat", "LC_ALL": "C.UTF-8"}
    command = ["apt-get", "-q", "-o", "Acquire::Retries=0", "changelog", str(wanted)]
    try:
        done = subprocess.run(
            outside(command, variables, seconds_max=CHANGELOG_SECONDS_MAX),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=CHANGELOG_SECONDS_MAX,
            env=os.environ | variables,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    if done.returncode:
        return ""
    text = done.stdout.decode("utf-8", "replace")
    start = re.search(r"^[a-z0-9][a-z0-9+.-]+ \(", text, re.MULTILINE)
    return text[start.start() :] if start else ""


def fetch_patches(source: PackageVersion) -> Path | None:
    """Return the Debian part of a source package (its patches), or None when apt does not offer it.

    apt offers sources only where its configuration has `deb-src` lines.
    """
    cache = cache_directory()
    version = source.version.partition(":")[2] or source.version
    name = f"{source.package}_{version}.debian.tar.xz"
    if (cache / name).exists():
        return cache / name
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as directory:
            command = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "source", "--download-only", "--diff-only"]
            _apt([*command, str(source)], [source], directory)
            found = Path(directory, name)
            return found.replace(cache / name) if found.exists() else None
    except (FetchError, OSError):
        return None


def _apt(command: list[str], wanted: Sequence[PackageVersion], directory: str) -> None:
    hint = "give two .deb or ELF files instead"
    done = call_apt(command, {"LC_ALL": "C.UTF-8"}, directory=directory, hint=hint)
    if done.returncode:
        raise _explain_first(wanted, done.stderr)


def _explain_first(wanted: Sequence[PackageVersion], complaints: str) -> FetchError:
    """Return the error about the first package that apt does not offer, or about the first at all."""
    for one in wanted:
        if one.version not in offered_versions(one.package):
            return _explain(one, complaints)
    return _explain(wanted[0], complaints)


def _explain(wanted: PackageVersion, complaints: str) -> FetchError:
    offered = offered_versions(wanted.package)
    if not offered:
        return FetchError(
            f"apt knows no package {wanted.package}", "run apt-get update, and check the name of the package"
        )
    if wanted.version not in offered:
        return FetchError(
            f"apt does not offer {wanted}; it offers {', '.join(offered)}",
            "run apt-get update, or give the .deb file itself",
        )
    lines = [line.removeprefix("E: ") for line in complaints.splitlines() if line.startswith("E: ")]
    reason = lines[0] if lines else "apt-get failed"
    return FetchError(f"apt could not fetch {wanted}: {reason}", "run apt-get update and try again")
