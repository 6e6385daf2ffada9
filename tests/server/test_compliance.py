"""Compliance over time, from publication to memory, as VEX, and as evidence that is checked without the server."""

from __future__ import annotations

import base64
import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from hotmend.cli.main import run
from hotmend.model.errors import InputError
from hotmend.model.verdict import Reason
from hotmend.repository.catalogue import catalogue
from hotmend.repository.client import trust
from hotmend.repository.layout import Tier
from hotmend.server.compliance import daily
from hotmend.server.compliance.tables import concerns
from hotmend.server.machines.judging import take_facts
from hotmend.server.releases.following import Followed, follow
from hotmend.wire.evidence import verified
from hotmend.wire.keys import SigningKey
from hotmend.wire.report import Finding, Fixed
from tests.repository.kit import CHANNEL, HOTPATCH, World
from tests.server.fleet import Fleet
from tests.server.machine import Simple, report, simple
from tests.server.running import Running

OCTOBER = datetime(2025, 10, 27, 12, tzinfo=UTC)
CVE, UPDATE = "CVE-2026-0009", "server=1.22.1-9+deb12u3"


def says(machine: Simple, *fixed: Fixed, cve: str = CVE) -> None:
    found = tuple(Finding(cve, each, 70 + n, "nginx", "", "/usr/sbin/nginx", UPDATE) for n, each in enumerate(fixed))
    machine.check_in(report=report(findings=found))


def later(server: Running, **ahead: float) -> None:
    server.clock.ahead += timedelta(**ahead)


def exposures(server: Running) -> dict[str, Any]:
    return {each["subject"]: each for each in server.get("/api/v1/compliance/exposures")}


def test_an_exposure_is_from_the_first_old_report_to_the_last_fixed_one(either_server: Running) -> None:
    server = either_server
    one, two = simple(server, "one"), simple(server, "two")
    says(one, Fixed.NOWHERE, cve="")
    says(two, Fixed.NOWHERE, cve="")
    waits = exposures(server)
    assert (waits[UPDATE]["open"], waits[UPDATE]["last_closed"]) == (2, None)
    later(server, hours=2)
    says(one, Fixed.IN_MEMORY, Fixed.EVERYWHERE)
    later(server, hours=3)
    assert (exposures(server)[UPDATE]["open"], exposures(server)[CVE]["open"]) == (1, 0)
    says(two, Fixed.IN_MEMORY, Fixed.ON_DISK)
    assert exposures(server)[CVE]["open"] == 1  # one process of `two` has the old code
    assert exposures(server)[UPDATE]["open"] == 1  # and so the update is not in its memory
    later(server, hours=1)
    says(two, Fixed.IN_MEMORY)
    found = exposures(server)[CVE]
    first, last = (datetime.fromisoformat(found[name]) for name in ("first_closed", "last_closed"))
    assert (found["machines"], found["open"], last - first > timedelta(hours=3)) == (2, 0, True)
    assert found["published"] is None  # no channel says when it was
    two.check_in(report=report(findings=()))
    assert exposures(server)[CVE]["open"] == 0


def test_each_day_is_written_down_once(either_server: Running) -> None:
    server = either_server
    server.clock.hold()  # no midnight comes between two looks
    context, machine = server.app.state.context, simple(server, "one")
    simple(server, "silent")
    says(machine, Fixed.NOWHERE, Fixed.IN_MEMORY)
    later(server, minutes=30)
    machine.check_in()
    assert daily.take(context) is True
    says(machine, Fixed.IN_MEMORY)
    assert daily.take(context) is False
    later(server, days=2)
    machine.check_in()
    assert daily.take(context) is True
    first, second = server.get("/api/v1/compliance/days")
    shown = ("machines", "silent", "exposed", "open", "old", "fixed")
    assert [first[name] for name in shown] == [2, 1, 1, 1, 1, 1]
    assert [second[name] for name in shown] == [2, 1, 0, 0, 0, 1]
    days = [datetime.fromisoformat(each["day"]) for each in (first, second)]
    assert (days[1] - days[0]).days == 2  # the day between has no row


