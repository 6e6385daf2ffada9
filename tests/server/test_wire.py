"""Signatures: any library of RFC 9421 agrees with ours, and no bit of what is covered can be changed."""

from __future__ import annotations

import datetime as dt
from datetime import UTC, datetime, timedelta

import http_message_signatures as oracle
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from requests import Request, Response

from hotmend.model.errors import InputError
from hotmend.server.machines.quick_key import QuickKey
from hotmend.wire.keys import PublicKey, SigningKey
from hotmend.wire.messages import Answer, decode_answer, decode_check_in, decode_enrol, decode_enrolled
from hotmend.wire.policy import Policy, open_policy, sign_policy
from hotmend.wire.signing import answer_headers, answer_verified, parse, request_headers, request_verified

KEY = SigningKey(b"k" * 32)
NOW = datetime(2026, 11, 29, tzinfo=UTC)


class _Resolver(oracle.HTTPSignatureKeyResolver):
    def resolve_public_key(self, key_id: str) -> object:
        return KEY._key.public_key()

    def resolve_private_key(self, key_id: str) -> object:
        return KEY._key


def _verifier() -> oracle.HTTPMessageVerifier:
    return oracle.HTTPMessageVerifier(signature_algorithm=oracle.algorithms.ED25519, key_resolver=_Resolver())


def test_another_library_verifies_a_request() -> None:
    created = int(datetime.now(UTC).timestamp())
    headers = request_headers(KEY, "machine", "POST", "/agent/v1/x", b"{}", created=created, counter=3)
    request = Request("POST", "https://host/agent/v1/x", headers=headers, data=b"{}").prepare()
    found = _verifier().verify(request, max_age=dt.timedelta(minutes=1))
    assert set(found[0].covered_components) >= {'"@method"', '"@path"', '"content-digest"'}


def test_another_library_verifies_an_answer() -> None:
    created = int(datetime.now(UTC).timestamp())
    response = Response()
    response.status_code = 200
    response.headers.update(answer_headers(KEY, 200, b"{}", created=created, counter=3))
    assert _verifier().verify(response, max_age=dt.timedelta(minutes=1))


@given(st.integers(0, 400), st.integers(1, 255))
@example(175, 8)  # bits of the last character of base64 that stand for nothing
def test_no_byte_of_it_can_be_changed(position: int, change: int) -> None:
    body = b'{"a": 1}'
    headers = request_headers(KEY, "m", "POST", "/p", body, created=5, counter=9)
    parts = [headers["Signature-Input"].encode(), headers["Signature"].encode(), body, b"POST", b"/p"]
    joined = bytearray(b"\n".join(parts))
    position %= len(joined)
    joined[position] ^= change
    changed = bytes(joined).split(b"\n")
    if len(changed) != 5:
        return
    try:
        texts = [part.decode() for part in changed]
    except UnicodeDecodeError:
        return
    signed = parse(texts[0], texts[1])
    key = PublicKey(KEY.public)
    assert signed is None or not request_verified(signed, key, texts[3], texts[4], changed[2])


def test_a_request_is_no_answer() -> None:
    headers = request_headers(KEY, "m", "POST", "/p", b"", created=5, counter=9)
    signed = parse(headers["Signature-Input"], headers["Signature"])
    assert signed is not None
    assert not answer_verified(signed, PublicKey(KEY.public), 200, b"")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_an_input_error(data: bytes) -> None:
    for decode in (decode_enrol, decode_check_in, decode_answer, decode_enrolled):
        with pytest.raises(InputError):
            decode(data)


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_headers_are_none_of_ours(first: str, second: str) -> None:
    assert parse(first, second) is None


def test_half_a_surrogate_is_refused() -> None:
    with pytest.raises(InputError):
        decode_enrol(b'{"key": "0123456789\\ud800", "name": "a", "public_key": "' + b"0" * 64 + b'"}')


def test_a_field_more_is_no_error() -> None:
    answer = msgspec.json.decode(msgspec.json.encode(Answer("m", 1, NOW, 60)))
    assert decode_answer(msgspec.json.encode(answer | {"later": {"a": 1}})).counter == 1


def test_a_policy_is_its_servers_alone() -> None:
    policy = Policy(1, NOW, NOW + timedelta(days=1), mode="automatic")
    signed = sign_policy(policy, KEY)
    assert open_policy(signed, PublicKey(KEY.public)) == policy
    with pytest.raises(InputError):
        open_policy(signed, PublicKey(SigningKey(b"o" * 32).public))
    with pytest.raises(InputError):
        open_policy(
            msgspec.structs.replace(signed, body=signed.body.replace(b"automatic", b"observe")), PublicKey(KEY.public)
        )
    assert policy.holds(NOW)
    assert not policy.holds(NOW - timedelta(seconds=1))
    assert not policy.holds(NOW + timedelta(days=1))


@given(st.binary(max_size=300), st.integers(0, 63), st.integers(0, 255))
def test_what_a_server_checks_quickly_is_what_an_agent_would(data: bytes, place: int, change: int) -> None:
    own = SigningKey.generate()
    signature = bytearray(own.sign(data))
    signature[place] ^= change
    slow, quick = PublicKey(own.public), QuickKey(own.public)
    assert slow.verifies(bytes(signature), data) is quick.verifies(bytes(signature), data) is (change == 0)
    assert not quick.verifies(own.sign(data), data + b"x")


def test_a_key_that_is_none_is_refused() -> None:
    with pytest.raises(InputError):
        QuickKey("zz")
