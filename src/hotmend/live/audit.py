"""Writing the audit record: before the first write into a process and after the last one, on the disk each time."""

from __future__ import annotations

import datetime
import fcntl
import hashlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from hotmend.linux import procfs
from hotmend.linux.memory import ProcessMemory
from hotmend.linux.stop import aside
from hotmend.live.chain import (
    GENESIS,
    LINE_BYTES_MAX,
    AuditRecord,
    Checked,
    check_chain,
    decode_record,
    encode_record,
    line_hash,
    torn_outcome,
)
from hotmend.live.gate import HeaderRecord
from hotmend.live.machine import Step, state_of
from hotmend.live.needs import Refusal
from hotmend.live.plan import Placement
from hotmend.live.ranges import WORDS_BYTES
from hotmend.live.registry import observe, read_entries
from hotmend.live.work import ProcessResult, Work
from hotmend.model.errors import HotmendError, InputError
from hotmend.model.verdict import note, refusal

_NOBODY = 0xFFFFFFFF
_COMMAND_LETTERS_MAX = 4096


def recorded(
    work: Work,
    memory: ProcessMemory,
    deed: str,
    records: Sequence[HeaderRecord],
    steps: Sequence[Step],
    change: Callable[[], ProcessResult],
    placements: Sequence[Placement] = (),
) -> ProcessResult:
    """Make a change to a process, with a record before and after it, where a file for them is wanted.

    Raises:
        Refusal: the record cannot be written; nothing was touched.
    """
    if not work.options.audit:
        return change()
    file = Path(work.options.audit)
    about = _about(work, deed, records, steps, placements)
    try:
        number = append(file, _seen(about, memory, records, placed=not placements))
    except (OSError, InputError) as error:
        raise Refusal(
            refusal(
                "audit-not-written",
                f"the audit record {file} cannot be continued ({error}), so process {work.pid} was not touched; "
                "put it elsewhere with --audit FILE",
            )
        ) from error
    about = msgspec.structs.replace(about, phase="after", change=number)
    try:
        result = change()
    except BaseException as error:
        _append_after(file, about, memory, records, f"failed: {type(error).__name__}: {error}")
        raise
    codes = " ".join((result.state, *(reason.code for reason in result.reasons)))
    if not _append_after(file, about, memory, records, codes):
        sentence = f"the change is made, but the audit record {file} could not be completed"
        result = work.result(result.state, *result.reasons, note("audit-incomplete", sentence))
    return result


def _append_after(
    file: Path, about: AuditRecord, memory: ProcessMemory, records: Sequence[HeaderRecord], outcome: str
) -> bool:
    """Write the record after a change; return whether it is on the disk."""
    try:
        record = msgspec.structs.replace(_seen(about, memory, records, placed=True), outcome=outcome)
        aside(partial(append, file, record))
    except (OSError, InputError):
        return False
    return True


def _about(
    work: Work,
    deed: str,
    records: Sequence[HeaderRecord],
    steps: Sequence[Step],
    placements: Sequence[Placement],
) -> AuditRecord:
    """Return what a record says of who changes what."""
    filled = hashlib.sha256()
    for placement in placements:
        for address, content in placement.contents:
            filled.update(address.to_bytes(8, "little") + content)
    return AuditRecord(
        number=0,
        previous="",
        at="",
        phase="before",
        deed=deed,
        steps=tuple(step.value for step in steps),
        uid=os.getuid(),
        login_uid=_login_uid(),
        patcher_pid=os.getpid(),
        patcher_command_line=" ".join(sys.argv)[:_COMMAND_LETTERS_MAX],
        pid=work.pid,
        start_time_ticks=work.start_time_ticks,
        command_line=_command_line(work.pid),
        hotpatches=tuple(r.hotpatch_id for r in records),
        images=tuple((r.path, str(r.old_build_id), str(r.new_build_id)) for r in records),
        shadow_sha256=filled.hexdigest() if placements else "",
    )