def test_what_a_killed_server_has_not_judged_the_next_one_judges(
    either_server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = either_server
    context = server.app.state.context
    server.clock.go_to(OCTOBER)
    one, other = Fleet(server).add(2)
    body = Path("tests/data/facts/cases/october-2-right.json").read_bytes()
    with server.database.write() as connection:
        for each in (one, other):
            take_facts(connection, each, body, server.clock())

    def judged() -> set[date]:
        with server.database.read() as connection:
            return set(connection.scalars(sa.select(concerns.c.day)))

    yesterday = server.clock().date()
    assert judged() == {yesterday}
    server.clock.ahead += timedelta(days=1)
    with monkeypatch.context() as killed:
        killed.setattr(daily, "_judge", _killed)
        with pytest.raises(SystemExit):
            daily.take(context)
    assert len(server.get("/api/v1/compliance/days")) == 1  # the day is written down, and nobody judged
    assert judged() == {yesterday}
    assert daily.take(context) is False
    assert judged() == {yesterday + timedelta(days=1)}
    assert daily.take(context) is False


def _killed(*_: object) -> None:
    raise SystemExit


def test_groups_count_machines_and_images(either_server: Running) -> None:
    server = either_server
    one, two = simple(server, "one"), simple(server, "two")
    says(one, Fixed.NOWHERE, Fixed.NOWHERE)
    says(two, Fixed.EVERYWHERE)
    server.call("PUT", f"/api/v1/machines/{one.id}/tags", {"tags": {"site": "ulm"}})
    found = {by: server.get(f"/api/v1/compliance/groups/{by}") for by in ("product", "package", "tag", "machine")}
    assert [(g["name"], g["machines"], g["exposed"], g["nowhere"], g["everywhere"]) for g in found["product"]] == [
        ("Debian GNU/Linux 12 (bookworm)", 2, 1, 2, 1)
    ]
    assert [(g["name"], g["cves"]) for g in found["package"]] == [(UPDATE, 1)]
    assert [(g["name"], g["machines"]) for g in found["tag"]] == [("site=ulm", 1)]
    assert [(g["name"], g["link"], g["exposed"]) for g in found["machine"]] == [("one", one.id, 1), ("two", two.id, 0)]
    assert server.get("/api/v1/compliance/groups/machine?tag=site=ulm")[0]["name"] == "one"


def test_vex_says_what_is_fixed_in_memory(server: Running) -> None:
    machines = {name: simple(server, name) for name in ("a-fixed", "b-memory", "c-old", "d-silent")}
    says(machines["d-silent"], Fixed.EVERYWHERE)
    later(server, hours=1)
    says(machines["a-fixed"], Fixed.EVERYWHERE)
    says(machines["b-memory"], Fixed.IN_MEMORY)
    says(machines["c-old"], Fixed.IN_MEMORY, Fixed.ON_DISK)
    document = server.get("/api/v1/compliance/vex")
    assert document["@context"] == "https://openvex.dev/ns/v0.2.0"
    assert [each["status"] for each in document["statements"]] == [
        "fixed",
        "not_affected",
        "affected",
        "under_investigation",
    ]
    products = [each["products"][0] for each in document["statements"]]
    assert [each["@id"] for each in products] == [f"urn:hotmend:machine:{each.id}" for each in machines.values()]
    # Only where the disk has the new build is it known which version is installed.
    assert [each["subcomponents"][0]["@id"] for each in products] == [
        "pkg:deb/debian/server@1.22.1-9%2Bdeb12u3",
        "pkg:deb/debian/server",
        "pkg:deb/debian/server",
        "pkg:deb/debian/server@1.22.1-9%2Bdeb12u3",
    ]
    assert "nginx (71)" in document["statements"][2]["action_statement"]
    text = server.call("GET", "/api/v1/compliance/vex?form=cyclonedx").body.decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert len(json.loads(text)["vulnerabilities"]) == 4


@pytest.fixture
def evidence(server: Running) -> tuple[bytes, str]:
    says(simple(server, "one"), Fixed.ON_DISK)
    key = server.get("/api/v1/compliance/evidence-key")["key"]
    reply = server.call("POST", "/api/v1/compliance/evidence", role="operator")
    assert reply.status == 200, reply.body
    return reply.body, key


def test_evidence_says_what_the_server_knew_and_has_no_expiry(server: Running, evidence: tuple[bytes, str]) -> None:
    data, key = evidence
    found = verified(data, key)
    assert found is not None
    assert [(each.name, each.silent, [p.fixed for p in each.findings]) for each in found.machines] == [
        ("one", False, ["on-disk"])
    ]
    assert len(found.machines[0].report) == 64
    assert [(each.subject, each.closed_at) for each in found.exposures] == [(CVE, None)]
    audit = server.get("/api/v1/audit?limit=1")["items"][0]
    assert (audit["action"], audit["number"], audit["hash"]) == ("evidence.make", found.audit_rows, found.audit_head)
    assert key != server.app.state.context.key.public  # what signs policies signs no evidence
    assert server.call("POST", "/api/v1/compliance/evidence", role="viewer").status == 403


def test_evidence_that_was_changed_or_is_of_another_is_refused(evidence: tuple[bytes, str]) -> None:
    data, key = evidence
    assert verified(data, SigningKey.generate().public) is None
    envelope = json.loads(data)
    payload = base64.b64decode(envelope["payload"])
    better = payload.replace(b"on-disk", b"everywhere")
    assert better != payload
    changed = envelope | {"payload": base64.b64encode(better).decode()}
    assert verified(json.dumps(changed).encode(), key) is None
    assert verified(json.dumps(envelope | {"signatures": []}).encode(), key) is None
    for wrong in (b"{}", b"[]", b"\xff", json.dumps(envelope | {"payloadType": "text/plain"}).encode()):
        with pytest.raises(InputError, match="this is no evidence"):
            verified(wrong, key)
    with pytest.raises(InputError, match="not an evidence key"):
        verified(data, "no key")


def test_evidence_by_command(
    server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    says(simple(server, "one"), Fixed.ON_DISK)
    monkeypatch.setenv("HOTMEND_TOKEN", server.tokens["operator"])
    file, words = tmp_path / "evidence.json", ["fleet", "--server", server.url, "evidence"]
    assert run([*words, "make", str(file), "--search", "one"]) == 0
    assert run([*words, "make", str(file)]) != 0  # it is there
    capsys.readouterr()
    assert run([*words, "key"]) == 0
    key = capsys.readouterr().out.strip()
    monkeypatch.delenv("HOTMEND_TOKEN")
    offline = ["fleet", "evidence", "verify", str(file), "--key"]
    assert run([*offline, key]) == 0
    told = capsys.readouterr().out
    assert "about: 1 machines ({'search': 'one'})" in told
    assert "with old code: 1" in told
    assert run([*offline, "0" * 64]) == 4


def test_a_channel_that_is_followed_says_when_a_fix_was_published(server: Running, tmp_path: Path) -> None:
    world = World(tmp_path / "world").make_keys().found().fill().promote()
    folder, source, context = tmp_path / "client", str(world.mirror), server.app.state.context
    trust(folder, world.first_root)
    followed = Followed(CHANNEL, "stable", source, lambda: catalogue(source, folder, CHANNEL, Tier.STABLE))
    assert follow(context, followed) == ""
    offered = catalogue(source, folder, CHANNEL, Tier.STABLE)
    assert not isinstance(offered, Reason)
    package, _, version = next(each for each in offered if each.id == HOTPATCH).packages[0]
    machine = simple(server, "one")
    found = (Finding("", Fixed.IN_MEMORY, 7, "server", "", "/usr/sbin/server", f"{package}={version}"),)
    machine.check_in(report=report(findings=found))
    assert datetime.fromisoformat(exposures(server)[f"{package}={version}"]["published"]) == world.now
    page = server.call("GET", "/calendar", role="viewer").body.decode()
    assert HOTPATCH in page
    assert f"{package} " in page
    (world.mirror / "metadata" / "timestamp.json").write_bytes(b"{}")
    assert follow(context, followed) != ""
    page = server.call("GET", "/calendar", role="viewer").body.decode()
    assert HOTPATCH in page  # what was verified stays, and it is said that nothing newer is believed
    assert "It cannot be believed or reached:" in page
