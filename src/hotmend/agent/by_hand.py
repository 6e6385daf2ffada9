"""What a person took back by hand stays taken back: the agent does not bring it again until it is told to.

It is kept away before memory is changed, so that a command that is killed on its way has not half of it come back.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime

from hotmend.agent.census.units import unit_of
from hotmend.agent.paths import Places
from hotmend.agent.record.history import ChangedProcess, History, Reverted
from hotmend.agent.record.quarantine import Entry, put_in, take_out
from hotmend.live.driver import ProcessResult
from hotmend.live.registry import AppliedHotpatch, patched_processes, process_status
from hotmend.model.errors import HotmendError

_REASON = "taken back by hand"

Holders = Mapping[str, Collection[int]]
"""Ids of hotpatches, and the pids of the processes that had them."""


def keep_away(
    places: Places, ids: Collection[str] | None, pids: Collection[int] | None, reason: str = _REASON, *, below: bool
) -> Holders:
    """Put what is about to be taken back into quarantine, where an agent keeps this machine; return what is new there.

    Args:
        places: of files.
        ids: of any hotpatch of each update; None: all that is active.
        pids: processes; None: all.
        reason: for people.
        below: what an update took over from is taken back too.

    Raises:
        OSError: it cannot be written.
        InputError: the quarantine cannot be read.
    """
    if not _has_agent(places):
        return {}
    holders: dict[str, set[int]] = {}
    for pid in patched_processes() if pids is None else pids:
        with contextlib.suppress(HotmendError):  # one that cannot be looked at cannot be changed either
            for identity in _chosen(process_status(pid), ids, below=below):
                holders.setdefault(identity, set()).add(pid)
    new = put_in(places.quarantine, _entries(holders, reason), History(places.history).append)
    return {entry.update: holders[entry.update] for entry in new}


def note_reverted(
    places: Places, results: Iterable[ProcessResult], reason: str = _REASON, kept: Holders | None = None
) -> None:
    """Write down what was taken back, and keep it away, by the ids of its hotpatches.

    Args:
        places: of files.
        results: of taking back.
        reason: for people.
        kept: what `keep_away` put into quarantine for it: what no process let go of comes out again.

    Raises:
        OSError: it cannot be written.
        InputError: the quarantine cannot be read.
    """
    results = tuple(results)
    done = [result for result in results if result.state == "reverted"]
    if not (done or kept) or not _has_agent(places):
        return
    ids = tuple(dict.fromkeys(shadow.hotpatch_id for result in done for shadow in result.shadows))
    history = History(places.history)
    if done:
        processes = tuple(ChangedProcess(r.pid, r.start_time_ticks, r.comm, unit_of(r.pid)) for r in done)
        history.append(Reverted(hotpatches=ids, processes=processes, reason=reason))
    refused = {result.pid for result in results if result.state == "refused"}
    lifted = [identity for identity, pids in (kept or {}).items() if refused.issuperset(pids) and identity not in ids]
    put_in(places.quarantine, _entries(ids, reason), history.append)
    take_out(places.quarantine, lifted, (), "not taken back", history.append)


def _has_agent(places: Places) -> bool:
    return places.state.is_dir() and os.geteuid() == 0


def _chosen(status: Iterable[AppliedHotpatch], ids: Collection[str] | None, *, below: bool) -> set[str]:
    """Return what of a process's hotpatches is to be taken back."""
    here = tuple(status)
    chosen = {h.id for h in here if h.active and (ids is None or {h.id, *h.update}.intersection(ids))}
    return chosen | {h.id for h in here if h.replaced_by and (ids is None or (below and h.replaced_by in chosen))}


def _entries(ids: Iterable[str], reason: str) -> list[Entry]:
    return [Entry(identity, datetime.now(UTC), reason) for identity in ids]
