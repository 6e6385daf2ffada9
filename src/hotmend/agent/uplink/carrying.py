"""The part that has a network: enrols, and carries letters. It can read what leaves the machine and forge nothing."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import msgspec
import urllib3

from hotmend import __version__
from hotmend.agent.boot import boot_id
from hotmend.agent.paths import Places
from hotmend.agent.uplink.files import Carried, Letter, Outbox, Registration, Wish, read, registration, wish_file, write
from hotmend.agent.uplink.news import note_name
from hotmend.agent.uplink.rhythm import wait_seconds
from hotmend.model.errors import HotmendError, InputError, RemoteError, UsageError
from hotmend.servicing.actions import State
from hotmend.wire.keys import PublicKey, SigningKey, read_key, write_key
from hotmend.wire.messages import (
    BODY_BYTES_MAX,
    CHECK_IN_PATH,
    ENROL_PATH,
    LEAVE_PATH,
    STATES_MAX,
    Answer,
    CheckIn,
    Enrol,
    Enrolled,
    Former,
    Host,
    decode_answer,
    decode_enrolled,
    encode,
)
from hotmend.wire.report import report_hash
from hotmend.wire.signing import CLOCK_SKEW_SECONDS_MAX, answer_verified, handover, parse, request_headers
from hotmend.wire.version import VERSION

_SECONDS: Final = urllib3.Timeout(connect=10, read=30)
_TOLD_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class _Got:
    """A signed answer: nothing else is one."""

    body: bytes
    signature_input: str
    signature: str


def enrol(
    places: Places,
    url: str,
    key: str,
    host: Host,
    *,
    name: str,
    server_key: str,
    ca: str,
    platform: Literal["linux", "windows"] = "linux",
) -> Enrolled:
    """Make this machine one of a server: with a new key, and the server's key pinned. Run by root.

    Where it is enrolled already, the key that it has signs for the new one: by that the server knows it again.

    Args:
        places: of this machine.
        url: of the server: HTTPS, or HTTP on this machine itself.
        key: registration key.
        host: see `Host`.
        name: of this machine there.
        server_key: that the server must have; "": the one that it says, which the caller shows.
        ca: see `Registration`.
        platform: of this machine.

    Raises:
        UsageError: not an address to send a registration key to.
        RemoteError: the server refuses, or cannot be reached.
        InputError: that is no key of a server; or its answer is not signed by the key it should be.
    """
    _check_url(url)
    server_key = server_key.strip().lower()
    if server_key:
        PublicKey(server_key)  # a slip is found before the server has taken the machine in, with its new key
    own = SigningKey.generate()
    counter = 1
    message = encode(Enrol(key, name, own.public, host, platform, __version__, _former(places, own.public)))
    got = _post(_Caller(url, own.public, own, ca), ENROL_PATH, message, counter)
    enrolled = decode_enrolled(got.body)
    _check_signed(got, server_key or enrolled.server_key, counter)
    if server_key and enrolled.server_key != server_key:
        raise InputError("the server has another key than the one that was given")
    _keep(places, own, counter)
    write(places.host, host, 0o644)
    write(places.server, Registration(url, enrolled.machine, enrolled.server_key, ca), 0o644)
    return enrolled


def _former(places: Places, public_key: str) -> Former | None:
    """Return what the key until now says of the new one; None where there is none, or it cannot be read."""
    try:
        before = registration(places)
        if before is None:
            return None
        key, counter = read_key(places.uplink_key), _next(places).counter
    except (InputError, OSError):
        return None
    return Former(before.machine, counter, key.sign(handover(before.machine, counter, public_key)).hex())


def leave(places: Places) -> bool:
    """Leave the server; what it has said is forgotten. Return whether the server was told. Run by root.

    Raises:
        UsageError: this machine is nobody's.
    """
    own = registration(places)
    if own is None:
        raise UsageError("this machine is not enrolled anywhere", "hotmend enroll URL")
    told = True
    try:
        carried = _next(places)
        _post(_caller(places, own), LEAVE_PATH, b"{}", carried.counter)
    except (HotmendError, OSError):
        told = False
    for path in (places.server, places.host, places.directed):
        path.unlink(missing_ok=True)
    for folder in (places.uplink, places.outbox.parent):
        shutil.rmtree(folder, ignore_errors=True)
    return told


def check_in(places: Places, clock: Callable[[], float] = time.time, *, boot: str | None = None) -> Answer:
    """Go to the server once, and put its answer where the acting part finds it.

    Args:
        places: of this machine.
        clock: seconds since 1970.
        boot: what tells this boot from others; None: as Linux says.

    Raises:
        UsageError: this machine is nobody's.
        RemoteError: the server refuses, or cannot be reached.
        InputError: its answer is not signed by the pinned key.
    """
    own = registration(places)
    if own is None:
        raise UsageError("this machine is not enrolled anywhere", "hotmend enroll URL")
    outbox = read(places.outbox, Outbox) or Outbox()
    host = read(places.host, Host)
    if host is None:
        raise InputError(f"{places.host} is missing", "enrol again")
    host = msgspec.structs.replace(host, boot=boot_id(places.root) if boot is None else boot)
    answer = _ask(places, own, outbox, host, clock, send_report=False)
    if answer.want_report and outbox.report is not None:
        answer = _ask(places, own, outbox, host, clock, send_report=True)
    return answer


def failed(places: Places, error: Exception | None = None) -> None:
    """Note that a check-in brought no answer, and what the server refused, for the machine's own status."""
    carried = read(places.carried, Carried) or Carried()
    refused = f"{error}; {error.hint}".rstrip("; ") if isinstance(error, Refused) else ""
    write(places.carried, msgspec.structs.replace(carried, failures=carried.failures + 1, refused=refused[:1000]))


