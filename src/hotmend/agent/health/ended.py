"""Processes that end while they are watched: workers are replaced all the time, most of them at once are not."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from typing import Final

from hotmend.agent.health.services import may_have_ended
from hotmend.agent.record.history import ChangedProcess
from hotmend.linux import procfs
from hotmend.model.errors import HotmendError

_LIVED_TIMES: Final = 20
"""What has lived so many times as long as it is watched does not end just then by chance, most of its like with it."""
_TICKS: Final = os.sysconf("SC_CLK_TCK")


def ended_together(changed: Iterable[ChangedProcess], seconds: float, *, services: bool) -> str:
    """Return which service lost more than half of its changed processes, of those that are no short-lived ones; or "".

    A service that has ended as it may has lost none.

    Args:
        changed: processes that run new code.
        seconds: how long they are watched.
        services: a service manager keeps this machine's services; else those of one name count as one.
    """
    now_ticks = time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS
    groups: dict[str, list[bool]] = {}
    for process in changed:
        old_enough = (now_ticks - process.start_time_ticks) / _TICKS >= _LIVED_TIMES * seconds
        if old_enough and (key := process.unit if services else process.comm):
            groups.setdefault(key, []).append(_lives(process))
    for key, lives in groups.items():
        if 2 * sum(lives) < len(lives) and not (services and may_have_ended(key)):
            return f"{len(lives) - sum(lives)} of {len(lives)} changed processes of {key} ended while they were watched"
    return ""


def _lives(process: ChangedProcess) -> bool:
    with contextlib.suppress(HotmendError):
        found = procfs.read_stat(process.pid)
        return found.start_time_ticks == process.start_time_ticks and found.state not in "ZX"
    return False
