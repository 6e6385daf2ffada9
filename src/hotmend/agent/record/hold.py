"""The brake: while a file is there, nothing on this machine is changed by the agent.

A file is enough, an empty one too: it works with no server, network or database, and with the agent stopped. What the
file says is for people and for its end; what cannot be read holds for ever.
"""

from __future__ import annotations

import contextlib
import os
import tomllib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

_BYTES_MAX: Final = 10_000


class _Content(msgspec.Struct, frozen=True):
    until: Annotated[datetime, Meta(tz=True)] | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold that is in force.

    Attributes:
        until: when it ends by itself; None: when the file is removed.
        reason: for people.
    """

    until: datetime | None
    reason: str

    def __str__(self) -> str:
        """Return it as a sentence."""
        end = f"until {self.until.isoformat(timespec='minutes')}" if self.until else "until it is released"
        return f"on hold {end}" + (f": {self.reason}" if self.reason else "")


def read_hold(file: Path, now: datetime) -> Hold | None:
    """Return the hold in force at `now`; None where there is none."""
    try:
        with file.open("rb") as stream:
            text = stream.read(_BYTES_MAX + 1)
        if len(text) > _BYTES_MAX:
            raise ValueError("too long")
        content = msgspec.convert(tomllib.loads(text.decode()), _Content)
    except FileNotFoundError:
        return Hold(None, f"{file} is a link that leads nowhere") if file.is_symlink() else None
    except (OSError, ValueError, msgspec.ValidationError) as error:
        return Hold(None, f"{file} is there and cannot be read ({error})")
    if content.until is not None and content.until <= now:
        return None
    return Hold(content.until, content.reason)


def begin_hold(file: Path, until: datetime | None, reason: str) -> None:
    """Put the file there, on the disk, whole or not at all."""
    lines = [f"until = {until.isoformat()}\n"] if until is not None else []
    lines += [f"reason = {msgspec.json.encode(reason).decode()}\n"] if reason else []
    file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        with new.open("w", encoding="utf-8") as stream:
            stream.writelines(lines)
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(file)
    finally:
        with contextlib.suppress(FileNotFoundError):
            new.unlink()


def end_hold(file: Path) -> bool:
    """Remove the file; return whether there was one."""
    try:
        file.unlink()
    except FileNotFoundError:
        return False
    return True
