"""Where agents come in: three paths, beside the API. A check-in is what a server does most, and goes the short way."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.types import Receive, Scope, Send

from hotmend.model.errors import InputError
from hotmend.server import problem
from hotmend.server.context import Context
from hotmend.server.limits import address_of, too_often
from hotmend.server.machines import contact, service
from hotmend.server.machines.batch import Batcher
from hotmend.server.problem import Problem
from hotmend.wire.keys import PublicKey
from hotmend.wire.messages import (
    BODY_BYTES_MAX,
    CHECK_IN_PATH,
    ENROL_PATH,
    LEAVE_PATH,
    Answer,
    decode_check_in,
    decode_enrol,
    encode,
    wire_of,
)
from hotmend.wire.signing import CLOCK_SKEW_SECONDS_MAX, Signed, answer_headers, parse, request_verified
from hotmend.wire.version import spoken

_NUL: Final = (b"\0", b"\\u0000")
"""PostgreSQL keeps no such character, and nothing that a machine says has one."""


_REFUSED: Final = frozenset({400, 401, 403, 409, 413})
"""What counts as a refusal of an address: nothing that an honest machine hears again and again."""
_SIGNING: Final = (b"signature-input", b"signature")


class Door:
    """Answers agents, as an ASGI application of its own."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._batcher = Batcher(lambda batch: contact.take(context, batch))
        self._paths = {CHECK_IN_PATH: self._check_in, ENROL_PATH: self._enrol, LEAVE_PATH: self._leave}

    def is_for(self, path: str) -> bool:
        """Say whether a path is one of agents."""
        return path in self._paths

    def close(self) -> None:
        """End what works in the background."""
        self._batcher.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request to one of the paths."""
        ask = self._paths[scope["path"]]
        address = address_of(scope.get("client"))
        try:
            if scope["method"] != "POST":
                raise Problem(405, "method", "agents POST here")
            signed = _signed(scope)
            strained = self._bounded(address, scope["path"], signed)
            body = await _read(receive)
            if strained and not self._is_known(scope["path"], signed, body):
                raise too_often(strained)
            answered = await ask(scope, body, signed)
        except Exception as error:  # noqa: BLE001 - every error is an answer
            told = problem.problem_of(error)
            if told.status in _REFUSED:
                self._context.refusals.wait_seconds(address)
            answer = problem.answer(told)
            await answer(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": self._headers(answered, signed)})
        await send({"type": "http.response.body", "body": answered})

    def _bounded(self, address: str, path: str, signed: Signed) -> float:
        """Return for how long an address is refused that has been too often; 0.0: it is not. Nothing was read yet.

        Only check-ins that were good count for a machine: nobody else can use them up in its name.

        Raises:
            Problem: the machine asks too often, or the address was refused too often and this is nobody known.
        """
        if path == CHECK_IN_PATH and (wait := self._context.machines.would_wait(signed.key)):
            raise too_often(wait, "too many check-ins of this machine")
        wait = self._context.refusals.would_wait(address)
        if wait and self._context.keys.get(signed.key) is None:
            raise too_often(wait)
        return wait

    def _is_known(self, path: str, signed: Signed, body: bytes) -> bool:
        """Say whether a machine has signed this that was good lately, without a look into the database."""
        key = self._context.keys.get(signed.key)
        return key is not None and request_verified(signed, key, "POST", path, body)

    async def _check_in(self, scope: Scope, body: bytes, signed: Signed) -> bytes:  # noqa: ARG002
        try:
            message = decode_check_in(body)
        except InputError:  # one of a version that is too new may have another form
            if not spoken(wire := wire_of(body)):
                raise contact.not_spoken(wire) from None
            raise
        found = await self._batcher.submit(contact.Received(signed, message, body))
        if isinstance(found, Answer):
            self._context.machines.wait_seconds(signed.key)
            return encode(found)
        raise found

    async def _enrol(self, scope: Scope, body: bytes, signed: Signed) -> bytes:
        if wait := self._context.enrolments.wait_seconds(address_of(scope.get("client"))):
            raise too_often(wait, "too many enrolments")
        wanted = decode_enrol(body)
        if signed.key != wanted.public_key:
            raise Problem(401, "not-this-key", "not signed with the key that is to be registered")
        self._fresh(signed, PublicKey(wanted.public_key), ENROL_PATH, body)
        enrolled = await asyncio.to_thread(service.enrol, self._context, wanted, signed.counter)
        return encode(enrolled)

    async def _leave(self, scope: Scope, body: bytes, signed: Signed) -> bytes:  # noqa: ARG002
        key = await asyncio.to_thread(service.machine_key, self._context, signed.key)
        self._fresh(signed, key, LEAVE_PATH, body)
        await asyncio.to_thread(service.leave, self._context, signed)
        return b"{}"

    def _fresh(self, signed: Signed, key: PublicKey, path: str, body: bytes) -> None:
        if not request_verified(signed, key, "POST", path, body):
            raise Problem(401, "signature", "the signature is not one of this key")
        if abs(signed.created - self._context.clock().timestamp()) > CLOCK_SKEW_SECONDS_MAX:
            raise Problem(401, "clock", "the clocks of machine and server are more than five minutes apart")

    def _headers(self, body: bytes, signed: Signed) -> list[tuple[bytes, bytes]]:
        now = int(self._context.clock().timestamp())
        headers = answer_headers(self._context.key, 200, body, created=now, counter=signed.counter)
        own = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
        return own + [(name.lower().encode(), value.encode()) for name, value in headers.items()]


async def _read(receive: Receive) -> bytes:
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Problem(400, "cut-off", "the request ended before its body did")
        part = message.get("body", b"")
        size += len(part)
        if size > BODY_BYTES_MAX:
            raise Problem(413, "too-large", f"at most {BODY_BYTES_MAX} bytes")
        parts.append(part)
        more = message.get("more_body", False)
    body = b"".join(parts)
    if any(nul in body for nul in _NUL):
        raise InputError("a message has no NUL in it")
    return body


def _signed(scope: Scope) -> Signed:
    given = {name: value for name, value in scope["headers"] if name in _SIGNING}
    found = parse(*(given.get(name, b"").decode("latin-1") for name in _SIGNING))
    if found is None:
        raise Problem(401, "not-signed", "Signature-Input and Signature are missing, or not of this profile")
    return found
