"""Files whose fix is in memory and not on the disk: what begins from one runs old code, and is to be looked out for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from hotmend.agent.apt.installed import elf_files
from hotmend.agent.record.history import Action, AnyEvent
from hotmend.agent.record.lost import in_memory
from hotmend.linux.process import file_build_id
from hotmend.model.errors import InputError


def unfinished(events: Iterable[AnyEvent]) -> tuple[str, ...]:
    """Return the files in which a new process would find the old build of what memory has fixed.

    Args:
        events: of the history.

    Returns:
        Paths as `/proc/PID/maps` has them, without symbolic links.
    """
    found = set()
    for action in in_memory(events).values():
        for image in {*action.images, *_files(action)}:
            path = Path("/", image).resolve()
            build = file_build_id(path)
            if build and str(build) in action.old_builds:
                found.add(str(path))
    return tuple(sorted(found))


def _files(action: Action) -> Iterable[str]:
    """Return all programs and libraries of the package: a build may be there under several names."""
    with contextlib.suppress(InputError):
        return [file.path for file in elf_files(action.brings.partition("=")[0])]
    return ()


def leave_unfinished(file: Path, since: float, paths: Iterable[str]) -> None:
    """Have the agent's own process look for newcomers (`newcomers`), or no longer where there are no paths.

    Args:
        file: where.
        since: seconds of CLOCK_BOOTTIME from which on processes are new.
        paths: as of `unfinished`.

    Raises:
        OSError: it cannot be written.
    """
    lines = [path for path in paths if "\n" not in path]
    if not lines:
        file.unlink(missing_ok=True)
        return
    new = file.with_name(f".{file.name}")
    new.write_text("\n".join([f"{since:.2f}", *lines]), "utf-8", "surrogateescape")
    new.replace(file)
