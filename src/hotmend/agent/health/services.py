"""Services whose processes are changed: which are watched, and how one ended that does not run on.

Many end by themselves, and well: a logout ends a user's service manager, what a socket or D-Bus began ends when it is
idle, a timer's job when it is done. Others have to run on, whatever they say when they end.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Final

from hotmend.agent.census.restarts import OF_ONE_SESSION
from hotmend.agent.census.systemd import properties, systemctl
from hotmend.agent.health.probes import Probe, UnhealthyError
from hotmend.agent.record.history import Seen
from hotmend.model.errors import HotmendError

_RUNNING: Final = ("active", "reloading", "refreshing")
_WANTED_BY: Final = ("WantedBy", "RequiredBy", "UpheldBy", "BoundBy")
_PROPERTIES: Final = (
    *("ActiveState", "SubState", "Result", "MainPID", "NRestarts", "Type", "Restart", "BusName", "TriggeredBy"),
    *("ActiveExitTimestampMonotonic", "ExecMainExitTimestampMonotonic"),
    *_WANTED_BY,
)
_SECONDS_MAX: Final = 30
_LOOKS: Final = 3
_LOOK_PAUSE_SECONDS: Final = 0.5
"""The service manager learns of an end a moment after it."""

Shown = Mapping[str, str]
"""Properties of a unit, as `systemctl show` names them."""


class ServiceProbe(Probe, frozen=True):
    """A service that was active goes on, or has ended as it may: see `ended_well`."""

    unit: str

    def before(self) -> Seen | None:
        """Return the main process and how often it was restarted; None where it has none to lose.

        Raises:
            UnhealthyError: the service manager does not answer.
        """
        shown = _shown(self.unit)
        runs = shown.get("ActiveState") in _RUNNING and not _is_over(shown)
        return _main(shown) if runs and shown.get("Type") != "oneshot" else None

    def after(self, known: Seen | None) -> Seen | None:
        """Ask again.

        Raises:
            UnhealthyError: it has failed, begun anew, or ended although it has to go on.
        """
        if known is None:
            return None
        shown = _shown(self.unit)
        if ended_well(shown):
            return known
        if _is_over(shown) and shown.get("Result") == "success":
            raise UnhealthyError(f"{self.unit} has ended by itself")
        if shown.get("ActiveState") not in _RUNNING:
            raise UnhealthyError(f"{self.unit} is {shown.get('ActiveState', 'unknown')}")
        main, restarts = _main(shown)
        is_job = ".timer" in shown.get("TriggeredBy", "")  # and has another main process each time
        if restarts != known[1] or (main != known[0] and not is_job):
            raise UnhealthyError(f"{self.unit} has restarted")
        return known


def is_watched(unit: str) -> bool:
    """Return whether a unit is a service that no person's session ends."""
    return unit.endswith(".service") and not any(fnmatchcase(unit, mask) for mask in OF_ONE_SESSION)


def may_have_ended(unit: str) -> bool:
    """Return whether a service, most of whose processes are gone, has ended as it may; no where nobody says."""
    if not is_watched(unit):
        return True
    for left in reversed(range(_LOOKS)):
        try:
            shown = _shown(unit)
        except UnhealthyError:
            return False
        if ended_well(shown):
            return True
        if not left or shown.get("ActiveState") not in _RUNNING:
            return False
        time.sleep(_LOOK_PAUSE_SECONDS)
    return False


def ended_well(shown: Shown) -> bool:
    """Return whether a service has ended, or is about to, with success, and as it may.

    What was asked to end may: by a person, by a session's end. By itself ends what was begun on demand, and a job. What
    others want, or what is to be kept alive, has to go on: new code that calls exit(0) is as ill as any.
    """
    if not _is_over(shown) or shown.get("Result") != "success":
        return False
    return _was_asked(shown) or not _has_to_go_on(shown)


def _is_over(shown: Shown) -> bool:
    return shown.get("ActiveState") in ("inactive", "deactivating") or shown.get("SubState") == "exited"


def _was_asked(shown: Shown) -> bool:
    """Return whether it was to end before its main process did; what ends by itself is the other way round."""
    if shown.get("ActiveState") == "deactivating" and shown.get("MainPID", "0") != "0":
        return True
    left, ended = (int(shown.get(f"{name}TimestampMonotonic") or 0) for name in ("ActiveExit", "ExecMainExit"))
    return 0 < left <= ended


def _has_to_go_on(shown: Shown) -> bool:
    if shown.get("Type") == "oneshot" or shown.get("TriggeredBy"):
        return False
    wanted = any(shown.get(name) for name in _WANTED_BY)
    return wanted or (shown.get("Restart", "no") != "no" and not shown.get("BusName"))


def _main(shown: Shown) -> tuple[str, str]:
    return shown.get("MainPID", ""), shown.get("NRestarts", "")


def _shown(unit: str) -> Shown:
    """Return what the service manager says of a unit.

    Raises:
        UnhealthyError: it says nothing.
    """
    try:
        return properties(systemctl("show", f"--property={','.join(_PROPERTIES)}", "--", unit, seconds=_SECONDS_MAX))
    except HotmendError as error:
        raise UnhealthyError(str(error)) from error
