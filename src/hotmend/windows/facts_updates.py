"""The update history and what is offered, from the update agent and the list of installed packages."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from hotmend.servicing.facts import UPDATES_MAX, Offer, Update, UpdateState
from hotmend.windows.agent import OFFERED, PENDING, UpdateAgent
from hotmend.windows.cim import Cim
from hotmend.windows.notes import Notes
from hotmend.windows.registry import Machine
from hotmend.windows.updates import Entry, Search

PENDING_KEYS: Final = (
    r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\WindowsUpdate\Auto Update\RebootRequired",
    r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\RebootPending",
)
"""Keys that are there as long as something installed waits for a boot."""
PACKAGES_KEY: Final = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\Packages"
_CUMULATIVE: Final = "Package_for_RollupFix~"
_NEAR: Final = timedelta(days=3)
"""A package is staged before the boot that completes it, and the history has the time of its end."""
_ERA: Final = datetime(1601, 1, 1, tzinfo=UTC)


def history(
    agent: UpdateAgent, cim: Cim, machine: Machine, notes: Notes
) -> tuple[tuple[Update, ...] | None, datetime | None]:
    """Return the newest state of each update, and from when on all are known.

    The agent's history begins when its store was made, or made anew. What was installed past it, by DISM, is added from
    the list of installed packages. That has only what nothing newer replaced; where a cumulative package was installed
    at a time of which the history has no entry, all that is known begins after it.
    """
    entries = notes.ask("windows.updates", agent.history)
    if entries is None:
        return None, None
    pending = notes.ask("windows.updates.state", lambda: agent.search(PENDING))
    installed = notes.ask("windows.updates_since", lambda: quick_fixes(cim))
    waiting = frozenset(kb for found in pending.updates for kb in found.kbs) if pending else frozenset()
    updates = states(entries, installed or {}, waiting)
    since = min((entry.at for entry in entries), default=None)
    if installed is None or pending is None:
        since = None  # something may have been installed that the agent does not know of
    elif since is None:
        notes.unknown("windows.updates_since", "the update history is empty")
    else:
        since = max([since, *_past_history(entries, machine, since)])
    return updates[:UPDATES_MAX], since


def _past_history(entries: Iterable[Entry], machine: Machine, since: datetime) -> Iterator[datetime]:
    """Yield the day after each cumulative package that was installed within the history and that it does not have."""
    known = [entry.at for entry in entries if entry.result.succeeded and entry.operation == "install"]
    for name in machine.subkeys(PACKAGES_KEY) or ():
        values = machine.values(rf"{PACKAGES_KEY}\{name}") if name.startswith(_CUMULATIVE) else None
        high, low = ((values or {}).get(part) for part in ("InstallTimeHigh", "InstallTimeLow"))
        if high is None or low is None or high.number is None or low.number is None:
            continue
        at = _ERA + timedelta(microseconds=((high.number << 32) | low.number) // 10)
        if at > since and not any(abs(at - moment) <= _NEAR for moment in known):
            yield at + timedelta(days=1)


def states(
    entries: Iterable[Entry], installed: Mapping[str, datetime | None], waiting: frozenset[str]
) -> tuple[Update, ...]:
    """Return the newest state of each update, newest first.

    Args:
        entries: of the history, in any order.
        installed: KBs that the list of packages has, whatever the history says, and since when.
        waiting: KBs that take effect with the next boot.
    """
    found: dict[str, Update] = {}
    for entry in sorted(entries, key=lambda each: each.at):
        for kb in entry.kbs:
            state = _state(entry, found.get(kb))
            if state is not None:
                found[kb] = Update(kb, state, entry.at, entry.title[:1000] or None)
    for kb, at in installed.items():
        earlier = found.get(kb)
        if earlier is None or earlier.state != "installed":
            found[kb] = Update(kb, "installed", at, earlier.title if earlier else None)
    marked = [
        Update(each.kb, "pending-reboot", each.installed_at, each.title)
        if each.kb in waiting and each.state == "installed"
        else each
        for each in found.values()
    ]
    return tuple(sorted(marked, key=lambda each: each.installed_at or datetime.min.replace(tzinfo=UTC), reverse=True))


def _state(entry: Entry, before: Update | None) -> UpdateState | None:
    """Return the state after an entry; None where it changes nothing."""
    if entry.result.succeeded:
        return "uninstalled" if entry.operation == "uninstall" else "installed"
    if entry.operation == "install" and (before is None or before.state != "installed"):
        return "failed"
    return None


def quick_fixes(cim: Cim) -> dict[str, datetime | None]:
    """Return the KBs of installed packages and since when; those that a newer one replaced are not among them."""
    rows = cim.instances(r"root\cimv2", "Win32_QuickFixEngineering", ("HotFixID", "InstalledOn"))
    found = ((str(row["HotFixID"]), str(row["InstalledOn"])) for row in rows)
    return {kb: _latest_day(text) for kb, text in found if re.fullmatch(r"KB[0-9]{6,8}", kb)}


def _latest_day(text: str) -> datetime | None:
    """Return a day as the list has it, month first; where day and month could be swapped, the later of both."""
    match = re.fullmatch(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4})", text)
    if match is None:
        return None
    one, two, year = map(int, match.groups())
    days = []
    for month, day in ((one, two), (two, one)):
        with contextlib.suppress(ValueError):
            days.append(datetime(year, month, day, tzinfo=UTC))
    return max(days, default=None)


def offered(agent: UpdateAgent, notes: Notes) -> tuple[tuple[Offer, ...] | None, Search | None]:
    """Return what the agent offers."""
    found = notes.ask("offered", lambda: agent.search(OFFERED))
    if found is None:
        return None, None
    if found.warnings:
        notes.unknown("offered", f"perhaps not all of them: {'; '.join(found.warnings)}")
    return tuple(update.offer for update in found.updates), found


def reboot_pending(machine: Machine, agent: UpdateAgent | None, notes: Notes) -> bool | None:
    """Return whether something that was installed waits for a boot."""
    if any(machine.values(key) is not None for key in PENDING_KEYS):
        return True
    if agent is None:
        return None
    return notes.ask("reboot_pending", agent.reboot_required)
