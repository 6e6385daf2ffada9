"""What both parts leave for each other, each in a folder of its own."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from hotmend.agent.paths import Places
from hotmend.agent.uplink.news import SAFE, opened_new
from hotmend.model.errors import InputError
from hotmend.wire.keys import PublicKey
from hotmend.wire.messages import Answer, Hex64, Identity, Moment, Reached, SignedPolicy, decode_answer
from hotmend.wire.report import Report
from hotmend.wire.signing import answer_verified, parse

FILE_BYTES_MAX: Final = 8 << 20

T = TypeVar("T")


class Registration(msgspec.Struct, frozen=True):
    """Whose machine this is; written by root alone, readable for everyone.

    Attributes:
        url: of the server.
        machine: its id there.
        server_key: that answers and policies must be signed with.
        ca: PEM file of the authorities that its certificate may be from; "" for the system's.
    """

    url: str
    machine: Identity
    server_key: Hex64
    ca: str = ""


class Outbox(msgspec.Struct, frozen=True):
    """What the acting part has to say.

    Attributes:
        report: of the last turn; None before the first.
        reached: states that the last actions came to, oldest first.
        policy: hash of the policy that it has; "" for none.
        looked_at, look_minutes: of the report, as in `CheckIn`.
    """

    report: Report | None = None
    reached: tuple[Reached, ...] = ()
    policy: str = ""
    looked_at: Moment | None = None
    look_minutes: int | None = None


class Wish(msgspec.Struct, frozen=True):
    """What the acting part says of its restart slot; as in `CheckIn`."""

    slot: bool | None = None


class Letter(msgspec.Struct, frozen=True):
    """An answer as it came: bytes and the two headers that sign it."""

    body: bytes
    signature_input: str
    signature: str


class Carried(msgspec.Struct, frozen=True):
    """What the carrying part remembers.

    Attributes:
        counter: of the last request; it only grows, and is on the disk before a request is sent.
        told: states that the server has, as `ACTION STATE`.
        failures: requests in a row that brought no answer.
        next_seconds: what the server said last; 0: nothing yet.
        refused: what the server said instead of an answer last; "": it has answered, or could not be reached.
    """

    counter: Annotated[int, Meta(ge=0)] = 0
    told: tuple[str, ...] = ()
    failures: int = 0
    next_seconds: int = 0
    refused: str = ""


class Directed(msgspec.Struct, frozen=True):
    """What the acting part has taken from letters.

    Attributes:
        counter: of the last letter: an older one is not opened again.
        policy: the last one of a higher serial.
        halted: why nothing new begins; "": it may.
        approved: this machine may do something.
        slot_until: of the restart slot that it has; None: it has none.
        window_until: end of the open window, where it has the word that its policy asks for; None: it has not.
        heard_at: when the last letter was signed; None: before the first, or by an earlier version.
    """

    counter: int = 0
    policy: SignedPolicy | None = None
    halted: str = ""
    approved: bool = True
    slot_until: Moment | None = None
    window_until: Moment | None = None
    heard_at: Moment | None = None


def registration(places: Places) -> Registration | None:
    """Return whose machine this is; None: nobody's.

    Raises:
        InputError: the file cannot be read: nothing is taken for nobody's that is somebody's.
    """
    return read(places.server, Registration)


def wish_file(places: Places) -> Path:
    """Return where the wish for a restart slot is: beside what else there is to tell."""
    return places.outbox.with_name("slot.json")


def letter(places: Places, own: Registration) -> Answer | None:
    """Return the last answer, where the pinned key has signed it for this machine; None where there is none.

    Raises:
        InputError: it is there, and is none of that.
    """
    found = read(places.letter, Letter)
    if found is None:
        return None
    signed = parse(found.signature_input, found.signature)
    if signed is None or not answer_verified(signed, PublicKey(own.server_key), 200, found.body):
        raise InputError("the server's letter is not signed by the key that this machine pinned")
    answer = decode_answer(found.body)
    if (answer.machine, answer.counter) != (own.machine, signed.counter):
        raise InputError("the server's letter is for another machine, or another check-in")
    return answer


def read(file: Path, kind: type[T]) -> T | None:
    """Return what a file holds; None where there is none. A link, a device or a large file is not read.

    Raises:
        InputError: it holds something else.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | SAFE)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InputError(f"{file}: not a file")
        data = stream.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise InputError(f"{file}: larger than {FILE_BYTES_MAX} bytes")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{file}: {error}") from None


def write(file: Path, value: msgspec.Struct, mode: int = 0o640) -> None:
    """Put a file there, on the disk, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    new = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = opened_new(new, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(msgspec.json.encode(value))
        stream.flush()
        if sys.platform != "win32":  # there a folder's own rights hold for what is in it
            os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    new.replace(file)
