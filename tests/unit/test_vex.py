"""What is said of a CVE that is fixed in memory, and that the documents are what their formats ask for."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import given, settings
from hypothesis import strategies as st
from lib4vex.parser import VEXParser

from hotmend.agent.census.assessment import RunningProcess
from hotmend.agent.report.vex import statements
from hotmend.reference.vex import Statement, Status, cyclonedx, cyclonedx_parts, openvex, purls
from tests.unit.test_assessment import NEW, NEXT, PATCH, PROCESSES, image, process

NOW = datetime(2026, 11, 29, tzinfo=UTC)
PROGRAM = "/usr/sbin/server"
FIRST, SECOND = PATCH.cves


def said(*processes: RunningProcess, running: bool = False, version: str = "5:1-1") -> list[tuple[str, Status]]:
    found = statements(processes, lambda package: version if package == "libssl3" else "", running=running)
    return [(statement.cve, statement.status) for statement in found]


def both(status: Status) -> list[tuple[str, Status]]:
    return [(FIRST, status), (SECOND, status)]


def test_fixed_in_memory_and_on_disk() -> None:
    assert said(process(5, image(disk=NEW, patch=PATCH)), process(6, image(NEW, NEW))) == both(Status.FIXED)


def test_fixed_in_memory_alone() -> None:
    """A program stays fixed until it is restarted; a library is old in whatever starts next."""
    program = process(5, image(patch=PATCH, path=PROGRAM))
    assert said(program) == both(Status.NOT_AFFECTED)
    library = process(5, image(patch=PATCH))
    assert said(library) == both(Status.AFFECTED)
    assert said(library, running=True) == both(Status.NOT_AFFECTED)


@pytest.mark.parametrize("other", [image(), image(disk=NEW), image(NEXT, NEXT), image(patch=replace(PATCH, cves=()))])
def test_one_process_without_it_is_enough(other: object) -> None:
    assert isinstance(other, type(image()))
    first, second = (replace(each, path=PROGRAM) for each in (image(disk=NEW, patch=PATCH), other))
    found = said(process(5, first), process(6, second), running=True)
    assert found == both(Status.AFFECTED)


def test_a_part_speaks_for_the_fixes_that_it_holds() -> None:
    part = replace(PATCH, cves=(FIRST,), part=True)
    assert said(process(5, image(disk=NEW, patch=part))) == [(FIRST, Status.FIXED)]


def test_nothing_is_said_of_what_is_not_installed() -> None:
    assert said(process(5, image(disk=NEW, patch=PATCH)), version="") == []
    assert said(process(5, image())) == []


@settings(deadline=None)  # a busy machine is no mistake
@given(PROCESSES)
def test_nobody_with_old_code_is_said_to_be_well(processes: list[RunningProcess]) -> None:
    """A further process that runs the file without the fix makes it affected."""
    path = "/usr/lib/libcrypto.so.3"
    before = said(*processes, running=True)
    assert all(status is Status.AFFECTED or cve in PATCH.cves for cve, status in before)
    if any(i.patch for p in processes for i in p.images if i.path == path):
        assert said(*processes, process(99, image(path=path)), running=True) == both(Status.AFFECTED)


def test_package_urls_with_and_without_an_epoch() -> None:
    assert purls("nginx", "1.22.1-9+deb12u9") == ("pkg:deb/debian/nginx@1.22.1-9%2Bdeb12u9",)
    assert purls("redis-tools", "5:7.0.15-1~deb12u7") == (
        "pkg:deb/debian/redis-tools@5:7.0.15-1~deb12u7",
        "pkg:deb/debian/redis-tools@7.0.15-1~deb12u7?epoch=5",
    )


def _of_machine(machine: int, number: int, versioned: bool, status: Status) -> Statement:
    version = f"5:{number}~1+x" if versioned else ""
    return Statement(f"CVE-{number % 2}", f"p{number // 2}", version, status, 'It "is" <so>.', NOW, f"urn:m:{machine}")


GIVEN = tuple(
    Statement(f"CVE-2026-000{number}", "redis-tools", "5:7.0.15-1~deb12u7", status, "Because it is so.", NOW)
    for number, status in enumerate(Status, 1)
)


def test_openvex_has_what_each_status_has_to_have(tmp_path: Path) -> None:
    document = json.loads(openvex(GIVEN, NOW))
    assert document["@context"] == "https://openvex.dev/ns/v0.2.0"
    fixed, well, affected, unknown = document["statements"]
    assert (fixed["status"], fixed["status_notes"]) == ("fixed", "Because it is so.")
    assert (well["justification"], well["impact_statement"]) == (
        "inline_mitigations_already_exist",
        "Because it is so.",
    )
    assert (affected["status"], affected["action_statement"]) == ("affected", "Because it is so.")
    assert (unknown["status"], unknown["status_notes"]) == ("under_investigation", "Because it is so.")
    assert [product["@id"] for product in well["products"]] == list(purls("redis-tools", "5:7.0.15-1~deb12u7"))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the other library leaves files open
def test_cyclonedx_is_valid_and_another_library_reads_it(tmp_path: Path) -> None:
    text = cyclonedx(GIVEN, NOW).decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    analyses = {each["id"]: each["analysis"] for each in json.loads(text)["vulnerabilities"]}
    assert [(a["state"], a.get("justification")) for a in (analyses[s.cve] for s in GIVEN)] == [
        ("resolved", None),
        ("not_affected", "protected_at_runtime"),
        ("exploitable", None),
        ("in_triage", None),
    ]
    file = tmp_path / "vex.cdx.json"
    file.write_text(text)
    parser = VEXParser(vex_type="cyclonedx")
    parser.parse(str(file))
    assert {each["id"]: each["status"] for each in parser.get_vulnerabilities()} == {
        "CVE-2026-0001": "resolved",
        "CVE-2026-0002": "not_affected",
        "CVE-2026-0003": "exploitable",
        "CVE-2026-0004": "in_triage",
    }


def _sorted(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document without what differs each time, its lists sorted."""
    kept = {name: value for name, value in document.items() if name not in ("serialNumber", "dependencies")}
    for device in kept["components"]:
        device["components"].sort(key=lambda each: each["bom-ref"])
    for name in ("components", "vulnerabilities"):
        kept[name] = sorted(kept[name], key=lambda each: each["bom-ref"])
    return kept


