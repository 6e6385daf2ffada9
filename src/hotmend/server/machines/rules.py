"""What a check-in is taken for, and how a machine that asks to be taken in is: rules without I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from hotmend.wire.messages import Host
from hotmend.wire.signing import CLOCK_SKEW_SECONDS_MAX, Signed


class Heard(StrEnum):
    """What a signed check-in is."""

    GOOD = "good"
    CLOCK = "clock"
    """Machine and server disagree on the time: it could be an old one."""
    REPLAY = "replay"
    """It was heard before, or one that was signed later was."""
    TWO_HOSTS = "two-hosts"
    """It was signed after the last one, and its counter is not behind that one's: another host counts as well."""
    OTHER_HARDWARE = "other-hardware"
    """The key is on another host than the one that was taken in."""


def heard(signed: Signed, now_seconds: float, *, counter: int, signed_at: int, hardware: tuple[str, str]) -> Heard:
    """Return what a check-in is whose signature is right.

    Args:
        signed: when it was signed, and its counter.
        now_seconds: the server's time, since 1970.
        counter: of the last one that was taken.
        signed_at: of the same, since 1970.
        hardware: of the machine when it was taken in, and now; "": not known.
    """
    if abs(signed.created - now_seconds) > CLOCK_SKEW_SECONDS_MAX:
        return Heard.CLOCK
    if signed.counter <= counter:
        return Heard.TWO_HOSTS if signed.created > signed_at else Heard.REPLAY
    before, present = hardware
    if before and present and before != present:
        return Heard.OTHER_HARDWARE
    return Heard.GOOD


class Known(StrEnum):
    """What a host is that asks to be taken in."""

    NEW = "new"
    SAME = "same"
    """It was taken in before, and comes again with a new key."""
    CLONE = "clone"
    """Another host has the same /etc/machine-id."""


@dataclass(frozen=True, slots=True)
class Before:
    """A machine that was taken in with the same /etc/machine-id: its id, and its hardware."""

    id: str
    hardware: str


def known(host: Host, before: Sequence[Before]) -> tuple[Known, str]:
    """Return what a host is, and the id of the machine that it is or is a clone of.

    Where neither says what its hardware is, it is taken for a clone: somebody looks.
    """
    for machine in before:
        if host.hardware and host.hardware == machine.hardware:
            return Known.SAME, machine.id
    return (Known.CLONE, before[0].id) if before else (Known.NEW, "")
