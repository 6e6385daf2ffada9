"""Enrolment, check-in and answer, between versions that differ.

Fields are only ever added, with defaults, and one that is not known is left unread. A word that is not known does what
is safest and leaves the rest of the message good: what is asked for is not done, a state changes nothing, and a fix
that is somewhere else is nowhere.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from hotmend.model.errors import InputError
from hotmend.servicing.actions import State
from hotmend.wire.report import Report, Text, Texts

ENROL_PATH: Final = "/agent/v1/enrol"
CHECK_IN_PATH: Final = "/agent/v1/check-in"
LEAVE_PATH: Final = "/agent/v1/leave"

BODY_BYTES_MAX: Final = 2 << 20
STATES_MAX: Final = 200
ORDERS_MAX: Final = 20
LOOK_MINUTES_MAX: Final = 60 * 24 * 31

T = TypeVar("T")
Wire = Annotated[int, Meta(ge=1, le=1_000_000)]
Moment = Annotated[datetime, Meta(tz=True)]
Hex64 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Identity = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
Name = Annotated[str, Meta(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Host(msgspec.Struct, frozen=True):
    """By what a copy of a machine is told from it. Hashes: a server learns no serial number.

    Attributes:
        machine: of the installation: /etc/machine-id.
        hardware: of the (virtual) hardware: its UUID and network addresses; "" where it cannot be read.
        boot: of the boot.
    """

    machine: Hex64
    hardware: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")] = ""
    boot: Annotated[str, Meta(max_length=64)] = ""


class Former(msgspec.Struct, frozen=True):
    """The key that a machine had until now says which one comes after it.

    Attributes:
        machine: its id at the server.
        counter: of the key before: never used.
        signature: of `signing.handover`, by that key.
    """

    machine: Identity
    counter: Annotated[int, Meta(ge=1, lt=10**18)]
    signature: Annotated[str, Meta(pattern="^[0-9a-f]{128}$")]


class Enrol(msgspec.Struct, frozen=True):
    """A machine asks to be taken in. The request is signed with the new key, whose name is the key itself.

    Attributes:
        key: registration key.
        name: of the machine.
        public_key: that it has made.
        host: see `Host`.
        platform: `linux` or `windows`.
        agent: version of hotmend.
        former: where this machine is enrolled already and has its key still.
    """

    key: Annotated[str, Meta(min_length=10, max_length=200)]
    name: Name
    public_key: Hex64
    host: Host
    platform: Literal["linux", "windows"] = "linux"
    agent: Text = ""
    former: Former | None = None


class Enrolled(msgspec.Struct, frozen=True):
    """It is taken in, or waits for approval.

    Attributes:
        machine: its id from now on.
        approved: whether it may do something.
        server_key: what answers and policies are signed with.
        why: why it waits.
    """

    machine: Identity
    approved: bool
    server_key: Hex64
    why: Text = ""


class Kind(StrEnum):
    """What an action does."""

    ASSESS = "assess"
    INSTALL = "install"
    REVERT = "revert"
    QUARANTINE = "quarantine"
    LIFT = "lift"
    UNDO = "undo"
    """A revert of what one action brought, whatever that was. A word of its own: who does not know it does nothing,
    where a revert that names no updates would take back all that is there."""
    UNKNOWN = "unknown"
    """A word of a later version."""

    @classmethod
    def _missing_(cls, value: object) -> Kind:  # noqa: ARG003 - whatever it is
        return cls.UNKNOWN


class Reached(msgspec.Struct, frozen=True):
    """An action came to a state on the machine; one of a later version is not known here (`known`: None)."""

    action: Identity
    state: Annotated[str, Meta(max_length=40)]
    at: Moment
    detail: Annotated[str, Meta(max_length=2000)] = ""

    @property
    def known(self) -> State | None:
        """The state."""
        try:
            return State(self.state)
        except ValueError:
            return None


class CheckIn(msgspec.Struct, frozen=True):
    """A machine is there.

    Attributes:
        host: see `Host`.
        agent: version of hotmend.
        report_hash: of the report that holds now; "" before the first.
        report: where the server has another one.
        reached: states of actions that the server has not confirmed yet, oldest first.
        policy: hash of the policy that the machine has; "" for none.
        slot: something is due that needs a restart slot; False: nothing is any more; None: nothing here needs one.
        wire: version of what it says: `wire.version`.
        looked_at: when the machine was last looked at, which `report_hash` is of, by its own clock; None: never, or an
            earlier version, which does not say.
        look_minutes: how long after a look the next one comes at the latest.
    """

    host: Host
    agent: Text = ""
    report_hash: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")] = ""
    report: Report | None = None
    reached: Annotated[tuple[Reached, ...], Meta(max_length=STATES_MAX)] = ()
    policy: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")] = ""
    slot: bool | None = None
    wire: Wire = 1
    looked_at: Moment | None = None
    look_minutes: Annotated[int, Meta(ge=1, le=LOOK_MINUTES_MAX)] | None = None


class _Versioned(msgspec.Struct, frozen=True):
    """What messages of all versions have."""

    wire: Wire = 1


class Order(msgspec.Struct, frozen=True):
    """An action that is due on this machine.

    Attributes:
        id: of the action: never done twice.
        kind: what.
        updates: the ones meant, as PACKAGE=VERSION or a release's id; all that are offered where there are none.
        anytime: outside a window too.
        emergency: goes before all else, holds on a machine that is halted, and leaves windows out: reverts, and looks
            that a rollout waits for.
        disk: packages are installed as well.
        reboot: at most so much of what the policy allows; "": all of it.
        until: what has not begun by then is not begun; None: no end.
        reason: for people.
        undoes: a revert is about what this action brought to the machine, by the machine's own record; None: about
            `updates`. Who does not know it takes back `updates`.
    """

    id: Identity
    kind: Kind
    updates: Texts = ()
    anytime: bool = False
    emergency: bool = False
    disk: bool = True
    until: Moment | None = None
    reason: Text = ""
    reboot: Literal["", "never", "if-required", "always"] = ""
    undoes: Identity | None = None


class SignedPolicy(msgspec.Struct, frozen=True):
    """A policy as bytes, and the server's signature over them."""

    body: bytes
    signature: bytes