@given(st.lists(st.builds(_of_machine, st.integers(0, 3), st.integers(0, 3), st.booleans(), st.sampled_from(Status))))
@settings(deadline=None, max_examples=30)
def test_cyclonedx_in_parts_is_what_the_library_makes(given: list[Statement]) -> None:
    """Statements that differ in their status alone are one vulnerability of the library's; here each is told once."""
    once = {(each.machine, each.cve, each.package, each.version): each for each in given}
    told = sorted(once.values(), key=lambda each: each.machine)
    parts = b"".join(cyclonedx_parts(told, NOW))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(parts.decode()) is None
    assert _sorted(json.loads(parts)) == _sorted(
        {"components": [], "vulnerabilities": []} | json.loads(cyclonedx(told, NOW))
    )


def test_of_many_machines_each_is_a_product_with_its_packages() -> None:
    given = [
        replace(each, machine=f"urn:hotmend:machine:{name}", version="", distribution="ubuntu")
        for name in ("a", "b")
        for each in GIVEN
    ]
    told = json.loads(openvex(given, NOW, role="many"))
    assert told["role"] == "many"
    assert [each["products"] for each in told["statements"]][-1] == [
        {"@id": "urn:hotmend:machine:b", "subcomponents": [{"@id": "pkg:deb/ubuntu/redis-tools"}]}
    ]
    text = cyclonedx(given, NOW).decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document = json.loads(text)
    assert [each["name"] for each in document["components"]] == ["urn:hotmend:machine:a", "urn:hotmend:machine:b"]
    places = {each["bom-ref"] for machine in document["components"] for each in machine["components"]}
    assert {each["affects"][0]["ref"] for each in document["vulnerabilities"]} == places
