"""Holding back the restarts that a package asks for, of services whose processes run the new code already.

Maintainer scripts ask `/usr/sbin/policy-rc.d` before they start, stop or restart anything (invoke-rc.d(8),
deb-systemd-invoke(1p)). For the time of one installation ours stands there, and asks the machine's own one after it.
It holds for as long as this process lives: what a killed one leaves behind holds nothing back.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from hotmend.linux import procfs
from hotmend.model.errors import InputError

POLICY: Final = Path("/usr/sbin/policy-rc.d")
_KEPT_SUFFIX = ".hotmend-kept"
_MARK = "# hotmend holds back restarts of services that run the new code already"
_NAME = re.compile(r"[A-Za-z0-9@_][A-Za-z0-9@_.:-]*")
_DENIED = 101


@contextlib.contextmanager
def restarts_held(services: Iterable[str], policy: Path = POLICY) -> Iterator[None]:
    """Have maintainer scripts leave `services` (names without suffix) alone for the block.

    Raises:
        InputError: a service has a name that cannot be written into a script.
        OSError: the policy cannot be written; nothing is changed then.
    """
    names = sorted(set(services))
    if strange := [name for name in names if not _NAME.fullmatch(name)]:
        raise InputError(f"not the name of a service: {', '.join(strange)}")
    restore(policy)
    if not names:
        yield
        return
    kept = policy.with_name(policy.name + _KEPT_SUFFIX)
    new = policy.with_name(f"{policy.name}.{os.getpid()}")
    new.write_text(_script(names, kept), "utf-8")
    new.chmod(0o755)
    if policy.exists():
        kept.hardlink_to(policy)
    new.replace(policy)
    try:
        yield
    finally:
        restore(policy)


def restore(policy: Path = POLICY) -> None:
    """Put back what stood there before; also what a killed process left."""
    kept = policy.with_name(policy.name + _KEPT_SUFFIX)
    if _is_ours(policy):
        if kept.exists():
            kept.replace(policy)
        else:
            policy.unlink()
    kept.unlink(missing_ok=True)


def _is_ours(policy: Path) -> bool:
    try:
        return _MARK in policy.read_text("utf-8", "replace")
    except FileNotFoundError:
        return False


def _script(names: Iterable[str], kept: Path) -> str:
    """Return the policy: names that it denies, as long as this very process lives; the rest as `kept` says."""
    pid = os.getpid()
    pattern = "|".join(f"{name}|{name}.service" for name in names)
    start = procfs.read_stat(pid).start_time_ticks
    return f"""#!/bin/sh
{_MARK}
started=$(sed 's/.*) //' /proc/{pid}/stat 2>/dev/null | cut -d' ' -f20)
if [ "$started" = {start} ]; then
    case "$1" in
        {pattern}) exit {_DENIED} ;;
    esac
fi
[ -x {kept} ] && exec {kept} "$@"
exit 0
"""
