"""apt's own answer, kept for as long as nothing that apt reads has changed.

What an upgrade would install takes apt seconds of processor time where much is waiting, and is the same from one turn
to the next until its lists, its configuration or what is installed change: each is a file.
"""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from hotmend.model.errors import HotmendError
from hotmend.package.files import write_file

AGE_MAX: Final = timedelta(hours=24)
"""Then apt is asked all the same, should it read what is not known here."""
_BYTES_MAX: Final = 16 << 20
_SECONDS_MAX: Final = 60
_PLACES: Final = (
    *("Dir::Etc/d", "Dir::Etc::main/f", "Dir::Etc::parts/d", "Dir::Etc::sourcelist/f", "Dir::Etc::sourceparts/d"),
    *("Dir::Etc::preferences/f", "Dir::Etc::preferencesparts/d"),
    *("Dir::State::lists/d", "Dir::State::status/f", "Dir::State::extended_states/f"),
)


class _Answer(msgspec.Struct, frozen=True):
    """What apt said, when, and the digest of what it read."""

    inputs: str
    at: Annotated[datetime, Meta(tz=True)]
    text: str


def remembered(file: Path, ask: Callable[[], str], now: datetime | None = None) -> str:
    """Return what `ask` would.

    Args:
        file: where the last answer is kept; only root may write there.
        ask: runs apt, always in the same way.
        now: for the age of the answer.

    Raises:
        FetchError: as `ask` does; nothing is kept then.
    """
    now = datetime.now(UTC) if now is None else now
    inputs = _inputs()  # before the question: what changes meanwhile makes the answer an old one
    kept = _read(file)
    if kept is not None and inputs and kept.inputs == inputs and timedelta(0) <= now - kept.at < AGE_MAX:
        return kept.text
    text = ask()
    with contextlib.suppress(OSError, HotmendError):  # apt is asked again then
        file.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        write_file(file, msgspec.json.encode(_Answer(inputs, now, text)))
    return text


def _inputs() -> str:
    """Return a digest of apt's configuration, and of names, sizes and times of what it reads; "": there is none."""
    pairs = [word for number, place in enumerate(_PLACES) for word in (f"P{number}", place)]
    try:
        digest = hashlib.sha256(_apt_config("dump").encode(errors="surrogateescape"))
        for line in _apt_config("shell", *pairs).splitlines():
            place = Path(line.partition("=")[2].strip("'"))
            for path in _all(place):
                digest.update(_row(path).encode(errors="surrogateescape"))
    except (OSError, subprocess.SubprocessError):
        return ""
    return digest.hexdigest()


def _all(place: Path) -> Iterator[Path]:
    """Yield a place and what is below it, and below the folders that it has links to."""
    for path in (place, *sorted(place.rglob("*"))):
        yield path
        if path.is_symlink() and path.is_dir():
            yield from sorted(path.resolve().rglob("*"))


def _row(path: Path) -> str:
    try:
        status = path.stat()
    except FileNotFoundError:  # a link to nothing, or a place that apt does without
        return f"{path}\0\n"
    return f"{path}\0{(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)}\n"


def _apt_config(*arguments: str) -> str:
    return subprocess.run(
        ["apt-config", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=_SECONDS_MAX,
        check=True,
    ).stdout


def _read(file: Path) -> _Answer | None:
    try:
        with file.open("rb") as stream:
            return msgspec.json.decode(stream.read(_BYTES_MAX), type=_Answer)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
