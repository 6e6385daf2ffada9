"""Which packages differ between two suites, from the lists that apt keeps and has checked."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from debian.deb822 import Deb822

from hotmend.image.deb import version_order
from hotmend.model.errors import FetchError, UsageError

ARCHITECTURE: Final = "amd64"
_HELPER = "/usr/lib/apt/apt-helper"
"""Reads apt's lists in whatever compression they are kept."""
_OS_RELEASE = Path("etc/os-release")
_NAME = re.compile(r"^Package: (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Offer:
    """A binary package as a suite offers it. `size` is that of the .deb, in bytes, `sha256` its digest."""

    package: str
    source: str
    version: str
    architecture: str
    size: int
    sha256: str = ""


class Candidate(msgspec.Struct, frozen=True):
    """A package of which the two suites have different versions: one unit of work.

    Attributes:
        source: name of its source package.
        package, old_version, new_version: what apt is asked for.
        old_bytes, new_bytes: sizes of the two .deb files.
    """

    source: str
    package: str
    old_version: str
    new_version: str
    old_bytes: int
    new_bytes: int


class Difference(msgspec.Struct, frozen=True):
    """What differs between two suites.

    Attributes:
        candidates: packages with machine code that both have, the largest first.
        unseen: source -> names of its packages that differ but are not for one architecture (scripts, data), or
            that the old suite does not have under this name.
    """

    candidates: tuple[Candidate, ...]
    unseen: dict[str, tuple[str, ...]]


def default_suites() -> tuple[str, str]:
    """Return the release of this machine and its security suite.

    Raises:
        UsageError: the machine does not say which release it is.
    """
    name = codename()
    return name, f"{name}-security"


def codename(root: Path = Path("/")) -> str:
    """Return the codename of the release of a machine whose files are under `root`.

    Raises:
        UsageError: the machine does not say which release it is.
    """
    file = root / _OS_RELEASE
    try:
        text = file.read_text()
    except OSError:
        text = ""
    match = re.search(r"^VERSION_CODENAME=\"?([a-z0-9.-]+)\"?$", text, re.MULTILINE)
    if match is None:
        raise UsageError(f"{file} does not name a release", "say on the command line what it is about")
    return match[1]


def compare_suites(old_suite: str, new_suite: str) -> Difference:
    """Return what `new_suite` has in a newer version than `old_suite`, by apt's lists on this machine.

    Raises:
        UsageError: apt has no list of one of the suites.
        FetchError: apt's lists cannot be read.
    """
    lists = _lists()
    for suite in (old_suite, new_suite):
        if suite not in lists:
            known = ", ".join(sorted(lists)) or "none"
            raise UsageError(
                f"apt has no list of packages of {suite}; it has {known}",
                "add the suite to apt's sources, and run apt-get update",
            )
    newer = list(read_offers("\n\n".join(map(_read_list, lists[new_suite]))))
    wanted = frozenset(offer.package for offer in newer)
    return difference(read_offers("\n\n".join(map(_read_list, lists[old_suite])), wanted), newer)


def difference(old: Iterator[Offer] | list[Offer], new: list[Offer]) -> Difference:
    """Return what differs; of several versions of a package in one suite the newest counts."""
    before, after = _newest(old), _newest(new)
    candidates: list[Candidate] = []
    unseen: dict[str, list[str]] = {}
    for name, offer in sorted(after.items()):
        earlier = before.get(name)
        if earlier is not None and version_order(offer.version, earlier.version) <= 0:
            continue
        if earlier is None or ARCHITECTURE not in (earlier.architecture, offer.architecture):
            unseen.setdefault(offer.source, []).append(name)
            continue
        candidates.append(Candidate(offer.source, name, earlier.version, offer.version, earlier.size, offer.size))
    candidates.sort(key=lambda c: (-c.old_bytes - c.new_bytes, c.package))
    return Difference(tuple(candidates), {source: tuple(names) for source, names in unseen.items()})


def _newest(offers: Iterator[Offer] | list[Offer]) -> dict[str, Offer]:
    found: dict[str, Offer] = {}
    for offer in offers:
        present = found.get(offer.package)
        if present is None or version_order(offer.version, present.version) > 0:
            found[offer.package] = offer
    return found


def read_offers(text: str, wanted: frozenset[str] | None = None) -> Iterator[Offer]:
    """Yield the packages of a list (deb822 stanzas). Only those in `wanted` are parsed, where it is given."""
    for stanza in text.split("\n\n"):
        name = _NAME.search(stanza)
        if name is None or (wanted is not None and name[1] not in wanted):
            continue
        fields = Deb822(stanza)
        architecture = fields.get("Architecture", "")
        if architecture not in (ARCHITECTURE, "all") or not fields.get("Version"):
            continue
        size = fields.get("Size", "0")
        yield Offer(
            name[1],
            fields.get("Source", name[1]).split(" ")[0],
            fields["Version"],
            architecture,
            int(size) if size.isdecimal() else 0,
            fields.get("SHA256", ""),
        )


def _lists() -> dict[str, list[str]]:
    """Return suite -> files of its lists of packages; a suite goes by its codename and by its name."""
    form = "$(CODENAME)\t$(SUITE)\t$(RELEASE)\t$(FILENAME)"
    done = _run(["apt-get", "indextargets", "--format", form, "Identifier: Packages", f"Architecture: {ARCHITECTURE}"])
    found: dict[str, list[str]] = {}
    for line in done.splitlines():
        *names, path = line.split("\t")
        for name in dict.fromkeys(names):
            if path not in found.setdefault(name, []):
                found[name].append(path)
    return found


def _read_list(path: str) -> str:
    return _run([_HELPER, "cat-file", path])


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False)
    except FileNotFoundError:
        raise FetchError(f"{command[0]} is not installed", "a survey needs apt") from None
    except subprocess.TimeoutExpired:
        raise FetchError(f"{command[0]} did not answer within 120 s") from None
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise FetchError(f"{command[0]}: {lines[0] if lines else 'failed'}", "run apt-get update and try again")
    return done.stdout.decode("utf-8", "replace")
