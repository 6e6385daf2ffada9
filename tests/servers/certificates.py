"""A certificate authority for the TLS checks, with a revocation list that contradicts itself."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from .packages import tool_require

ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
"""AlgorithmIdentifier of ecdsa-with-SHA256."""

Words = list[str | Path]

CA_CONFIG = """\
[ca]
default_ca = this
[this]
database = {folder}/index.txt
default_md = sha512
default_crl_days = 30
"""


@dataclass(frozen=True, slots=True)
class Authority:
    """Files of the authority.

    Attributes:
        certificate, key: of the authority; nginx serves with them too.
        client, client_key: a certificate it issued.
        good_list: a correct revocation list.
        odd_list: names one signature algorithm inside and another outside, and is signed with the outer one.
    """

    certificate: Path
    key: Path
    client: Path
    client_key: Path
    good_list: Path
    odd_list: Path


def authority_make(folder: Path) -> Authority:
    """Create the authority's files in `folder` with the installed `openssl` command."""
    paths = {name: folder / f"{name}.pem" for name in Authority.__slots__}
    authority = Authority(**paths)
    curve: Words = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"]
    _openssl("req", "-x509", *curve, "-subj", "/CN=authority", "-keyout", authority.key, "-out", authority.certificate)
    issuer: Words = ["-CA", authority.certificate, "-CAkey", authority.key]
    names: Words = ["-subj", "/CN=client", "-keyout", authority.client_key, "-out", authority.client]
    _openssl("req", "-x509", *curve, *issuer, *names)
    (folder / "index.txt").touch()
    config = folder / "ca.conf"
    config.write_text(CA_CONFIG.format(folder=folder))
    signer: Words = ["-cert", authority.certificate, "-keyfile", authority.key]
    _openssl("ca", "-gencrl", "-config", config, *signer, "-out", authority.good_list)
    _odd_list_write(authority, folder)
    return authority


def _odd_list_write(authority: Authority, folder: Path) -> None:
    """Sign the body of the good list, which says SHA-512, with SHA-256."""
    good = folder / "good.der"
    _openssl("crl", "-in", authority.good_list, "-outform", "DER", "-out", good)
    body = _first_element(_content(good.read_bytes()))
    (folder / "body.der").write_bytes(body)
    signature = folder / "signature.bin"
    _openssl("dgst", "-sha256", "-sign", authority.key, "-out", signature, folder / "body.der")
    odd = _element(0x30, body + ECDSA_SHA256 + _element(0x03, b"\0" + signature.read_bytes()))
    (folder / "odd.der").write_bytes(odd)
    _openssl("crl", "-inform", "DER", "-in", folder / "odd.der", "-out", authority.odd_list)


def _openssl(*words: str | Path) -> None:
    command = [tool_require("openssl"), *map(str, words)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)


def _element(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(digits)]) + digits + content


def _head_bytes(data: bytes) -> int:
    return 2 + (data[1] & 0x7F if data[1] & 0x80 else 0)


def _content(data: bytes) -> bytes:
    return data[_head_bytes(data) :]


def _first_element(data: bytes) -> bytes:
    head = _head_bytes(data)
    size = int.from_bytes(data[2:head], "big") if data[1] & 0x80 else data[1]
    return data[: head + size]