def refused(places: Places) -> str:
    """Return why this machine's server does not speak with it; "" where it does, or nobody here may know."""
    try:
        return (read(places.carried, Carried) or Carried()).refused if places.server.exists() else ""
    except (InputError, OSError):
        return ""


def pause(places: Places) -> float:
    """Return the seconds until the next check-in."""
    try:
        carried = read(places.carried, Carried) or Carried()
    except InputError:
        carried = Carried(failures=1)
    return wait_seconds(carried.next_seconds, carried.failures, random.random)


def own_name() -> str:
    """Return how this machine calls itself."""
    return socket.gethostname()


def _ask(
    places: Places, own: Registration, outbox: Outbox, host: Host, clock: Callable[[], float], *, send_report: bool
) -> Answer:
    carried = _next(places)
    told = set(carried.told)
    news = [each for each in outbox.reached if f"{each.action} {each.state}" not in told][:STATES_MAX]
    message = CheckIn(
        host,
        __version__,
        report_hash(outbox.report) if outbox.report is not None else "",
        outbox.report if send_report else None,
        tuple(news),
        outbox.policy,
        (read(wish_file(places), Wish) or Wish()).slot,
        VERSION,
        outbox.looked_at,
        outbox.look_minutes,
    )
    got = _post(_caller(places, own), CHECK_IN_PATH, encode(message), carried.counter, clock)
    _check_signed(got, own.server_key, carried.counter, clock)
    answer = decode_answer(got.body)
    confirmed = [f"{each.action} {each.state}" for each in news if each.action in answer.confirmed]
    kept = _still_told((*carried.told, *confirmed), answer)[-_TOLD_MAX:]
    write(places.letter, Letter(got.body, got.signature_input, got.signature))
    write(places.carried, Carried(carried.counter, kept, 0, answer.next_seconds))
    orders = sorted(order.id for order in answer.orders)
    asked = (answer.halted, answer.approved, answer.policy_hash, orders, answer.slot_until, answer.window_until)
    note_name(places.orders, hashlib.sha256(repr(asked).encode()).hexdigest())
    return answer


