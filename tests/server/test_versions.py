"""Agents and servers of other wire versions: one older and one newer is spoken with, all others learn what to upgrade.

`wire1/` has bodies of version 1, as the agent and server of commit 73e594f (2026-11-29, the first with an agent) sent
them to each other: that tree's own `enrol` and `check_in`, against its own server, with a report, an action that was
ordered, and the states that it came to. The registration key alone is another.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hotmend.agent.paths import Places
from hotmend.agent.uplink import carrying
from hotmend.agent.uplink.files import Carried, read
from hotmend.agent.uplink.letters import open_letter
from hotmend.wire import version
from hotmend.wire.keys import PublicKey
from hotmend.wire.messages import CHECK_IN_PATH, ENROL_PATH, CheckIn, Enrol, decode_answer, decode_enrolled
from hotmend.wire.policy import open_policy
from tests.server.machine import Simple, host, registration_key, simple
from tests.server.portal.conftest import Person
from tests.server.running import Running

RECORDED = Path(__file__).parent / "wire1"
PATH = "/api/v1/machines"


def _recorded(name: str) -> dict[str, Any]:
    return dict(json.loads((RECORDED / f"{name}.json").read_text()))


def test_an_agent_of_the_version_before_is_taken_in_ordered_and_heard(either_server: Running) -> None:
    server = either_server
    enrol = msgspec.convert(_recorded("enrol"), Enrol)
    machine = Simple(server, enrol.name, enrol.host)
    asked = _recorded("enrol") | {"key": registration_key(server), "public_key": machine.key.public}
    reply = machine.send(ENROL_PATH, msgspec.json.encode(asked), who=machine.key.public)
    assert reply.status == 200, reply.body
    machine.id = decode_enrolled(reply.body).machine
    action = server.post(f"{PATH}/{machine.id}/actions", {"kind": "assess"}, status=202)["id"]

    def answered(name: str) -> dict[str, Any]:
        body = json.dumps(_recorded(name)).replace(_recorded("first-answer")["orders"][0]["id"], action)
        reply = machine.send(CHECK_IN_PATH, body.encode())
        assert reply.status == 200, reply.body
        return dict(reply.json())

    first = answered("first")
    assert first["want_report"]
    # All that the older one reads is there, in the form in which it read it; what is added it leaves unread.
    before = _recorded("first-answer")
    assert before.keys() <= first.keys()
    assert {name: type(value) for name, value in before.items()} == {name: type(first[name]) for name in before}
    assert before["orders"][0].keys() <= first["orders"][0].keys()
    assert first["orders"][0]["id"] == action
    answered("report")
    reached = answered("reached")
    assert (reached["confirmed"], reached["want_report"]) == ([action], False)  # a report has another hash there
    assert server.get(f"/api/v1/actions/{action}")["state"] == "SUCCEEDED"
    shown = server.get(f"{PATH}/{machine.id}")
    assert (shown["machine"]["wire"], shown["machine"]["line"]) == (1, "on")


def test_a_server_of_the_version_before_is_understood() -> None:
    enrolled = decode_enrolled((RECORDED / "enrolled.json").read_bytes())
    for name in ("first", "report", "reached"):
        answer = decode_answer((RECORDED / f"{name}-answer.json").read_bytes())
        assert (answer.machine, answer.wire_newest, answer.window_until) == (enrolled.machine, 1, None)
    first = decode_answer((RECORDED / "first-answer.json").read_bytes())
    assert [order.kind for order in first.orders] == ["assess"]
    assert first.policy is not None
    policy = open_policy(first.policy, PublicKey(enrolled.server_key))
    assert (policy.mode, policy.slots, policy.events) == ("notify", False, False)


@pytest.mark.parametrize(
    ("wire", "told", "badge"),
    [(version.OLDEST - 1, "on this machine", "agent too old"), (version.NEWEST + 1, "on the server", "agent too new")],
)
def test_who_is_not_spoken_with_learns_what_to_upgrade(
    server: Running, monkeypatch: pytest.MonkeyPatch, wire: int, told: str, badge: str
) -> None:
    if wire < 1:  # no agent says less than 1: the server is the one that has gone on
        monkeypatch.setattr(version, "OLDEST", 2)
        wire, oldest = 1, 2
    else:
        oldest = version.OLDEST
    machine = simple(server)
    action = server.post(f"{PATH}/{machine.id}/actions", {"kind": "assess"}, status=202)["id"]
    for body in (msgspec.json.encode(CheckIn(machine.host, "9", wire=wire)), b'{"wire": %d, "host": "else"}' % wire):
        reply = machine.send(CHECK_IN_PATH, body)
        problem = reply.json()
        assert (reply.status, problem["code"]) == (426, "wire-version")
        assert (
            problem["detail"] == f"this server speaks wire versions {oldest} to {version.NEWEST}, and the agent {wire}"
        )
        assert told in problem["hint"]
    shown = server.get(f"{PATH}/{machine.id}")["machine"]
    assert (shown["wire"], shown["agent"]) == (wire, "9")  # it was there
    assert shown["seen_at"] is not None
    assert server.get(f"/api/v1/actions/{action}")["state"] == "SCHEDULED"  # it was told nothing
    person = Person(server)
    person.sign_in("viewer")
    assert badge in person.get("/machines").body.decode()
    assert told.rsplit(maxsplit=1)[-1] in person.get(f"/machines/{machine.id}").body.decode()
    replayed = machine.send(CHECK_IN_PATH, CheckIn(machine.host, "9", wire=wire), counter=machine.counter - 1)
    assert replayed.status == 409  # who sends it again is no machine


def test_a_refused_agent_says_so_itself_and_goes_on_with_its_policy(
    server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = Places(tmp_path)
    places.state.mkdir(parents=True)
    places.server.parent.mkdir(parents=True)
    carrying.enrol(places, server.url, registration_key(server), host("a"), name="a", server_key="", ca="")
    answer = carrying.check_in(places)
    assert (answer.wire_oldest, answer.wire_newest) == (version.OLDEST, version.NEWEST)
    before = open_letter(places, server.clock())
    assert before is not None
    assert before.policy is not None
    monkeypatch.setattr(carrying, "VERSION", version.NEWEST + 1)
    with pytest.raises(carrying.Refused) as caught:
        carrying.check_in(places)
    carrying.failed(places, caught.value)
    assert "upgrade hotmend on the server" in carrying.refused(places)
    after = open_letter(places, server.clock())
    assert after is not None
    assert after.policy == before.policy
    monkeypatch.setattr(carrying, "VERSION", version.VERSION)
    carrying.check_in(places)
    assert carrying.refused(places) == ""
    carried = read(places.carried, Carried)
    assert carried is not None
    assert carried.failures == 0
