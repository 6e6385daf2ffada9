"""Machines for tests: the facts of a Windows Server 2025 on the line, and changes to them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TypeVar

import msgspec
from hypothesis import HealthCheck, settings

from hotmend.reference.shipped import program
from hotmend.reference.texts import Reader
from hotmend.servicing.facts import (
    Arc,
    HotpatchSetting,
    Image,
    LicenceWorkaround,
    Linux,
    MachineFacts,
    RunningImage,
    Update,
    UpdateState,
    Vsm,
    Windows,
)
from hotmend.servicing.message import Cause, Message

_Struct = TypeVar("_Struct", bound=msgspec.Struct)
PROGRAM = program()
BUSY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For properties: a busy machine is no mistake."""
OLD, NEW, OTHER = "aa" * 20, "bb" * 20, "cc" * 20


def at(day: str) -> datetime:
    """Return noon of a day, UTC."""
    return datetime.fromisoformat(day).replace(hour=12, tzinfo=UTC)


def update(kb: str, day: str | None = None, state: UpdateState = "installed", title: str = "") -> Update:
    """Return an update that was installed on a day."""
    return Update(kb, state, at(day) if day else None, title or None)


JULY, AUGUST, SEPTEMBER = (
    update("KB5062553", "2025-07-09"),
    update("KB5064010", "2025-08-13"),
    update("KB5065474", "2025-09-10"),
)
OCTOBER = update("KB5066835", "2025-10-15")


def windows(*updates: Update, **changes: object) -> Windows:
    """Return a Windows Server 2025 Datacenter, connected, with VSM, licensed, with this history."""
    found = Windows(
        edition="ServerDatacenter",
        installation="Server",
        build=26100,
        revision=None,
        preview=False,
        image=Image("own-installation"),
        scale_set="none",
        updates=updates or (JULY, AUGUST, SEPTEMBER),
        updates_since=at("2025-01-01"),
        vsm=Vsm(status=2, status_from="device-guard", uefi=True, secure_boot=True),
        arc=Arc(installed=True, connected=True, endpoints={"gbl.his.arc.azure.com": True}),
        hotpatch=HotpatchSetting("Enabled", at("2025-07-10"), "Enabled"),
        workaround=LicenceWorkaround(preview_installed=False, preview_policy=False, mutex_present=True),
    )
    return msgspec.structs.replace(found, **{"revision": 6899, **changes})


def machine(part: Windows | Linux, **changes: object) -> MachineFacts:
    """Return a machine on VMware, booted on 15 October 2025."""
    facts = MachineFacts(
        1,
        at("2025-10-20"),
        "srv",
        environment="vmware",
        architecture="amd64",
        time_zone="Europe/Berlin",
        booted_at=at("2025-10-15"),
        reboot_pending=False,
        windows=part if isinstance(part, Windows) else None,
        linux=part if isinstance(part, Linux) else None,
    )
    return msgspec.structs.replace(facts, **changes)


def linux(**changes: object) -> Linux:
    """Return a Debian 12 server with one running image."""
    found = Linux(
        distribution="debian",
        release="12",
        kernel_running="6.1.0-40-amd64",
        kernel_installed="6.1.0-40-amd64",
        baseline="2026-10",
        images=(RunningImage("/usr/sbin/nginx", OLD, OLD, OLD, units=("nginx.service",)),),
        hotpatches=(),
        root=True,
        ptrace_scope=1,
        lockdown="none",
        memory_writable=True,
        seccomp_readable=True,
        enablement="Enabled",
        entitlement_needed=False,
    )
    return msgspec.structs.replace(found, **changes)


def changed(facts: MachineFacts, **changes: object) -> MachineFacts:
    """Return facts with fields changed; `windows__vsm__status` is `windows.vsm.status`."""
    for name, value in changes.items():
        facts = _changed(facts, name.split("__"), value)
    return facts


def _changed(value: _Struct, path: list[str], new: object) -> _Struct:
    name, *rest = path
    inner = _changed(getattr(value, name), rest, new) if rest else new
    return msgspec.structs.replace(value, **{name: inner})


GERMAN = Reader("de")


def told(message: Message) -> str:
    """Return a message in English, after making sure that it can be told in German, too."""
    assert GERMAN.text(message.text) != message.text, message.text
    assert GERMAN.write(message)
    return str(message)


def because(causes: Iterable[Cause]) -> list[tuple[str, str]]:
    """Return codes and texts."""
    return [(each.code, told(each.message)) for each in causes]
