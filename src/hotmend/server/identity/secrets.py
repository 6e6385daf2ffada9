"""Secrets that are given out once, and kept as hashes."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

_N, _R, _P = 1 << 14, 8, 1
PASSWORD_CHARACTERS: Final = range(12, 201)


def new_secret(prefix: str) -> str:
    """Return a secret of 256 bits behind a prefix that says what it is for."""
    return f"{prefix}_{secrets.token_urlsafe(32)}"


def secret_hash(secret: str) -> str:
    """Return what is kept of a secret. It has 256 bits of its own: no slow function is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()


def password_hash(password: str) -> str:
    """Return what is kept of a password: scrypt with a salt."""
    salt = secrets.token_bytes(16)
    return f"{salt.hex()}${_scrypt(password, salt).hex()}"


def password_is(password: str, kept: str) -> bool:
    """Say whether it is the password that was kept. Takes as long where nothing is kept."""
    salt, _, expected = kept.partition("$")
    found = _scrypt(password, bytes.fromhex(salt) if salt else b"\0" * 16)
    return bool(expected) and hmac.compare_digest(found.hex(), expected)


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=_N, r=_R, p=_P, maxmem=64 << 20)
