"""A machine that speaks for itself: its key, its counter, and what it says."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from hotmend.wire.keys import PublicKey, SigningKey
from hotmend.wire.messages import (
    CHECK_IN_PATH,
    ENROL_PATH,
    LEAVE_PATH,
    Answer,
    CheckIn,
    Enrol,
    Enrolled,
    Former,
    Host,
    decode_answer,
    decode_enrolled,
    encode,
)
from hotmend.wire.report import Finding, Fixed, Report
from hotmend.wire.signing import answer_verified, handover, parse, request_headers
from tests.server.running import Reply, Running


def hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class Simple:
    """One machine of a server."""

    server: Running
    name: str
    host: Host
    key: SigningKey = field(default_factory=SigningKey.generate)
    counter: int = 0
    id: str = ""

    def send(
        self, path: str, message: Any, *, who: str | None = None, counter: int | None = None, late: int = 0
    ) -> Reply:
        """Sign and send; `late`: seconds by which its clock is behind."""
        self.counter += counter is None
        body = message if isinstance(message, bytes) else encode(message)
        created = int(self.server.clock().timestamp()) - late
        number = self.counter if counter is None else counter
        headers = request_headers(self.key, who or self.id, "POST", path, body, created=created, counter=number)
        return self.server.call("POST", path, body, role=None, headers=headers)

    def enrol(self, key: str) -> Enrolled:
        reply = self.send(ENROL_PATH, self.asking(key), who=self.key.public)
        assert reply.status == 200, reply.body
        enrolled = decode_enrolled(reply.body)
        self.id = enrolled.machine
        return enrolled

    def asking(self, key: str, former: Former | None = None) -> Enrol:
        return Enrol(key, self.name, self.key.public, self.host, agent="1", former=former)

    def again(self, key: str, **changed: Any) -> tuple[Simple, Enrolled]:
        """Enrol with a new key that the one until now signs for; `changed`: what the new one is instead."""
        self.counter += 1
        new = Simple(self.server, self.name, self.host)
        signature = self.key.sign(handover(self.id, self.counter, new.key.public)).hex()
        given: dict[str, Any] = {"machine": self.id, "counter": self.counter, "signature": signature} | changed
        reply = new.send(ENROL_PATH, new.asking(key, Former(**given)), who=new.key.public)
        assert reply.status == 200, reply.body
        enrolled = decode_enrolled(reply.body)
        new.id = enrolled.machine
        return new, enrolled

    def check_in(self, **fields: Any) -> Answer:
        reply = self.send(CHECK_IN_PATH, CheckIn(self.host, "1", **fields))
        assert reply.status == 200, reply.body
        signed = parse(reply.headers["Signature-Input"], reply.headers["Signature"])
        assert signed is not None
        assert signed.counter == self.counter
        key = PublicKey(self.server.app.state.context.key.public)
        assert answer_verified(signed, key, 200, reply.body)
        return decode_answer(reply.body)

    def leave(self) -> Reply:
        return self.send(LEAVE_PATH, b"{}")

    def state(self) -> str:
        return str(self.server.get(f"/api/v1/machines/{self.id}")["machine"]["state"])


def registration_key(server: Running, **wanted: Any) -> str:
    return str(server.post("/api/v1/registration-keys", {"name": "test"} | wanted)["secret"])


def host(name: str) -> Host:
    return Host(hashed(f"id of {name}"), hashed(f"hardware of {name}"), f"boot-{name}")


def simple(server: Running, name: str = "one", key: str | None = None) -> Simple:
    """Return a machine that is enrolled."""
    made = Simple(server, name, host(name))
    made.enrol(registration_key(server) if key is None else key)
    return made


def report(**fields: Any) -> Report:
    given: dict[str, Any] = {
        "release": "Debian GNU/Linux 12 (bookworm)",
        "kernel": "6.1.0-28-amd64",
        "architecture": "x86_64",
        "zone": "Europe/Berlin",
        "agent": "1",
        "mode": "automatic",
        "level": "2026-10, openssl 3.0.17-1~deb12u3",
        "line": "on",
        "enrollment": "ENABLED",
        "findings": (
            Finding("CVE-2026-0001", Fixed.IN_MEMORY, 77, "nginx", "nginx.service", "/usr/sbin/nginx", "nginx=2"),
            Finding("CVE-2026-0002", Fixed.ON_DISK, 78, "redis", "redis.service", "/usr/lib/libssl.so.3", "libssl3=3"),
        ),
        "restarts": ("redis.service",),
    }
    return Report(**(given | fields))
