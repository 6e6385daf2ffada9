"""Evidence: what a server knew of its machines' compliance at a moment, signed, without an expiry.

An envelope of DSSE (Dead Simple Signing Envelope) around JSON. Whoever has the server's evidence key from a source of
trust checks it offline, years later: the server said this, then, and nothing of it was changed.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Meta
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, Key, SSlibKey

from hotmend.model.errors import InputError
from hotmend.wire.keys import SigningKey

PAYLOAD_TYPE: Final = "application/vnd.hotmend.evidence.v1+json"
BYTES_MAX: Final = 256 << 20
_HEX: Final = r"\A[0-9a-f]{64}\Z"


class Place(msgspec.Struct, frozen=True):
    """One vulnerability on one machine: in how many images of processes its fix is where.

    Attributes:
        cve: which; "" for an update that names none.
        brings: PACKAGE=VERSION with the fix.
        fixed: `wire.report.Fixed`.
        images: how many.
        since: the first report that said so.
    """

    cve: str
    brings: str
    fixed: str
    images: int
    since: datetime


class MachineEvidence(msgspec.Struct, frozen=True):
    """What a machine had said last.

    Attributes:
        id, name, state: of the server.
        release, level, line, enrollment: as it reported them.
        report: SHA-256 of its report, as it was received; "" before the first.
        reported_at, seen_at: when the server received it, and heard of the machine last.
        silent: it was not heard of lately; what it said is old.
        findings: in its processes.
    """

    id: str
    name: str
    state: str
    release: str
    level: str
    line: str
    enrollment: str
    report: str
    reported_at: datetime | None
    seen_at: datetime | None
    silent: bool
    findings: list[Place]


class Exposed(msgspec.Struct, frozen=True):
    """From when to when a machine was exposed to something; `closed_at` None: it still is."""

    machine: str
    subject: str
    brings: str
    published_at: datetime | None
    opened_at: datetime
    closed_at: datetime | None
    how: str


class Evidence(msgspec.Struct, frozen=True):
    """What is signed.

    Attributes:
        made_at, made_by: by the server's clock; who asked for it.
        server: address of it.
        query: which machines were meant, as the API has it; {}: all.
        audit_rows, audit_head: of the audit record at that moment: it can be held against the record later.
        machines: that were meant, by name.
        exposures: of these machines.
    """

    format: Literal[1]
    made_at: datetime
    made_by: str
    server: str
    query: dict[str, Any]
    audit_rows: Annotated[int, Meta(ge=0)]
    audit_head: str
    machines: list[MachineEvidence]
    exposures: list[Exposed]


def sign(evidence: Evidence, key: SigningKey) -> bytes:
    """Return the envelope's JSON."""
    envelope = Envelope(msgspec.json.encode(evidence), PAYLOAD_TYPE, {})
    envelope.sign(CryptoSigner(Ed25519PrivateKey.from_private_bytes(key.seed)))
    return msgspec.json.encode(envelope.to_dict())


def verified(data: bytes, key: str) -> Evidence | None:
    """Return what an envelope holds; None: it is not signed by this key, or was changed.

    Args:
        data: of the file.
        key: the server's evidence key, 64 hexadecimal digits, from a source of trust.

    Raises:
        InputError: these are no evidence and no key.
    """
    if len(data) > BYTES_MAX:
        raise InputError(f"evidence has at most {BYTES_MAX} bytes")
    try:
        msgspec.convert(key, Annotated[str, Meta(pattern=_HEX)])
    except msgspec.ValidationError as error:
        raise InputError("not an evidence key: 64 hexadecimal digits are needed") from error
    try:
        envelope = Envelope.from_dict(msgspec.json.decode(data, type=dict[str, Any]))
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"this is no evidence: {type(error).__name__}") from error
    if envelope.payload_type != PAYLOAD_TYPE:
        raise InputError(f"this is no evidence, but {envelope.payload_type[:100]}")
    keys: list[Key] = [SSlibKey(each, "ed25519", "ed25519", {"public": key}) for each in list(envelope.signatures)[:10]]
    try:
        envelope.verify(keys, 1)
    except (VerificationError, ValueError):
        return None
    try:
        return msgspec.json.decode(envelope.payload, type=Evidence)
    except msgspec.DecodeError as error:
        raise InputError(f"signed by this key, but not evidence that this version knows: {error}") from error
