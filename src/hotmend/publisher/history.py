"""What a machine has installed: the logs of dpkg and apt, read and never written."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

from hotmend.image.deb import CHANGELOG_BYTES_MAX, ChangelogEntry, changelog_entries, gunzip
from hotmend.model.errors import InputError

LOG_BYTES_MAX: Final = 256 << 20
"""Most that one log may unpack to."""
_DPKG = re.compile(
    r"^(?P<day>\d{4}-\d\d-\d\d) [\d:]{8} (?P<what>upgrade|install) (?P<package>[^ :]+):(?P<architecture>\S+) "
    r"(?P<old>\S+) (?P<new>\S+)$",
    re.MULTILINE,
)
_START = re.compile(r"^Start-Date: (\d{4}-\d\d-\d\d)", re.MULTILINE)
_CHANGE = re.compile(r"^(?P<what>Upgrade|Install): (?P<changes>.*)$", re.MULTILINE)
_ITEM = re.compile(r"(?P<package>[^ :,]+):(?P<architecture>\S+) \((?P<versions>[^)]*)\)")
_KERNEL = re.compile(r"linux-image-\d.*")


@dataclass(frozen=True, slots=True, order=True)
class Installed:
    """A package that came in. `old_version` is "" where there was none."""

    day: date
    package: str
    old_version: str
    new_version: str

    @property
    def is_kernel(self) -> bool:
        """Whether it is a kernel: each version is a package of its own, and runs after a reboot."""
        return _KERNEL.fullmatch(self.package) is not None


@dataclass(frozen=True, slots=True)
class History:
    """What the logs say.

    Attributes:
        first: day of the oldest line, None where there is no log.
        installed: all packages that came in, oldest first, each once.
    """

    first: date | None
    installed: tuple[Installed, ...]


def history_read(root: Path = Path("/")) -> History:
    """Return what the logs of a machine say, those that were rotated included.

    Raises:
        InputError: a log cannot be read.
    """
    found: set[Installed] = set()
    days: list[date] = []
    for folder, name, parse in (("var/log", "dpkg.log", _dpkg), ("var/log/apt", "history.log", _apt)):
        for path in sorted((root / folder).glob(f"{name}*")):
            items = list(parse(_text(path)))
            found.update(items)
            days += [item.day for item in items]
    return History(min(days, default=None), tuple(sorted(found)))


def _text(path: Path) -> str:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(LOG_BYTES_MAX + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: {error}", "the logs can be read by root and the group adm") from None
    if len(data) > LOG_BYTES_MAX:
        raise InputError(f"{path}: longer than {LOG_BYTES_MAX} bytes")
    return data.decode("utf-8", "replace")


def _dpkg(text: str) -> Iterator[Installed]:
    for line in _DPKG.finditer(text):
        old = "" if line["what"] == "install" or line["old"] == "<none>" else line["old"]
        if old != line["new"]:
            yield Installed(date.fromisoformat(line["day"]), line["package"], old, line["new"])


def _apt(text: str) -> Iterator[Installed]:
    for block in re.split(r"\n\n+", text):
        start = _START.search(block)
        if start is None:
            continue
        for line in _CHANGE.finditer(block):
            for item in _ITEM.finditer(line["changes"]):
                versions = [version.strip() for version in item["versions"].split(",")]
                day = date.fromisoformat(start[1])
                if line["what"] == "Upgrade" and len(versions) == 2:
                    yield Installed(day, item["package"], *versions)
                elif line["what"] == "Install" and versions[0]:
                    yield Installed(day, item["package"], "", versions[0])


def changes_of(installed: Iterable[Installed], root: Path = Path("/")) -> dict[Installed, tuple[ChangelogEntry, ...]]:
    """Return what the changelogs that are installed say of upgrades; nothing for those that do not go back that far."""
    texts: dict[str, str] = {}
    found = {}
    for item in installed:
        if item.package not in texts:
            texts[item.package] = _changelog(root / "usr/share/doc" / item.package)
        try:
            found[item] = (
                changelog_entries(texts[item.package], item.old_version, item.new_version)
                if texts[item.package] and item.old_version
                else ()
            )
        except InputError:
            found[item] = ()
    return found


def _changelog(folder: Path) -> str:
    for name in ("changelog.Debian.gz", "changelog.gz"):
        path = folder / name
        try:
            if path.is_file() and path.stat().st_size <= CHANGELOG_BYTES_MAX:
                return gunzip(path.read_bytes())
        except OSError:
            continue
    return ""
