"""Applying an update to processes and taking it back: one transaction per process, all or nothing.

Processes are worked on in a thread that ends with the work where it still traces anything: that is let go by the
kernel. Refusals are values (`ProcessResult.reasons`); nothing is written before everything has been checked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from hotmend.linux.process import processes_running
from hotmend.live.change import apply_one, revert_one
from hotmend.live.crew import ALONE_MAX, each_done
from hotmend.live.hands import hands
from hotmend.live.registry import patched_processes
from hotmend.live.repair import repair_one
from hotmend.live.work import Options, ProcessResult, ShadowReport, Work
from hotmend.model.hotpatch import Hotpatch

__all__ = ["Options", "ProcessResult", "Progress", "ShadowReport", "apply", "repair", "revert"]

Progress = Callable[[int, int], None]
"""Called with (processes done, processes in all)."""


def _for_each(
    pids: Sequence[int], options: Options, one: Callable[[Work], ProcessResult], progress: Progress | None
) -> list[ProcessResult]:
    """Do the work for every process; results in the order of `pids`."""
    results = {}
    with hands() as own:  # in a worker too, which gets a copy of them

        def work(pid: int) -> ProcessResult:
            begun = Work(pid, options)
            return own.do(lambda: begun.guarded(lambda: one(begun)))

        if len(pids) > ALONE_MAX:  # what is the same in all of them is found before workers are made
            trial = Work(pids[0], replace(options, dry_run=True))
            own.do(lambda: trial.guarded(lambda: one(trial)))
            own.end()
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
        pids = processes_running({hotpatch.old_build_id for hotpatch in hotpatches})
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
