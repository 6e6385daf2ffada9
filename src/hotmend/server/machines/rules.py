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
    """It was taken in before, and the key that it had signs for the one that it has now; or was never heard since."""
    UNPROVEN = "unproven"
    """It says that it is a host that was taken in before, and has not that one's key."""
    CLONE = "clone"
    """Another host has the same /etc/machine-id."""


@dataclass(frozen=True, slots=True)
class Before:
    """A machine with the same /etc/machine-id that was taken in: its id and hardware; whether it ever checked in."""

    id: str
    hardware: str
    heard: bool = True


def known(host: Host, before: Sequence[Before], proven: str = "") -> tuple[Known, str]:
    """Return what a host is, and the id of the machine that it is or is a clone of.

    Args:
        host: what it says of itself: whoever knows the same can say the same.
        before: machines with its /etc/machine-id.
        proven: id of the machine whose key has signed for the new one; "": of none.

    Where neither says what its hardware is, it is taken for a clone: somebody looks.
    """
    same = [machine for machine in before if host.hardware and host.hardware == machine.hardware]
    # Where nobody has checked in yet, the answer to the first enrolment may have been lost: there is nothing to take.
    mine = [machine.id for machine in same if machine.id == proven or not machine.heard]
    if mine:
        return Known.SAME, proven if proven in mine else mine[0]
    if same:
        return Known.UNPROVEN, same[0].id
    return (Known.CLONE, before[0].id) if before else (Known.NEW, "")