def _still_told(told: tuple[str, ...], answer: Answer) -> tuple[str, ...]:
    """Return what the server has of what it was told: an action that it asks for again has no end there.

    That is so after a restore: the end is told once more.
    """
    ended = {each.partition(" ")[0] for each in told if State(each.partition(" ")[2]).final}
    lost = ended & {order.id for order in answer.orders}
    return tuple(each for each in told if each.partition(" ")[0] not in lost)


def _next(places: Places) -> Carried:
    """Return what is remembered, with a counter that was never used; on the disk, whatever becomes of the request."""
    carried = read(places.carried, Carried) or Carried()
    carried = msgspec.structs.replace(carried, counter=carried.counter + 1)
    write(places.carried, carried)
    return carried


@dataclass(frozen=True, slots=True)
class _Caller:
    """Who calls whom."""

    url: str
    name: str
    key: SigningKey
    ca: str


def _caller(places: Places, own: Registration) -> _Caller:
    try:
        key = read_key(places.uplink_key)
    except OSError as error:
        raise InputError(
            f"{places.uplink_key}: {error.strerror}", "enrol again, or run it as the user hotmend"
        ) from error
    return _Caller(own.url, own.machine, key, own.ca)


def _post(caller: _Caller, path: str, body: bytes, counter: int, clock: Callable[[], float] = time.time) -> _Got:
    headers = request_headers(caller.key, caller.name, "POST", path, body, created=int(clock()), counter=counter)
    headers["Content-Type"] = "application/json"
    options: dict[str, Any] = {"ca_certs": caller.ca} if caller.ca else {}
    with urllib3.PoolManager(num_pools=1, timeout=_SECONDS, **options) as pool:
        try:
            answer = pool.request(
                "POST",
                caller.url.rstrip("/") + path,
                body=body,
                headers=headers,
                retries=False,  # a request that is sent again is a replay
                redirect=False,
                preload_content=False,
            )
            data = answer.read(BODY_BYTES_MAX + 1)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise RemoteError(
                f"{caller.url} does not answer: {error}", "is the server up, and its certificate known?"
            ) from error
    if len(data) > BODY_BYTES_MAX:
        raise RemoteError("the answer is too large")
    if answer.status != 200:
        raise _refusal(answer.status, data)
    return _Got(data, answer.headers.get("signature-input", ""), answer.headers.get("signature", ""))


class Refused(RemoteError):
    """The server answers, and says no."""


def _refusal(status: int, data: bytes) -> Refused:
    try:
        told = msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        told = {}
    return Refused(
        f"the server refuses: {told.get('detail', status)} [{told.get('code', status)}]", str(told.get("hint", ""))
    )


def _check_signed(got: _Got, server_key: str, counter: int, clock: Callable[[], float] = time.time) -> None:
    signed = parse(got.signature_input, got.signature)
    if signed is None or not answer_verified(signed, PublicKey(server_key), 200, got.body):
        raise InputError("the answer is not signed by the server's key", "is this the server that was enrolled with?")
    if signed.counter != counter:
        raise InputError("the answer is one to another request")
    if abs(signed.created - clock()) > 2 * CLOCK_SKEW_SECONDS_MAX:
        raise InputError("the answer was signed at another time; are the clocks right?")


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    local = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if (parts.scheme != "https" and not (parts.scheme == "http" and local)) or not parts.hostname:
        raise UsageError("the server's address has to begin with https://", "a registration key is sent to it")


def _keep(places: Places, key: SigningKey, counter: int) -> None:
    """Put key and counter into the folder of the part that has a network, and give it to its user."""
    shutil.rmtree(places.uplink, ignore_errors=True)
    places.uplink.mkdir(mode=0o750, parents=True)
    places.outbox.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    write_key(places.uplink_key, key)
    write(places.carried, Carried(counter))
    if sys.platform != "win32" and places.mirror.exists():
        owner = places.mirror.stat()
        for path in (*places.uplink.iterdir(), places.uplink):  # what is in it first: it is root's until then
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
        os.chown(places.outbox.parent, 0, owner.st_gid)
        places.outbox.parent.chmod(0o2750)  # files in it get the group; the part that acts may not give it away
