"""Signed requests and answers: a fixed profile of RFC 9421 (HTTP Message Signatures) and RFC 9530 (Content-Digest).

A request covers method, path and body, says who signs, when, and a counter that only grows: what was heard once is
never taken twice, and a machine whose counter goes back is not the only one with its key. An answer covers status and
body, and names the counter that it answers. Any library of RFC 9421 reads and checks both; tests do.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Final

from hotmend.wire.keys import PublicKey, SigningKey

CLOCK_SKEW_SECONDS_MAX: Final = 300
"""How far the clocks of machine and server may be apart."""
HEADER_CHARACTERS_MAX: Final = 500

_REQUEST: Final = '("@method" "@path" "content-digest")'
_ANSWER: Final = '("@status" "content-digest")'
_PARAMETERS: Final = re.compile(
    r'sig=(\("@(?:method|status)"[^)]*\);created=(\d{1,12});keyid="([0-9a-zA-Z._-]{1,128})";alg="ed25519";nonce="(\d{1,18})")'
)
_SIGNATURE: Final = re.compile(r"sig=:([A-Za-z0-9+/]{86}==):")


@dataclass(frozen=True, slots=True)
class Signed:
    """Who signed something, as the headers say; nothing is proven yet.

    Attributes:
        key: name of the key: a machine's id, or a public key.
        created: seconds since 1970.
        counter: of the machine.
        parameters: what is signed of them.
        signature: 64 bytes.
    """

    key: str
    created: int
    counter: int
    parameters: str
    signature: bytes


def digest(body: bytes) -> str:
    """Return a body's Content-Digest."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def request_headers(
    key: SigningKey, name: str, method: str, path: str, body: bytes, *, created: int, counter: int
) -> dict[str, str]:
    """Return the headers that sign a request."""
    return _headers(key, name, _REQUEST, _request_lines(method, path), body, created, counter)


def answer_headers(key: SigningKey, status: int, body: bytes, *, created: int, counter: int) -> dict[str, str]:
    """Return the headers that sign an answer to the request with this counter."""
    return _headers(key, key.public, _ANSWER, f'"@status": {status}\n', body, created, counter)


def parse(signature_input: str, signature: str) -> Signed | None:
    """Return what the headers say; None where they are not of this profile."""
    if len(signature_input) > HEADER_CHARACTERS_MAX or len(signature) > HEADER_CHARACTERS_MAX:
        return None
    parameters = _PARAMETERS.fullmatch(signature_input)
    value = _SIGNATURE.fullmatch(signature)
    if parameters is None or value is None:
        return None
    try:
        decoded = base64.b64decode(value[1], validate=True)
    except binascii.Error:
        return None
    if base64.b64encode(decoded).decode() != value[1]:  # bits that stand for nothing: one signature has one form
        return None
    return Signed(parameters[3], int(parameters[2]), int(parameters[4]), parameters[1], decoded)


def request_verified(signed: Signed, key: PublicKey, method: str, path: str, body: bytes) -> bool:
    """Say whether this key signed this request."""
    return _verified(signed, key, _REQUEST, _request_lines(method, path), body)


def answer_verified(signed: Signed, key: PublicKey, status: int, body: bytes) -> bool:
    """Say whether this key signed this answer."""
    return _verified(signed, key, _ANSWER, f'"@status": {status}\n', body)


def handover(machine: str, counter: int, public_key: str) -> bytes:
    """Return what a machine's key signs to say which public key comes after it. No request or answer begins so."""
    return f"hotmend handover 1\n{machine}\n{counter}\n{public_key}\n".encode()


def _request_lines(method: str, path: str) -> str:
    return f'"@method": {method}\n"@path": {path}\n'


def _base(lines: str, body: bytes, parameters: str) -> bytes:
    return f'{lines}"content-digest": {digest(body)}\n"@signature-params": {parameters}'.encode()


def _headers(
    key: SigningKey, name: str, covered: str, lines: str, body: bytes, created: int, counter: int
) -> dict[str, str]:
    parameters = f'{covered};created={created};keyid="{name}";alg="ed25519";nonce="{counter}"'
    value = base64.b64encode(key.sign(_base(lines, body, parameters))).decode()
    return {"Content-Digest": digest(body), "Signature-Input": f"sig={parameters}", "Signature": f"sig=:{value}:"}


def _verified(signed: Signed, key: PublicKey, covered: str, lines: str, body: bytes) -> bool:
    if not signed.parameters.startswith(f"{covered};"):
        return False
    return key.verifies(signed.signature, _base(lines, body, signed.parameters))
