"""What a person took back by hand stays taken back: the agent does not bring it again until it is told to."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime

from hotmend.agent.census.units import unit_of
from hotmend.agent.paths import Places
from hotmend.agent.record.history import ChangedProcess, History, Quarantined, Reverted
from hotmend.agent.record.quarantine import Entry, read_quarantine, with_entry, write_quarantine
from hotmend.live.driver import ProcessResult

_REASON = "taken back by hand"


def note_reverted(places: Places, results: Iterable[ProcessResult], reason: str = _REASON) -> None:
    """Put what was taken back into quarantine, by the ids of its hotpatches, where an agent keeps this machine.

    Raises:
        OSError: it cannot be written.
        InputError: the quarantine cannot be read.
    """
    done = [result for result in results if result.state == "reverted"]
    if not done or not places.state.is_dir() or os.geteuid() != 0:
        return
    ids = tuple(dict.fromkeys(shadow.hotpatch_id for result in done for shadow in result.shadows))
    history = History(places.history)
    processes = tuple(ChangedProcess(r.pid, r.start_time_ticks, r.comm, unit_of(r.pid)) for r in done)
    history.append(Reverted(hotpatches=ids, processes=processes, reason=reason))
    entries = read_quarantine(places.quarantine)
    for identity in ids:
        if all(entry.update != identity for entry in entries):
            history.append(Quarantined(update=identity, reason=reason))
            entries = with_entry(entries, Entry(identity, datetime.now(UTC), reason))
    write_quarantine(places.quarantine, entries)
