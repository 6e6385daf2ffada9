"""Builds that hold the same code, as comparisons on this machine have shown; kept.

Memory shows which hotpatch is active. That another library, which was exchanged as well, holds the code that it held
before, only the comparison knew.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from hotmend.model.hotpatch import Outcome
from hotmend.model.verdict import Verdict

_FILE_BYTES_MAX: Final = 64 << 20


class Row(msgspec.Struct, frozen=True):
    """Build-ids of two builds with the same code."""

    old: str
    new: str


def read_same_code(file: Path) -> frozenset[Row]:
    """Return all that is kept; a line that is none says nothing, and neither does a file that cannot be read."""
    try:
        with file.open("rb") as stream:
            lines = stream.read(_FILE_BYTES_MAX).splitlines()
    except OSError:
        return frozenset()
    found = set()
    for line in lines:
        try:
            found.add(msgspec.json.decode(line, type=Row))
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
    return frozenset(found)


def keep_same_code(file: Path, outcomes: Iterable[Outcome]) -> None:
    """Add what comparisons have shown. Where it cannot be written, more restarts are due than need be."""
    same = (o for o in outcomes if o.verdict is Verdict.NO_CHANGE and o.old_build_id and o.new_build_id)
    rows = {Row(o.old_build_id, o.new_build_id) for o in same} - read_same_code(file)
    if not rows:
        return
    with contextlib.suppress(OSError):
        file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with file.open("ab") as stream:
            stream.write(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
