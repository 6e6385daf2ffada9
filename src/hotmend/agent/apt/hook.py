"""Having apt call hotmend, and needrestart ask it: two files of configuration, written and removed.

Both programs read all files of a folder (apt.conf(5); README.needrestart in its `conf.d`). Ours stands last by its
name: who else may stop an installation is asked before any process is changed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hotmend.model.errors import UsageError

APT_FILE: Final = Path("etc/apt/apt.conf.d/99hotmend")
NEEDRESTART_FILE: Final = Path("etc/needrestart/conf.d/hotmend.conf")
_SAFE_PATH = re.compile(r"/[A-Za-z0-9/._+-]+")
_DEADLINE = re.compile(r"--deadline (\d+)")


@dataclass(frozen=True, slots=True)
class Hook:
    """What stands in the files.

    Attributes:
        command: that apt calls.
        deadline_seconds: how long apt waits for it at most.
    """

    command: str
    deadline_seconds: int


def find_command() -> str:
    """Return the path of the `hotmend` command of this installation.

    Raises:
        UsageError: there is none that apt could call.
    """
    beside = Path(sys.executable).with_name("hotmend")
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("hotmend") or ""
    if not _SAFE_PATH.fullmatch(found):
        raise UsageError(f"apt cannot call hotmend by the path {found!r}", "install it to a path without blanks")
    return found


def switch_on(hook: Hook, root: Path = Path("/")) -> None:
    """Write both files; raises `OSError` where that fails, and then neither is new."""
    _write(root / NEEDRESTART_FILE, _needrestart_text(hook))
    _write(root / APT_FILE, _apt_text(hook))


def switch_off(root: Path = Path("/")) -> bool:
    """Remove both files, and folders that were made for them; return whether there was a hook."""
    was_on = read_hook(root) is not None
    (root / APT_FILE).unlink(missing_ok=True)
    (root / NEEDRESTART_FILE).unlink(missing_ok=True)
    for folder in list((root / NEEDRESTART_FILE).parents)[:2]:
        with contextlib.suppress(OSError):  # others have files there
            folder.rmdir()
    return was_on


def read_hook(root: Path = Path("/")) -> Hook | None:
    """Return what apt calls; None where the hook is off."""
    try:
        text = (root / APT_FILE).read_text("utf-8", "replace")
    except FileNotFoundError:
        return None
    command = re.search(r"\"(\S+) apt-hook before", text)
    deadline = _DEADLINE.search(text)
    return Hook(command[1] if command else "", int(deadline[1]) if deadline else 0)


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}.new")
    new.write_text(text, "utf-8")
    new.chmod(0o644)
    new.replace(file)


def _apt_text(hook: Hook) -> str:
    """Return apt's file. The exit code of a hook that fails would stop apt: none of ours gets that far."""
    return f"""// Written by hotmend apt-hook on; hotmend apt-hook off removes it.
// Before packages are unpacked, running processes get their new code; what runs it is not restarted by its package.
DPkg::Pre-Install-Pkgs {{ "{hook.command} apt-hook before --deadline {hook.deadline_seconds} || true"; }};
DPkg::Tools::options::{hook.command}::Version "3";
DPkg::Post-Invoke {{ "{hook.command} apt-hook after --deadline {hook.deadline_seconds} || true"; }};
"""


def _needrestart_text(hook: Hook) -> str:
    return f"""# Written by hotmend apt-hook on; hotmend apt-hook off removes it.
# Services of which memory holds the code of the files on the disk need no restart, though they map the earlier files.
push @{{$nrconf{{blacklist_rc}}}}, map {{ qr(^\\Q$_\\E$) }} split /\\n/,
    `test -x {hook.command} && timeout {hook.deadline_seconds} {hook.command} apt-hook fixed 2>/dev/null`;
1;
"""
