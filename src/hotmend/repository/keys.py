"""Keys: files, or objects of a PKCS#11 token. The only place that sees a private key.

A *reference* says where a private key is: the path of a PEM file (PKCS#8, maybe encrypted), or `hsm:ID?label=TOKEN`
for an ECDSA key on a PKCS#11 token, whose library the environment variable PYKCS11LIB names. Public keys are PEM
files. The id of a key is the hash of the key itself, so that one key under two names does not count twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.signer import CryptoSigner, HSMSigner, Key, Signer, SSlibKey

from hotmend.model.errors import HotmendError, InputError, UsageError

HSM_PREFIX: Final = "hsm:"
KEY_BYTES_MAX: Final = 64 << 10
PUBLIC_SUFFIX: Final = ".pub"
SCHEMES: Final = frozenset({"ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384"})

Secret = Callable[[str], str]
"""Asked for a passphrase or a PIN, with what it is for."""


def key_generate(path: Path, passphrase: str = "") -> Key:
    """Write a new Ed25519 key to `path`, readable by its owner alone, and its public half beside it as `.pub`.

    Raises:
        UsageError: one of the files exists.
        HotmendError: they cannot be written.
    """
    private = Ed25519PrivateKey.generate()
    key = SSlibKey.from_crypto(private.public_key())
    encryption: KeySerializationEncryption = NoEncryption()
    if passphrase:
        encryption = BestAvailableEncryption(passphrase.encode())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    public = path.with_name(path.name + PUBLIC_SUFFIX)
    if public.exists():
        raise UsageError(f"{public}: exists", "a key is never written over another")
    _write_new(path, pem, 0o600)
    _write_new(public, public_pem(key), 0o644)
    return key


def public_key_load(path: Path) -> Key:
    """Return the public key of a PEM file; of a private key's file, its public half is beside it.

    Raises:
        InputError: it cannot be read or is no key of a known kind.
    """
    try:
        return _checked(SSlibKey.from_crypto(load_pem_public_key(_read(path))), str(path))
    except (ValueError, UnsupportedAlgorithm) as error:
        hint = f"the public half is {path}{PUBLIC_SUFFIX}" if path.suffix != PUBLIC_SUFFIX else ""
        raise InputError(f"{path}: no public key in PEM form: {error}", hint) from None


def public_pem(key: Key) -> bytes:
    """Return a public key as PEM."""
    if not isinstance(key, SSlibKey):
        raise InputError(f"key {key.keyid[:12]}: of a kind that is not known here")
    value: str = key.keyval["public"]
    if key.keytype != "ed25519":
        return value.encode()
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(value))
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def signer_load(reference: str, secret: Secret) -> Signer:
    """Return what signs with the key that `reference` names.

    Raises:
        InputError: there is no such key, or the passphrase or PIN is wrong.
    """
    return _token_signer(reference, secret) if reference.startswith(HSM_PREFIX) else _file_signer(reference, secret)


def check_distinct(keys: tuple[Key, ...], threshold: int, what: str) -> None:
    """Raise UsageError unless `threshold` of the keys can sign, and no key stands there twice."""
    if len({key.keyid for key in keys}) != len(keys):
        raise UsageError(f"{what}: one key stands there twice", "a threshold counts different keys")
    if not 1 <= threshold <= len(keys):
        raise UsageError(f"{what}: a threshold of {threshold} cannot be reached with {len(keys)} keys")


def _file_signer(reference: str, secret: Secret) -> Signer:
    pem = _read(Path(reference))
    password = secret(f"passphrase of {reference}").encode() if b"ENCRYPTED" in pem else None
    try:
        private = load_pem_private_key(pem, password)
        if not isinstance(private, Ed25519PrivateKey | EllipticCurvePrivateKey):
            raise InputError(f"{reference}: neither an Ed25519 nor an ECDSA key")
        signer = CryptoSigner(private)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError(f"{reference}: no private key in PEM form, or another passphrase: {error}") from None
    _checked(signer.public_key, reference)
    return signer


def _token_signer(reference: str, secret: Secret) -> Signer:
    number, _, query = reference.removeprefix(HSM_PREFIX).partition("?")
    if number and not number.isdigit():
        raise UsageError(f"{reference}: {number!r} is no number of a key", "hsm:2?label=TOKEN")
    label = dict(parse_qsl(query)).get("label")
    handler = _once(lambda _: secret(f"PIN of {reference}"))
    # The library has error classes of its own for each of PKCS#11's codes; their names are what they say.
    try:
        uri, public = HSMSigner.import_(int(number) if number else None, label, handler)
        _checked(public, reference)
        signer = HSMSigner.from_priv_key_uri(uri, public, handler)
        signer.sign(b"hotmend: is this key usable")
    except (InputError, UsageError):
        raise
    except Exception as error:
        raise InputError(f"{reference}: {type(error).__name__} {error}".rstrip(), "PYKCS11LIB, PIN, label?") from error
    return signer


def _once(ask: Secret) -> Secret:
    """Ask only the first time: each signature of a token wants the PIN."""
    known: list[str] = []

    def answer(what: str) -> str:
        if not known:
            known.append(ask(what))
        return known[0]

    return answer


def _checked(key: SSlibKey, source: str) -> SSlibKey:
    if key.scheme not in SCHEMES:
        raise InputError(f"{source}: a key for {key.scheme}; these can be used: {', '.join(sorted(SCHEMES))}")
    return key


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(KEY_BYTES_MAX + 1)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    if len(data) > KEY_BYTES_MAX:
        raise InputError(f"{path}: longer than a key is")
    return data


def _write_new(path: Path, data: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise UsageError(f"{path}: exists", "a key is never written over another") from None
    except OSError as error:
        raise HotmendError(f"{path}: {error.strerror or error}") from error
