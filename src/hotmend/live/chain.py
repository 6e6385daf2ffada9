"""The audit record: one JSON object a line, each with the hash of the line before it. Pure: lines in, findings out.

A line cannot be changed, left out or put in without breaking the chain behind it. That lines at the very end were taken
away cannot be seen from the file alone: whoever wants that keeps `head`, the last hash, somewhere else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

GENESIS = "0" * 64
"""What the first line has for the hash of the line before it."""

LINE_BYTES_MAX = 1 << 20
DEFAULT_FILE = Path("/var/log/hotmend/audit.jsonl")


class AuditRecord(msgspec.Struct, frozen=True, omit_defaults=False):
    """One line.

    Attributes:
        number: from 1.
        previous: SHA-256 of the line before it, without its line end.
        at: UTC, ISO 8601.
        phase: `before` the first write into the process, `after` the last one, or `torn`: the line before this one was
            cut off by a crash, `outcome` says how.
        change: number of the `before` line of the same change; 0 for `torn`.
        deed: `apply`, `revert` or `repair`.
        steps: what is to be done, in order.
        uid, login_uid: who; the second is who logged in, None where nobody did.
        patcher_pid, patcher_command_line: the process that writes this.
        pid, start_time_ticks, command_line: the process that is changed.
        hotpatches: their ids.
        images: path, old and new build-id of each image.
        shadow_sha256: of the memory to be filled with new code, "" where it is there already.
        list_sha256: of the dynamic linker's three words that say which list of images the unwinder reads, at this
            moment; "" where the update has no row there.
        entries_sha256: of the entries and the gate as they are at this moment; "" if the process is gone.
        state: in which the process is at this moment (see `status`); "" if it is gone.
        outcome: `after`: the result, with the codes of its reasons.
    """

    number: int
    previous: str
    at: str
    phase: str
    change: int = 0
    deed: str = ""
    steps: tuple[str, ...] = ()
    uid: int = 0
    login_uid: int | None = None
    patcher_pid: int = 0
    patcher_command_line: str = ""
    pid: int = 0
    start_time_ticks: int = 0
    command_line: str = ""
    hotpatches: tuple[str, ...] = ()
    images: tuple[tuple[str, str, str], ...] = ()
    shadow_sha256: str = ""
    list_sha256: str = ""
    entries_sha256: str = ""
    state: str = ""
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """What checking a file gave.

    Attributes:
        records: of the lines up to the first that does not fit.
        head: hash of the last line that fits.
        torn: bytes of a last line that is not whole: a crash, which the next record will note.
        error: why the chain is broken; "" if it is whole.
        unfinished: `before` records without their `after`: the patcher died, or is still at work.
    """

    records: tuple[AuditRecord, ...]
    head: str
    torn: int
    error: str
    unfinished: tuple[AuditRecord, ...]


def line_hash(line: bytes) -> str:
    """Return the hash that the next line has to name."""
    return hashlib.sha256(line).hexdigest()


def encode_record(record: AuditRecord) -> bytes:
    """Return the line, without its end."""
    return msgspec.json.encode(record)


def decode_record(line: bytes) -> AuditRecord | None:
    """Return the record of a line; None if it is none."""
    try:
        return msgspec.json.decode(line, type=AuditRecord)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        return None


def torn_outcome(cut: bytes) -> str:
    """Return how the record behind a cut-off line speaks of it."""
    return f"{len(cut)} bytes, sha256 {line_hash(cut)}"


def check_chain(lines: Iterable[bytes]) -> Checked:
    """Check the lines of a file, each with its end, which only the last one may lack.

    Lines that do not follow are a crash if the record behind them says so, or if nothing stands behind them and the
    last of them was not ended.
    """
    records: list[AuditRecord] = []
    head, strange, strange_at = GENESIS, b"", 0
    for number, raw in enumerate(lines, 1):
        record = decode_record(raw)
        if record is not None and _follows(record, len(records), head, strange):
            records.append(record)
            head, strange = line_hash(raw.removesuffix(b"\n")), b""
        else:
            strange_at = strange_at if strange else number
            strange += raw
    error = f"line {strange_at} does not follow the line before it" if strange.endswith(b"\n") else ""
    return Checked(tuple(records), head, 0 if error else len(strange), error, tuple(_unfinished(records)))


def _follows(record: AuditRecord, before: int, head: str, strange: bytes) -> bool:
    """Tell whether a record is the next one, `strange` bytes being between it and the last one."""
    if record.previous != head or record.number != before + 1:
        return False
    if not strange:
        return record.phase != "torn"
    return record.phase == "torn" and record.outcome == torn_outcome(strange.removesuffix(b"\n"))


def _unfinished(records: list[AuditRecord]) -> Iterator[AuditRecord]:
    done = {record.change for record in records if record.phase == "after"}
    return (record for record in records if record.phase == "before" and record.number not in done)
