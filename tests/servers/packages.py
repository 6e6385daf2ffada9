"""Stock package pairs: the build a released Debian ships and the one its security archive ships.

Packages are downloaded into a cache and unpacked with `dpkg-deb -x`; nothing is installed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import unquote

CACHE_DIR = Path.home() / ".cache" / "hotmend" / "debs"
APT_SECONDS_MAX = 300
ARCHITECTURE = "amd64"


class ArchiveError(RuntimeError):
    """The archive does not offer what a test needs. Tests fail on it, they never skip."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One version of a package as the archive offers it.

    Attributes:
        version: Debian version, with epoch.
        security: whether a security suite offers it.
    """

    version: str
    security: bool


@dataclass(frozen=True, slots=True)
class Pair:
    """The old and the new build of one package, as files.

    Attributes:
        package: binary package name.
        old, new: `.deb` files.
        old_version, new_version: their Debian versions.
    """

    package: str
    old: Path
    new: Path
    old_version: str
    new_version: str


def pair_find(package: str) -> Pair:
    """Return the pair of `package`, downloaded.

    Raises:
        ArchiveError: the archive offers fewer than two versions.
    """
    old, new = _versions_find(package)
    return Pair(package, deb_fetch(package, old), deb_fetch(package, new), old, new)


@cache
def _versions_find(package: str) -> tuple[str, str]:
    chosen = versions_choose(offers_list(package))
    if chosen is None:
        _apt("apt-get", "update", "-qq")
        chosen = versions_choose(offers_list(package))
    if chosen is None:
        raise ArchiveError(f"the archive offers only one version of {package}: no pair of builds to test")
    return chosen


def versions_choose(offers: list[Offer]) -> tuple[str, str] | None:
    """Return (old, new): the newest released and the newest security version.

    Where these are no pair (one suite is empty, or the release has caught up) the oldest and the newest
    version on offer are taken; where that is one version, None.
    """
    everything = [offer.version for offer in offers]
    released = [offer.version for offer in offers if not offer.security]
    security = [offer.version for offer in offers if offer.security]
    if released and security and version_less(max_version(released), max_version(security)):
        return max_version(released), max_version(security)
    old, new = min_version(everything), max_version(everything)
    return (old, new) if version_less(old, new) else None


def offers_list(package: str) -> list[Offer]:
    """Return what `apt-cache madison` prints about `package`.

    Raises:
        ArchiveError: the package is unknown even after `apt-get update`.
    """
    printed = _apt("apt-cache", "madison", package)
    if not printed.strip():
        _apt("apt-get", "update", "-qq")
        printed = _apt("apt-cache", "madison", package)
    offers = []
    for line in printed.splitlines():
        name, version, source = (part.strip() for part in line.split("|"))
        if name == package and not source.endswith("Sources"):
            offers.append(Offer(version, "-security" in source))
    if not offers:
        raise ArchiveError(f"the archive does not know the package {package}")
    return offers


def version_less(left: str, right: str) -> bool:
    """Return whether `left` is the older Debian version."""
    return subprocess.run(["dpkg", "--compare-versions", left, "lt", right], check=False).returncode == 0


def max_version(versions: list[str]) -> str:
    """Return the newest of `versions`."""
    best = versions[0]
    for version in versions[1:]:
        best = version if version_less(best, version) else best
    return best


def min_version(versions: list[str]) -> str:
    """Return the oldest of `versions`."""
    best = versions[0]
    for version in versions[1:]:
        best = version if version_less(version, best) else best
    return best


def candidate_version(package: str) -> str:
    """Return the newest version on offer, for a library that a server needs at run time."""
    return max_version([o.version for o in offers_list(package)])


def deb_fetch(package: str, version: str) -> Path:
    """Return the `.deb` of `package` at `version` from the cache, downloading it when missing."""
    CACHE_DIR.mkdir(parents=True, exist_ok=True)
    present = _deb_cached(package, version)
    if present is None:
        _apt("apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", f"{package}={version}", cwd=CACHE_DIR)
        present = _deb_cached(package, version)
    if present is None:
        raise ArchiveError(f"apt-get download {package}={version} left no file")
    return present


def _deb_cached(package: str, version: str) -> Path | None:
    for path in CACHE_DIR.glob(f"{package}_*.deb"):
        name, found, architecture = [*path.stem.rsplit("_", 2), "", ""][:3]
        if name == package and unquote(found) == version and architecture in (ARCHITECTURE, "all"):
            return path
    return None


def deb_unpack(deb: Path, target: Path) -> Path:
    """Unpack the files of `deb` below `target`, without running anything of it; return `target`."""
    target.mkdir(parents=True, exist_ok=True)
    subprocess.run(["dpkg-deb", "-x", str(deb), str(target)], check=True, timeout=APT_SECONDS_MAX)
    target.chmod(0o755)
    return target


def changelog_cves(tree: Path, package: str, since: str) -> list[str]:
    """Return the CVE ids that the Debian changelog names above the entry of version `since`."""
    path = tree / "usr/share/doc" / package / "changelog.Debian.gz"
    text = subprocess.run(["zcat", str(path)], check=True, capture_output=True, text=True).stdout
    above = text.split(f"({since})", 1)[0]
    return sorted(set(re.findall(r"CVE-\d{4}-\d{4,7}", above)))


def tool_require(name: str) -> str:
    """Return the path of a load generator or fail with the package that has it."""
    owner = {"wrk": "wrk", "ab": "apache2-utils", "redis-benchmark": "redis-tools"}.get(name, name)
    path = shutil.which(name)
    if path is None:
        raise ArchiveError(f"{name} is not installed: apt-get install {owner}")
    return path


def _apt(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True, timeout=APT_SECONDS_MAX)
    if done.returncode != 0:
        raise ArchiveError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
