"""What memory shows of an action that has ended: whether it still holds, and what doing it again would change."""

from __future__ import annotations

import contextlib

from hotmend.agent.machine import Machine, baseline_window
from hotmend.agent.memory import Spared, mapping_of
from hotmend.agent.record.history import Action, OldProcess
from hotmend.linux import procfs
from hotmend.linux.process import processes_mapping
from hotmend.live.registry import process_status
from hotmend.model.addresses import BuildId
from hotmend.model.errors import HotmendError, ProcessGoneError


def without_it(action: Action, spared: Spared) -> frozenset[int]:
    """Return the processes that map an old build of an action's, do not run its new code in it, and may be touched.

    Args:
        action: which.
        spared: processes that must not be touched.
    """
    found: set[int] = set()
    for process in mapping_of(processes_mapping(), {BuildId(build) for build in action.old_builds}):
        if spared(process.pid):
            continue
        with contextlib.suppress(ProcessGoneError):
            active = {h.old_build_id for h in process_status(process.pid) if h.active and h.id in action.hotpatches}
            if {image.build_id for image in process.images} - active:
                found.add(process.pid)
    return frozenset(found)


def would_be_the_same(
    machine: Machine, before: Action, without: frozenset[int], *, disk_waits: bool, left: bool
) -> bool:
    """Return whether doing again what ended well would change nothing, in memory or on the disk.

    In memory: nobody runs old code who did not when it ended. On the disk: its package was left because it takes a
    restart, restarts are not allowed now either, and all who ran old code are still there.

    Args:
        machine: which.
        before: how it ended.
        without: from `without_it`, now.
        disk_waits: its package is not installed, and is to be.
        left: that run left the package because it takes a restart.
    """
    if not without <= {old.pid for old in before.old}:
        return False
    if not disk_waits:
        return True
    configuration = machine.configuration
    may_restart = configuration.restart and baseline_window(configuration, machine.clock()).allowed
    return left and not may_restart and all(map(_is_there, before.old))


def _is_there(old: OldProcess) -> bool:
    try:
        return procfs.read_stat(old.pid).comm == old.comm
    except HotmendError:
        return False
