"""Packages that apt keeps in its own cache, as the mode `download` has it fill that; `apt-get download` never looks."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from hotmend.linux.apt import call_apt
from hotmend.publisher import feed
from hotmend.publisher.feed import PackageVersion

ARCHIVES: Final = Path("/var/cache/apt/archives")
_FIELD = re.compile(r"(?P<name>Package|Version|SHA256): (?P<value>\S+)")


def take_kept(wanted: Iterable[PackageVersion], place: Path, archives: Path = ARCHIVES) -> frozenset[PackageVersion]:
    """Copy packages that are kept already into `place`; return which those are.

    Each copy has the hash that apt's signed lists give for it; one that has another is not taken.

    Raises:
        FetchError: apt is missing.
    """
    kept = {one: file for one in wanted if (file := feed.find(archives, one)) is not None}
    hashes = _hashes(list(kept)) if kept else {}
    taken = set()
    for one, file in kept.items():
        copy = place / file.name
        try:
            shutil.copyfile(file, copy)
            with copy.open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError:  # it is downloaded then
            found = ""
        if found and found in hashes.get((one.package, one.version), ()):
            taken.add(one)
        else:
            copy.unlink(missing_ok=True)
    return frozenset(taken)


def _hashes(wanted: Sequence[PackageVersion]) -> dict[tuple[str, str], set[str]]:
    """Return the hashes that apt's lists have, by name and version; none where it cannot say."""
    done = call_apt(["apt-cache", "show", *map(str, wanted)], {"LC_ALL": "C.UTF-8"})
    return parse_hashes(done.stdout)


def parse_hashes(text: str) -> dict[tuple[str, str], set[str]]:
    """Return the SHA256 of packages in what `apt-cache show` prints, by name and version."""
    found: dict[tuple[str, str], set[str]] = {}
    for record in text.split("\n\n"):
        fields = {field["name"]: field["value"] for field in map(_FIELD.fullmatch, record.splitlines()) if field}
        if len(fields) == len(("Package", "Version", "SHA256")):
            found.setdefault((fields["Package"], fields["Version"]), set()).add(fields["SHA256"])
    return found
