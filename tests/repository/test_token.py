"""Keys on a PKCS#11 token: SoftHSM, as Debian ships it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hotmend.model.errors import InputError
from hotmend.repository import requests
from hotmend.repository.keys import public_key_load, public_pem, signer_load
from hotmend.repository.metadata import KeySet
from tests.repository.kit import BASELINE, CHANNEL, HOTPATCH, World

LIBRARY = "/usr/lib/softhsm/libsofthsm2.so"
PIN = "1234"
REFERENCE = "hsm:2?label=hotmend"


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A token with one ECDSA key, number 2."""
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm.conf").write_text(f"directories.tokendir = {tmp_path / 'tokens'}\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm.conf"))
    monkeypatch.setenv("PYKCS11LIB", LIBRARY)
    command = ["softhsm2-util", "--init-token", "--free", "--label", "hotmend", "--pin", PIN, "--so-pin", "5678"]
    subprocess.run(command, check=True, capture_output=True)
    # The library is loaded once in a process and keeps its first settings: the key is made, and used, in another.
    return tmp_path


_MAKE = """
import pkcs11, pkcs11.util.ec as ec, pkcs11.util
lib = pkcs11.lib("{library}")
with lib.get_token(token_label="hotmend").open(rw=True, user_pin="{pin}") as session:
    parameters = session.create_domain_parameters(
        pkcs11.KeyType.EC, {{pkcs11.Attribute.EC_PARAMS: ec.encode_named_curve_parameters("secp256r1")}}, local=True)
    parameters.generate_keypair(store=True, id=pkcs11.util.biginteger(2), label="stable")
"""


def test_a_token_signs_a_promotion(original: World, token: Path) -> None:
    make = _MAKE.format(library=LIBRARY, pin=PIN)
    subprocess.run([sys.executable, "-c", make], check=True)
    signer = signer_load(REFERENCE, lambda _: PIN)
    (token / "token.pub").write_bytes(public_pem(signer.public_key))
    key = public_key_load(token / "token.pub")
    assert key.keyid == signer.public_key.keyid

    world = World(token, keys=original.keys or original.folder / "keys")
    founding = world.founding()
    stable = KeySet((key, *world.public("stable1", threshold=1).keys), 2)
    pending = world.publisher().init(
        CHANNEL, type(founding)(founding.root, founding.targets, stable, founding.online, founding.canary)
    )

    def sign(*names: str) -> requests.Signatures:
        signers = tuple(signer_load(str(world.key(name)), lambda _: "") for name in names)
        return requests.sign(pending.path.read_bytes(), (*signers, signer))

    assert world.publisher().accept(sign("root1", "root2", "targets1", "targets2", "stable1")) is None
    world.fill()
    pending = world.publisher().promote(CHANNEL, (BASELINE, HOTPATCH))
    assert world.publisher().accept(sign("stable1")) is None
    assert world.client().channel().index.find(HOTPATCH)
    with pytest.raises(InputError, match="Pin"):
        signer_load(REFERENCE, lambda _: "0000")
    with pytest.raises(InputError):
        signer_load("hsm:2?label=another", lambda _: PIN)
