"""What the service manager says of units, and having it restart one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from hotmend.model.errors import InputError, RemoteError

_SECONDS_MAX: Final = 60
_RESTART_SECONDS_MAX: Final = 1800
"""Services have limits of their own, which end much sooner; a database may well take minutes to stop."""
_REBOOT_SECONDS_MAX: Final = 30
"""To hand it over. What the shutdown then waits for, the units say; the agent's own: 300 s at most."""

_BEHIND: Final = ("After", "Requires", "Requisite", "BindsTo", "PartOf", "Wants")
_ALONG: Final = ("RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf", "PropagatesStopTo")
_PROPERTIES: Final = (
    "Id", "LoadState", "ActiveState", "RefuseManualStart", "RefuseManualStop", "CanStart", *_BEHIND, *_ALONG
)  # fmt: skip
_DOWN: Final = ("inactive", "failed")


@dataclass(frozen=True, slots=True)
class UnitFacts:
    """A unit.

    Attributes:
        name: of it.
        loaded: its file is there and could be read.
        active: as `systemctl is-active` says: `active`, `failed`, ...
        refuses: it must not be started or stopped by hand.
        behind: units that it is started after, or needs.
        along: units that are stopped or restarted where it is, if they are up.
    """

    name: str
    loaded: bool
    active: str
    refuses: bool
    behind: frozenset[str]
    along: frozenset[str] = frozenset()

    @property
    def up(self) -> bool:
        """Whether there is something of it to be stopped."""
        return self.active not in _DOWN


def parse_units(text: str) -> dict[str, UnitFacts]:
    """Return the units that `systemctl show` printed, by name; between two units is an empty line."""
    units = {}
    for block in text.split("\n\n"):
        fields = properties(block)
        if name := fields.get("Id"):
            refuses = "yes" in (fields.get("RefuseManualStart"), fields.get("RefuseManualStop"))
            units[name] = UnitFacts(
                name,
                fields.get("LoadState") == "loaded" and fields.get("CanStart", "yes") == "yes",
                fields.get("ActiveState", "unknown"),
                refuses,
                frozenset(unit for key in _BEHIND for unit in fields.get(key, "").split()),
                frozenset(unit for key in _ALONG for unit in fields.get(key, "").split()),
            )
    return units


def properties(text: str) -> dict[str, str]:
    """Return the properties of the one unit that `systemctl show` printed."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def unit_facts(names: Iterable[str]) -> dict[str, UnitFacts]:
    """Return what the service manager says of units; nothing where there is none.

    Units that are only ordered with a name of their own among the others (an alias) stand under their real name.
    """
    wanted = list(names)
    if not wanted:
        return {}
    try:
        return parse_units(systemctl("show", f"--property={','.join(_PROPERTIES)}", "--", *wanted))
    except (RemoteError, InputError):
        return {}


def facts_with_along(names: Iterable[str]) -> dict[str, UnitFacts]:
    """Return what the service manager says of units, and of all that goes where they go."""
    found: dict[str, UnitFacts] = {}
    wanted = set(names)
    while wanted:
        found |= unit_facts(sorted(wanted))
        wanted = {unit for name in wanted if name in found for unit in found[name].along} - found.keys()
    return found


def restart_unit(name: str) -> None:
    """Have a unit restarted, and wait until its job has ended.

    Raises:
        RemoteError: it failed; with the service manager's own complaint.
        InputError: there is no service manager to ask.
    """
    systemctl("restart", "--", name, seconds=_RESTART_SECONDS_MAX)


def reboot_machine() -> None:
    """Have the service manager reboot; it is asked, and not waited for.

    Raises:
        RemoteError: it does not.
        InputError: there is no service manager to ask.
    """
    try:
        systemctl("reboot", seconds=_REBOOT_SECONDS_MAX)
    except RemoteError:
        # A shutdown that has begun may end systemctl before its answer is there.
        if systemctl("show", "--property=SystemState", "--value", seconds=_REBOOT_SECONDS_MAX).strip() != "stopping":
            raise


def active_state(name: str) -> str:
    """Return how a unit is: `active`, `failed`, ...; `unknown` where nobody says."""
    facts = unit_facts([name])
    return facts[name].active if name in facts else "unknown"


def systemctl(*arguments: str, seconds: int = _SECONDS_MAX) -> str:
    """Have systemctl do something and return what it printed.

    Raises:
        RemoteError: it failed, or did not end in time.
        InputError: there is no service manager to ask.
    """
    command = ["systemctl", "--no-pager", "--no-ask-password", *arguments]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError:
        raise InputError("systemctl is not there", "restart it as this machine does") from None
    except subprocess.TimeoutExpired:
        raise RemoteError(f"systemctl {arguments[0]} did not end within {seconds} s") from None
    if done.returncode:
        complaint = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RemoteError(f"systemctl {arguments[0]}: {complaint[0]}")
    return done.stdout
