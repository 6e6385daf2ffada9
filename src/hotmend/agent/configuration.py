"""What the administrator wants of the agent: one TOML file, every part of it optional."""

from __future__ import annotations

import tomllib
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from hotmend.agent.census.never import DEFAULT_COMMANDS, DEFAULT_UNITS
from hotmend.agent.health.events import Hook
from hotmend.agent.health.probes import AnyProbe
from hotmend.model.errors import InputError, UsageError
from hotmend.servicing.maintenance import Policy, Window, policy_check

CONFIGURATION_BYTES_MAX: Final = 1 << 20

Mode = Literal["observe", "notify", "download", "automatic"]
Minutes = Annotated[int, Meta(ge=1, le=60 * 24 * 31)]


class ChannelSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A channel to follow.

    Attributes:
        address: of the repository or a mirror: `https://…`, or a folder.
        name: of the channel.
        tier: of this machine.
    """

    address: str
    name: str
    tier: Literal["canary", "stable"] = "stable"


class FleetLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The most that the machine's server may have done here, whatever it has signed: for the day on which it is stolen.

    Attributes:
        install: updates are installed, by its orders and by its policy.
        windows: `server`: in its policy's windows, and outside them where an order says so; `own`: in those of this
            file alone.
        restart: services are restarted.
        reboot: at most.
        revert: what was brought is taken back by its orders.
    """

    install: bool = True
    windows: Literal["server", "own"] = "server"
    restart: bool = True
    reboot: Literal["if-required", "never", "always"] = "if-required"
    revert: bool = True


class Configuration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the agent is to do.

    Attributes:
        mode: observe (assess alone), notify (say what waits), download (and have it ready), automatic (install).
        observe_days: whatever the mode, a machine is only observed for so long after the agent's first start.
        assess_minutes: between assessments.
        channel: where hotpatches come from; without it they are made here from apt's waiting updates.
        partial: where an image is refused, the largest part of it that is safe is taken.
        disk: packages are installed after memory is changed, with their restarts held back.
        maintenance: windows, freezes, what is taken, reboots; its `mode` is not used, `mode` above is.
        zone: IANA name of the zone of windows; "" for the machine's own.
        restart: services that run old code after a run are restarted in the window, in a safe order.
        reboot: `if-required`, `never` or `always`, in the window.
        baseline_window: where there are any, restarts and reboots wait for one of these; freezes win over them too.
        never_units, never_commands: masks of units and names of commands that are never touched, beside the defaults.
        deadline_seconds: how long to wait for a safe moment in each process.
        health_seconds: how long the machine is watched after a change before the probes decide.
        probe: health probes.
        pre_event, post_event: commands before and after a run.
        fleet: the most that a server may have done.
    """

    mode: Mode = "notify"
    observe_days: Annotated[int, Meta(ge=0, le=365)] = 7
    assess_minutes: Minutes = 60
    channel: ChannelSource | None = None
    partial: bool = False
    disk: bool = True
    maintenance: Policy = Policy()
    zone: str = ""
    restart: bool = False
    reboot: Literal["if-required", "never", "always"] = "never"
    baseline_window: Annotated[tuple[Window, ...], Meta(max_length=100)] = ()
    never_units: tuple[str, ...] = ()
    never_commands: tuple[str, ...] = ()
    deadline_seconds: Annotated[float, Meta(ge=0.1, le=3600)] = 10.0
    health_seconds: Annotated[float, Meta(ge=0, le=3600)] = 10.0
    probe: Annotated[tuple[AnyProbe, ...], Meta(max_length=1000)] = ()
    pre_event: Annotated[tuple[Hook, ...], Meta(max_length=100)] = ()
    post_event: Annotated[tuple[Hook, ...], Meta(max_length=100)] = ()
    fleet: FleetLimits = FleetLimits()

    def effective_mode(self, first_start: datetime | None, now: datetime) -> Mode:
        """Return the mode at `now`, of an agent that was first started at `first_start`."""
        if self.mode == "observe" or (first_start is None and self.observe_days):
            return "observe"
        if first_start is not None and now < first_start + timedelta(days=self.observe_days):
            return "observe"
        return self.mode

    @property
    def never(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Masks of units, and names of commands, that are never touched."""
        return DEFAULT_UNITS + self.never_units, DEFAULT_COMMANDS + self.never_commands

    @property
    def baseline(self) -> Policy:
        """What says when restarts and reboots may begin."""
        if not self.baseline_window:
            return self.maintenance
        return msgspec.structs.replace(self.maintenance, window=self.baseline_window)

    def window_zone(self) -> ZoneInfo:
        """Return the zone of windows.

        Raises:
            UsageError: the machine's own zone has no name, and none is given.
        """
        if self.zone:
            return ZoneInfo(self.zone)
        link = Path("/etc/localtime")
        if not link.exists():
            return ZoneInfo("UTC")
        if name := _zone_name(link):
            return ZoneInfo(name)
        raise UsageError("the machine's time zone has no name", 'zone = "Europe/Berlin" in the agent\'s configuration')


def _zone_name(link: Path) -> str:
    """Return the name of the zone that a link below `zoneinfo` stands for; "" where it is no such link."""
    try:
        parts = link.resolve().parts
    except OSError:
        return ""
    return "/".join(parts[parts.index("zoneinfo") + 1 :]) if "zoneinfo" in parts else ""


def parse_configuration(text: str, source: str) -> Configuration:
    """Return what a TOML text says.

    Raises:
        InputError: too large, not TOML, not this form, or a zone or window that is none.
    """
    if len(text) > CONFIGURATION_BYTES_MAX:
        raise InputError(f"{source}: larger than {CONFIGURATION_BYTES_MAX} bytes")
    try:
        given = tomllib.loads(text)
        found = msgspec.convert(given, Configuration)
        if "mode" in given.get("maintenance", {}) or "reboot" in given.get("maintenance", {}):
            raise ValueError("mode and reboot stand above [maintenance], not in it")
        if found.zone:
            ZoneInfo(found.zone)
        names = [probe.name for probe in found.probe]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two probes are called {min(twice)}")
        for probe in found.probe:
            probe.check()
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, ValueError, LookupError, OSError) as error:
        raise InputError(f"{source}: {error}", "docs/agent.md describes the configuration") from None
    policy_check(found.maintenance, source)
    policy_check(found.baseline, source)
    return found


def read_configuration(file: Path) -> Configuration:
    """Return what the file says; the defaults where there is none.

    Raises:
        InputError: it cannot be read, or is none. An agent does nothing rather than what nobody wanted.
    """
    try:
        return parse_configuration(file.read_text("utf-8"), str(file))
    except FileNotFoundError:
        return Configuration()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: {error}") from error
