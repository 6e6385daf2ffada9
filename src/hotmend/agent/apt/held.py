"""Holding back the restarts that a package asks for, of services whose processes run the new code already.

Maintainer scripts ask `/usr/sbin/policy-rc.d` before they start, stop, restart or reload anything (invoke-rc.d(8),
deb-systemd-invoke(1p)). For the time of one installation ours stands there, and asks the machine's own one after it.
It holds for as long as the process that it was made for lives: what a killed one leaves behind holds nothing back.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hotmend.linux import procfs
from hotmend.model.errors import HotmendError, InputError

POLICY: Final = Path("/usr/sbin/policy-rc.d")
_KEPT_SUFFIX = ".hotmend-kept"
_MARK = "# hotmend holds back restarts of services that run the new code already"
_NAME = re.compile(r"[A-Za-z0-9@_][A-Za-z0-9@_.:\\-]*")
_FOR = re.compile(r"^# for process (\d+), started at (\d+): (.*)$", re.MULTILINE)
_DENIED = 101


@dataclass(frozen=True, slots=True)
class Holder:
    """The process for whose time restarts are held back; with its start it is one and no other."""

    pid: int
    start_time_ticks: int

    @classmethod
    def of(cls, pid: int) -> Holder:
        """Return it by its pid; `ProcessGoneError` where there is none."""
        return cls(pid, procfs.read_stat(pid).start_time_ticks)

    @property
    def lives(self) -> bool:
        """Whether it is still there."""
        try:
            return procfs.read_stat(self.pid).start_time_ticks == self.start_time_ticks
        except HotmendError:
            return False


@dataclass(frozen=True, slots=True)
class Held:
    """What is held back, and for whose time."""

    services: tuple[str, ...]
    holder: Holder


def hold_restarts(services: Iterable[str], holder: Holder, policy: Path = POLICY) -> None:
    """Have maintainer scripts leave `services` (names without suffix) alone, instead of what was held before.

    Raises:
        InputError: a service has a name that cannot be written into a script.
        OSError: the policy cannot be written; nothing is held back then.
    """
    names = sorted(set(services))
    if strange := [name for name in names if not _NAME.fullmatch(name)]:
        raise InputError(f"not the name of a service: {', '.join(strange)}")
    put_back(policy)
    if not names:
        return
    kept = policy.with_name(policy.name + _KEPT_SUFFIX)
    new = policy.with_name(f"{policy.name}.{os.getpid()}")
    try:
        new.write_text(_script(names, holder, kept), "utf-8")
        new.chmod(0o755)
        if policy.exists():
            kept.hardlink_to(policy)
        new.replace(policy)
    finally:
        new.unlink(missing_ok=True)


def release_restarts(holder: Holder | None = None, policy: Path = POLICY) -> None:
    """Put back what stood there before, where it is a holder's, or of one that has ended; another one's time goes on.

    Args:
        holder: whose; None: only of those that have ended.
        policy: the script.
    """
    held = held_restarts(policy)
    if held is None or held.holder == holder or not held.holder.lives:
        put_back(policy)


def put_back(policy: Path = POLICY) -> None:
    """Put back what stood there before, whoever holds."""
    kept = policy.with_name(policy.name + _KEPT_SUFFIX)
    if held_restarts(policy) is not None:
        if kept.exists():
            kept.replace(policy)
        else:
            policy.unlink()
    kept.unlink(missing_ok=True)


def held_restarts(policy: Path = POLICY) -> Held | None:
    """Return what the policy holds back; None where it is not ours. Whether it still does is up to its holder."""
    try:
        text = policy.read_text("utf-8", "replace")
    except FileNotFoundError:
        return None
    found = _FOR.search(text) if _MARK in text else None
    return Held(tuple(found[3].split()), Holder(int(found[1]), int(found[2]))) if found else None


def _script(names: list[str], holder: Holder, kept: Path) -> str:
    """Return the policy: it denies all but `status` to names while the holder lives; the rest is as `kept` says."""
    pattern = "|".join(f"'{name}'|'{name}.service'" for name in names)
    return f"""#!/bin/sh
{_MARK}
# for process {holder.pid}, started at {holder.start_time_ticks}: {" ".join(names)}
kept={kept}
started=$(sed 's/.*) //' /proc/{holder.pid}/stat 2>/dev/null | cut -d' ' -f20)
quiet=
case "$1" in --quiet) quiet=$1; shift ;; esac
if [ "$started" = {holder.start_time_ticks} ] && [ "$2" != status ]; then
    case "$1" in
        {pattern}) exit {_DENIED} ;;
    esac
fi
[ -x "$kept" ] && exec "$kept" $quiet "$@"
exit 0
"""
