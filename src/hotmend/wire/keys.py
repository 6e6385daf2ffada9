"""Ed25519 keys of machines and of a server: made, written, signing and checking."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from hotmend.model.errors import InputError

KEY_BYTES = 32
SIGNATURE_BYTES = 64
_FILE_BYTES_MAX = 1000


class SigningKey:
    """A private key.

    Attributes:
        public: its public half, 64 hexadecimal digits.
    """

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._key.public_key().public_bytes_raw().hex()

    @classmethod
    def generate(cls) -> SigningKey:
        """Return a new one."""
        return cls(os.urandom(KEY_BYTES))

    @property
    def seed(self) -> bytes:
        """What it is made from: secret."""
        return self._key.private_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        """Return the signature of data."""
        return self._key.sign(data)


class PublicKey:
    """A public key that is checked with often.

    Raises:
        InputError: these are no 64 hexadecimal digits.
    """

    def __init__(self, text: str) -> None:
        try:
            self._key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))
        except ValueError:
            raise InputError("not a key: 64 hexadecimal digits are needed") from None
        self.text = text

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Say whether the signature is one of this key over this data."""
        try:
            self._key.verify(signature, data)
        except InvalidSignature:
            return False
        return True


def write_key(file: Path, key: SigningKey, mode: int = 0o600) -> None:
    """Put a new key's file there, on the disk, readable for its owner alone; a file that is there stays.

    Raises:
        OSError: it cannot be written, or is there.
    """
    file.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    safe = 0 if sys.platform == "win32" else os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | safe, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(key.seed.hex().encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def read_key(file: Path) -> SigningKey:
    """Return the key that a file holds.

    Raises:
        InputError: it holds none.
        OSError: it cannot be read.
    """
    try:
        safe = 0 if sys.platform == "win32" else os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(file, os.O_RDONLY | safe), "rb") as stream:
            text = stream.read(_FILE_BYTES_MAX).decode("ascii")
        return SigningKey(bytes.fromhex(text.strip()))
    except (ValueError, UnicodeDecodeError):
        raise InputError(f"{file} is not a key") from None