def _seen(about: AuditRecord, memory: ProcessMemory, records: Sequence[HeaderRecord], *, placed: bool) -> AuditRecord:
    """Add what memory holds now; nothing where the process is gone."""
    try:
        entries = [entry for record in records for entry in record.entries]
        held = hashlib.sha256(b"".join(read_entries(memory, entries)))
        placed = placed and memory.try_read(records[0].gate, 1) is not None
        held.update(memory.read(records[0].gate, 1) if placed else b"\0")
        state = state_of(observe(memory, records, placed=placed)).value
        listed = _list_hash(memory, records)
    except HotmendError:
        return about
    return msgspec.structs.replace(about, entries_sha256=held.hexdigest(), list_sha256=listed, state=state)


def _list_hash(memory: ProcessMemory, records: Sequence[HeaderRecord]) -> str:
    """Return the hash of what is written once to make new code known to the unwinder; "" where nothing is."""
    words = next((r.frames.words for r in records if r.frames is not None and r.frames.words), 0)
    return hashlib.sha256(memory.read(words, WORDS_BYTES)).hexdigest() if words else ""


def _login_uid() -> int | None:
    try:
        uid = int(Path("/proc/self/loginuid").read_text())
    except (OSError, ValueError):
        return None
    return None if uid == _NOBODY else uid


def _command_line(pid: int) -> str:
    try:
        words = procfs.read_bytes(pid, "cmdline", _COMMAND_LETTERS_MAX)[:_COMMAND_LETTERS_MAX]
    except HotmendError:
        return ""
    return words.rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace")


def append(file: Path, record: AuditRecord) -> int:
    """Write one record behind the last one, on the disk; return its number.

    A last line that a crash cut off is noted first. The folder is made where it is missing.

    Raises:
        OSError: it cannot be written.
        InputError: what stands there is no audit record, or does not hold together at its end.
    """
    file.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        number, previous, cut, unended = _end_of(descriptor)
        now = datetime.datetime.now(datetime.UTC).isoformat()
        lines = b"\n" if unended else b""
        if cut:
            torn = AuditRecord(number + 1, previous, now, "torn", outcome=torn_outcome(cut))
            line = encode_record(torn)
            number, previous, lines = torn.number, line_hash(line), lines + line + b"\n"
        record = msgspec.structs.replace(record, number=number + 1, previous=previous, at=now)
        lines += encode_record(record) + b"\n"
        if os.write(descriptor, lines) != len(lines):
            raise OSError("the disk is full")
        os.fsync(descriptor)
        _sync_folder(file.parent, new=number == 0)
        return record.number
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path, *, new: bool) -> None:
    """Have the name of a new file on the disk too."""
    if not new:
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _end_of(descriptor: int) -> tuple[int, str, bytes, bool]:
    """Return number and hash of the last record, what a crash left behind it, and whether its end lacks."""
    size = os.fstat(descriptor).st_size
    if size == 0:
        return 0, GENESIS, b"", False
    tail = os.pread(descriptor, min(size, LINE_BYTES_MAX), max(0, size - LINE_BYTES_MAX))
    last = tail[tail.rfind(b"\n", 0, -1) + 1 :]
    record = decode_record(last)
    if record is not None and last.endswith(b"\n"):
        return record.number, line_hash(last.removesuffix(b"\n")), b"", False
    with os.fdopen(os.dup(descriptor), "rb") as stream:
        stream.seek(0)
        content = stream.read()
    found = check_chain(io.BytesIO(content))
    if found.error:
        raise InputError(found.error)
    return len(found.records), found.head, content[len(content) - found.torn :], not content.endswith(b"\n")


def read_audit(file: Path) -> Checked:
    """Read and check a whole file.

    Raises:
        InputError: there is no such file, or it cannot be read.
    """
    try:
        with file.open("rb") as stream:
            return check_chain(stream)
    except FileNotFoundError as error:
        hint = "nothing was changed yet, or --audit named another file"
        raise InputError(f"there is no audit record at {file}", hint) from error
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error
