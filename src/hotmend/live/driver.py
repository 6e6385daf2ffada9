"""Applying an update to processes and taking it back: one transaction per process, all or nothing.

Every process is worked on in a thread of its own that ends with the work: whatever it still traces then is let go by
the kernel. Refusals are values (`ProcessResult.reasons`); nothing is written before everything has been checked.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence

from hotmend.linux.calm import step_back
from hotmend.linux.process import processes_mapping
from hotmend.live.change import apply_one, revert_one
from hotmend.live.crew import each_done
from hotmend.live.registry import patched_processes
from hotmend.live.repair import repair_one
from hotmend.live.work import Options, ProcessResult, ShadowReport, Work
from hotmend.model.hotpatch import Hotpatch

__all__ = ["Options", "ProcessResult", "Progress", "ShadowReport", "apply", "repair", "revert"]

_END_SECONDS = 1.0

Progress = Callable[[int, int], None]
"""Called with (processes done, processes in all)."""


def _in_own_thread(work: Callable[[], ProcessResult]) -> ProcessResult:
    """Run `work` in a thread that ends with it, so that the kernel lets go of whatever it still traces."""
    results: list[ProcessResult] = []
    errors: list[BaseException] = []

    def body() -> None:
        step_back()
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller
            errors.append(error)

    thread = threading.Thread(target=body, name="hotmend-driver", daemon=True)
    thread.start()
    thread.join()
    _await_end(thread.native_id)
    if errors:
        raise errors[0]
    return results[0]


def _await_end(tid: int | None) -> None:
    """Wait until the kernel has ended a thread, and let go what it traced: `join` comes back a little earlier."""
    limit = time.perf_counter() + _END_SECONDS
    while os.path.exists(f"/proc/self/task/{tid}") and time.perf_counter() < limit:  # noqa: PTH110 - no object each time
        time.sleep(0.0001)


def _for_each(
    pids: Sequence[int], options: Options, one: Callable[[Work], ProcessResult], progress: Progress | None
) -> list[ProcessResult]:
    """Do the work for every process; results in the order of `pids`."""

    def work(pid: int) -> ProcessResult:
        begun = Work(pid, options)
        return _in_own_thread(lambda: begun.guarded(lambda: one(begun)))

    results = {}
    for pid, result in each_done(pids, work):
        results[pid] = result
        if progress is not None:
            progress(len(results), len(pids))
    return [results[pid] for pid in pids]


def apply(
    hotpatches: Sequence[Hotpatch],
    pids: Sequence[int] | None,
    options: Options,
    progress: Progress | None = None,
) -> list[ProcessResult]:
    """Apply all images of one update, in one switch per process.

    Args:
        hotpatches: one per changed image.
        pids: processes; None: all that map one of the old builds.
        options: how.
        progress: told after each process.
    """
    if pids is None:
        pids = [p.pid for p in processes_mapping({hotpatch.old_build_id for hotpatch in hotpatches})]
    return _for_each(pids, options, lambda work: apply_one(work, hotpatches), progress)


def revert(
    hotpatch_ids: Sequence[str] | None,
    pids: Sequence[int] | None,
    options: Options,
    progress: Progress | None = None,
) -> list[ProcessResult]:
    """Take updates back: what they took over from again, under the same safety rule; mostly that is the old code.

    Args:
        hotpatch_ids: `hotpatch_id` of any image of each update; None: all updates.
        pids: processes; None: all that have one.
        options: how.
        progress: told after each process.
    """
    ids = None if hotpatch_ids is None else frozenset(hotpatch_ids)
    return _for_each(
        patched_processes() if pids is None else pids, options, lambda work: revert_one(work, ids), progress
    )


def repair(pids: Sequence[int] | None, options: Options, progress: Progress | None = None) -> list[ProcessResult]:
    """Finish or undo what a patcher that died left behind; nothing that is whole is changed.

    Args:
        pids: processes; None: all that have a shadow.
        options: how.
        progress: told after each process.
    """
    return _for_each(patched_processes() if pids is None else pids, options, repair_one, progress)