class Answer(msgspec.Struct, frozen=True):
    """What a machine is told. Signed for this machine and this check-in.

    Attributes:
        machine, counter: whom and which check-in it answers.
        at: the server's time.
        next_seconds: when to come back.
        halted: nothing new begins; why. "": it is not.
        want_report: the server does not have the report of this hash.
        approved: the machine may do something.
        policy: a signed policy, where the machine has another one.
        policy_hash: of the policy that holds; "" for none.
        orders: what is due.
        confirmed: actions whose states are recorded.
        slot_until: the machine has a restart slot, and for how long; None: it has none.
        slot_why: why it has none, where it asked.
        window_until: its open window has the word that its policy asks for, until then; None: it has not.
        wire_oldest, wire_newest: versions of agents that the server speaks with.
    """

    machine: str
    counter: int
    at: Moment
    next_seconds: Annotated[int, Meta(ge=1, le=30 * 86400)]
    halted: str = ""
    want_report: bool = False
    approved: bool = True
    policy: SignedPolicy | None = None
    policy_hash: str = ""
    orders: Annotated[tuple[Order, ...], Meta(max_length=ORDERS_MAX)] = ()
    confirmed: tuple[str, ...] = ()
    slot_until: Moment | None = None
    slot_why: str = ""
    window_until: Moment | None = None
    wire_oldest: int = 1
    wire_newest: int = 1


def decode_enrol(data: bytes) -> Enrol:
    """Return a request to be taken in.

    Raises:
        InputError: it is none.
    """
    return _decoded(_enrol, data)


def decode_check_in(data: bytes) -> CheckIn:
    """Return a check-in.

    Raises:
        InputError: it is none.
    """
    return _decoded(_check_in, data)


def wire_of(data: bytes) -> int:
    """Return the version that a check-in of any version says; 1 where it says none that can be read."""
    try:
        return _versioned.decode(data).wire
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return 1


def decode_enrolled(data: bytes) -> Enrolled:
    """Return the answer to `Enrol`.

    Raises:
        InputError: it is none.
    """
    return _decoded(_enrolled, data)


def decode_answer(data: bytes) -> Answer:
    """Return an answer to a check-in.

    Raises:
        InputError: it is none.
    """
    return _decoded(_answer, data)


encode: Final = msgspec.json.Encoder().encode

_enrol: Final = msgspec.json.Decoder(Enrol)
_check_in: Final = msgspec.json.Decoder(CheckIn)
_enrolled: Final = msgspec.json.Decoder(Enrolled)
_versioned: Final = msgspec.json.Decoder(_Versioned)
_answer: Final = msgspec.json.Decoder(Answer)


def _decoded(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    if len(data) > BODY_BYTES_MAX:
        raise InputError(f"a message is at most {BODY_BYTES_MAX} bytes")
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InputError(f"not a message: {error}") from None
