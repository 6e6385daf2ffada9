"""What a server lets its machines do: signed, and with an end. What is installed is signed by others."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from hotmend.model.errors import InputError
from hotmend.servicing import maintenance
from hotmend.wire.keys import PublicKey, SigningKey
from hotmend.wire.messages import Moment, SignedPolicy

POLICY_BYTES_MAX: Final = 1 << 20
_LABEL: Final = b"hotmend policy 1\n"
"""Before what is signed: a policy's signature is good for nothing else."""


class Policy(msgspec.Struct, frozen=True):
    """What machines may do.

    Attributes:
        serial: grows with each; a lower one is not taken.
        issued_at, expires_at: when it holds. After that a machine only says what waits.
        mode: as in the agent's configuration.
        maintenance: windows, freezes, what is taken; its `mode` is not used.
        zone: of windows; "" for the machine's own.
        restart, reboot: as in the agent's configuration.
        slots: restarts and reboots need a slot of the server.
        events: nothing begins in a window without the server's word for it.
    """

    serial: Annotated[int, Meta(ge=1)]
    issued_at: Moment
    expires_at: Moment
    mode: Literal["observe", "notify", "download", "automatic"] = "notify"
    maintenance: maintenance.Policy = maintenance.Policy()
    zone: Annotated[str, Meta(max_length=100)] = ""
    restart: bool = False
    reboot: Literal["if-required", "never", "always"] = "never"
    slots: bool = False
    events: bool = False

    def holds(self, now: datetime) -> bool:
        """Say whether it is in force."""
        return self.issued_at <= now < self.expires_at


_decoder: Final = msgspec.json.Decoder(Policy)


def sign_policy(policy: Policy, key: SigningKey) -> SignedPolicy:
    """Return a policy with its signature."""
    body = msgspec.json.encode(policy)
    return SignedPolicy(body, key.sign(_LABEL + body))


def policy_hash(signed: SignedPolicy) -> str:
    """Return what a policy is known by."""
    return hashlib.sha256(signed.body).hexdigest()


def open_policy(signed: SignedPolicy, key: PublicKey) -> Policy:
    """Return a policy that this key has signed; whether it has expired is another question.

    Raises:
        InputError: another signature, or no policy.
    """
    if len(signed.body) > POLICY_BYTES_MAX or not key.verifies(signed.signature, _LABEL + signed.body):
        raise InputError("the policy is not signed by this machine's server")
    try:
        return _decoder.decode(signed.body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InputError(f"not a policy: {error}") from None
