"""How a running process was started: its arguments, environment, user, limits and the images it maps.

Many servers write a title over their arguments. What the kernel shows then (/proc/PID/cmdline) is the title; but the
array of arguments at the bottom of the stack, and for its first the file name the kernel was given, are still there,
and a title often holds the arguments behind some words.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from hotmend.linux import procfs
from hotmend.linux.memory import ProcessMemory
from hotmend.linux.process import process_images
from hotmend.live.imports import read_link_map
from hotmend.live.needs import Refusal
from hotmend.model.verdict import refusal
from hotmend.trial.contents import Limits, User

_TEXT_BYTES_MAX, _ARGUMENTS_MAX, _STRING_BYTES_MAX = 4 << 20, 10_000, 128 << 10
_AT_EXECFN = 31
_SUPERVISION = (
    "NOTIFY_SOCKET",
    "LISTEN_",
    "WATCHDOG_",
    "JOURNAL_STREAM",
    "INVOCATION_ID",
    "MAINPID",
    "SYSTEMD_EXEC_PID",
)
"""Variables by which a service manager and its service speak: the stand-in has no manager."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a process was started with.

    Attributes:
        program: path of its executable in its mount namespace.
        arguments, environment: as at its start, as far as they can be known.
        directory: where it is now.
        user, limits: what it has now.
    """

    program: str
    arguments: tuple[str, ...]
    environment: dict[str, str]
    directory: str
    user: User
    limits: Limits


@dataclass(frozen=True, slots=True)
class StartArea:
    """Where the kernel put what a program was started with; load addresses.

    Attributes:
        stack: of the number of arguments, which the array of arguments follows.
        arguments: from the first argument's first byte to behind the last one's.
        environment: the same for variables.
    """

    stack: int
    arguments: tuple[int, int]
    environment: tuple[int, int]


def find_origin(pid: int, arguments: Sequence[str] = ()) -> Origin:
    """Return how process `pid` was started; `arguments`, if given, are taken instead of what can be found.

    Raises:
        Refusal: its arguments are not known any more.
        ProcessGoneError, PermissionRefusedError: as they say.
    """
    words = tuple(arguments) or read_arguments(pid)
    return Origin(
        program=os.readlink(f"/proc/{pid}/exe").removesuffix(procfs.DELETED),
        arguments=words,
        environment={
            name: value for name, value in _read_environment(pid).items() if not name.startswith(_SUPERVISION)
        },
        directory=os.readlink(f"/proc/{pid}/cwd").removesuffix(procfs.DELETED),
        user=read_user(pid),
        limits=Limits(files=_read_file_limit(pid)),
    )


def _read_file_limit(pid: int) -> int:
    """Return how many files a process may open; 0 for any number."""
    for line in procfs.rows(procfs.read_text(pid, "limits", 1 << 14)):
        if line.startswith("Max open files"):
            word = line.split()[3]
            return int(word) if word.isdigit() else 0
    return 0


def read_user(pid: int) -> User:
    """Return the effective user and groups of a process."""
    text = procfs.read_text(pid, "status", 1 << 16)
    rows = dict(line.split(":", 1) for line in procfs.rows(text) if ":" in line)
    groups = tuple(int(word) for word in rows.get("Groups", "").split())
    return User(int(rows["Uid"].split()[1]), int(rows["Gid"].split()[1]), groups)


def read_arguments(pid: int) -> tuple[str, ...]:
    """Return the arguments that process `pid` was started with.

    Raises:
        Refusal: they have been written over.
    """
    fields = procfs.read_text(pid, "stat", 4096).rpartition(")")[2].split()
    area = StartArea(int(fields[25]), (int(fields[45]), int(fields[46])), (int(fields[47]), int(fields[48])))
    with ProcessMemory(pid) as memory:
        first, last = area.arguments
        text = memory.try_read(first, min(last - first, _TEXT_BYTES_MAX)) or b""
        count = int.from_bytes(memory.try_read(area.stack, 8) or b"", "little")
        raw = memory.try_read(area.stack + 8, 8 * count) if 0 < count <= _ARGUMENTS_MAX else None
        pointers = struct.unpack(f"<{count}Q", raw) if raw else ()
        found = split_intact(text, first, pointers)
        found = found or split_title(procfs.read_bytes(pid, "cmdline", _TEXT_BYTES_MAX), area, pointers)
        found = found or _follow_pointers(memory, pid, area, pointers)
    if found is None:
        raise Refusal(
            refusal(
                "arguments-unknown",
                f"process {pid} has written over its arguments; say with --rehearse-start how it is started",
                text.replace(b"\0", b" ").decode("utf-8", "replace").strip(),
            )
        )
    return tuple(os.fsdecode(word) for word in found)


def split_intact(text: bytes, first: int, pointers: Sequence[int]) -> list[bytes] | None:
    """Return the arguments in memory `text` at `first` where nobody has written over them.

    Their number must be that on the stack, and each pointer there is null or leads to the start of one.
    """
    words = text.split(b"\0")
    if not text.endswith(b"\0") or len(words) - 1 != len(pointers):
        return None
    starts, at = set(), first
    for word in words[:-1]:
        starts.add(at)
        at += len(word) + 1
    return words[:-1] if first in pointers and all(p in starts for p in pointers if p) else None


def split_title(title: bytes, area: StartArea, pointers: Sequence[int]) -> list[bytes] | None:
    """Return the arguments of a title that ends in all of them, joined by blanks (`nginx: master process nginx -c x`).

    The pointers on the stack say where each began; one that is null has to be found by a blank.
    """
    first, last = area.arguments
    whole = title.rstrip(b"\0")[-(last - first - 1) :]
    if len(whole) < last - first - 1 or len(title.rstrip(b"\0")) == len(whole) or not pointers:
        return None
    if pointers[0] != first or any(p and not first <= p < last for p in pointers):
        return None
    words: list[bytes] = []
    index = 0
    while index < len(pointers):
        after = index + 1
        while after < len(pointers) and not pointers[after]:
            after += 1
        end = pointers[after] - 1 if after < len(pointers) else last - 1
        part = whole[pointers[index] - first : end - first]
        pieces = part.split(b" ", after - index - 1)
        if len(pieces) != after - index or (after < len(pointers) and whole[end - first : end - first + 1] != b" "):
            return None
        words += pieces
        index = after
    return words


def _follow_pointers(memory: ProcessMemory, pid: int, area: StartArea, pointers: Sequence[int]) -> list[bytes] | None:
    """Return the arguments where the program has moved them away and left pointers to the copies."""
    low, high = area.arguments[0], max(area.arguments[1], area.environment[1])
    words = []
    for index, pointer in enumerate(pointers):
        moved = pointer and not low <= pointer < high
        if index and not moved:
            return None
        word = _read_string(memory, pointer if moved else _find_auxiliary(pid, _AT_EXECFN))
        if word is None:
            return None
        words.append(word)
    return words or None


def _find_auxiliary(pid: int, wanted: int) -> int:
    """Return a value of the auxiliary vector, or 0."""
    raw = procfs.read_bytes(pid, "auxv", 1 << 14)
    pairs = struct.iter_unpack("<QQ", raw[: len(raw) // 16 * 16])
    return next((value for kind, value in pairs if kind == wanted), 0)


def _read_string(memory: ProcessMemory, address: int) -> bytes | None:
    """Return the string at an address; None where there is none."""
    text = b""
    while address and len(text) < _STRING_BYTES_MAX:
        part = memory.try_read(address + len(text), 4096 - (address + len(text)) % 4096)
        if part is None:
            return None
        head, end, _ = part.partition(b"\0")
        text += head
        if end:
            return text
    return None


def _read_environment(pid: int) -> dict[str, str]:
    """Return the variables a process was started with or, where they have been written over, those it has now."""
    words = procfs.read_bytes(pid, "environ", _TEXT_BYTES_MAX).rstrip(b"\0").split(b"\0")
    if not all(_is_variable(word) for word in words):
        words = _current_environment(pid)
    pairs = (os.fsdecode(word).partition("=") for word in words if _is_variable(word))
    return {name: value for name, _, value in pairs}


def _is_variable(word: bytes) -> bool:
    name, equals, _ = word.partition(b"=")
    return bool(equals) and name.replace(b"_", b"a").isalnum()


def _current_environment(pid: int) -> list[bytes]:
    """Return what the C library's `environ` leads to."""
    with ProcessMemory(pid) as memory:
        images = process_images(pid, memory).images
        exe = os.readlink(f"/proc/{pid}/exe").removesuffix(procfs.DELETED)
        executable = next((image for image in images if image.path == exe), None)
        for library in read_link_map(memory, executable) if executable else ():
            symbol = library.lookup("environ", "") or library.lookup("__environ", "")
            if symbol is not None:
                return list(_strings(memory, int.from_bytes(memory.try_read(symbol.value, 8) or b"", "little")))
    return []


def _strings(memory: ProcessMemory, table: int) -> list[bytes]:
    """Return the strings of a null-terminated array of pointers."""
    found: list[bytes] = []
    while table and len(found) < _ARGUMENTS_MAX:
        pointer = int.from_bytes(memory.try_read(table + 8 * len(found), 8) or b"", "little")
        word = _read_string(memory, pointer) if pointer else None
        if word is None:
            break
        found.append(word)
    return found
