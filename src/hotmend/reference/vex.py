"""VEX documents, in the forms that scanners read: OpenVEX and CycloneDX. What they say is found elsewhere."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from itertools import groupby
from tempfile import TemporaryFile
from typing import Final

import msgspec

from hotmend import __version__

OPENVEX_CONTEXT: Final = "https://openvex.dev/ns/v0.2.0"
_TOOL: Final = f"hotmend {__version__}"


class Status(StrEnum):
    """As OpenVEX has them."""

    FIXED = "fixed"
    NOT_AFFECTED = "not_affected"
    AFFECTED = "affected"
    UNKNOWN = "under_investigation"


_READ: Final = 1 << 16
_STATES: Final = {
    Status.FIXED: "resolved",
    Status.NOT_AFFECTED: "not_affected",
    Status.AFFECTED: "exploitable",
    Status.UNKNOWN: "in_triage",
}
"""What CycloneDX calls them."""
_TO_UPDATE: Final = (Status.NOT_AFFECTED, Status.AFFECTED)


@dataclass(frozen=True, slots=True)
class Statement:
    """One CVE of one package at its installed version.

    Attributes:
        cve: its id.
        package, version: of the binary package; what is installed, "" where that is not known.
        status: of it on this machine.
        sentence: on what that rests; for `AFFECTED`, what to do.
        since: when the last process had it.
        machine: name of the product that the package is in; "" where the document is about one machine.
        distribution: namespace of its package URL; "" for that of the document.
    """

    cve: str
    package: str
    version: str
    status: Status
    sentence: str
    since: datetime
    machine: str = ""
    distribution: str = ""


@lru_cache(maxsize=4096)
def purls(package: str, version: str, distribution: str = "debian") -> tuple[str, ...]:
    """Return the package URLs that scanners have for a package: with an epoch there are two ways to write it."""
    from packageurl import PackageURL

    epoch, _, rest = version.rpartition(":")
    found = [PackageURL("deb", distribution, package, version or None)]
    if epoch:
        found.append(PackageURL("deb", distribution, package, rest, {"epoch": epoch}))
    return tuple(url.to_string() for url in found)


def openvex(
    given: Iterable[Statement],
    now: datetime,
    distribution: str = "debian",
    role: str = "what is in the memory of one machine",
) -> bytes:
    """Return an OpenVEX document, version 0.2.0."""
    document = b"".join(openvex_parts(given, now, distribution, role))
    return msgspec.json.format(document, indent=2) + b"\n"


def openvex_parts(given: Iterable[Statement], now: datetime, distribution: str, role: str) -> Iterator[bytes]:
    """Yield such a document part by part: no more of it is in memory than one statement."""
    head = {
        "@context": OPENVEX_CONTEXT,
        "@id": f"urn:uuid:{uuid.uuid4()}",
        "author": _TOOL,
        "role": role,
        "timestamp": _moment(now),
        "version": 1,
        "tooling": _TOOL,
    }
    yield msgspec.json.encode(head)[:-1] + b',"statements":['
    between = b"\n"
    for statement in given:
        yield between + msgspec.json.encode(_open_statement(statement, distribution))
        between = b",\n"
    yield b"]}\n"


def _open_statement(statement: Statement, distribution: str) -> dict[str, object]:
    packages = [
        {"@id": purl} for purl in purls(statement.package, statement.version, statement.distribution or distribution)
    ]
    whole = [{"@id": statement.machine, "subcomponents": packages}] if statement.machine else packages
    found: dict[str, object] = {
        "vulnerability": {"name": statement.cve},
        "products": whole,
        "status": statement.status.value,
        "timestamp": _moment(statement.since),
    }
    match statement.status:
        case Status.NOT_AFFECTED:
            found |= {"justification": "inline_mitigations_already_exist", "impact_statement": statement.sentence}
        case Status.AFFECTED:
            found |= {"action_statement": statement.sentence}
        case Status.FIXED | Status.UNKNOWN:
            found |= {"status_notes": statement.sentence}
    return found


def cyclonedx(given: Iterable[Statement], now: datetime, distribution: str = "debian") -> bytes:
    """Return a CycloneDX document, version 1.6, of the packages concerned and the analysis of each vulnerability."""
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.impact_analysis import (
        ImpactAnalysisJustification,
        ImpactAnalysisResponse,
        ImpactAnalysisState,
    )
    from cyclonedx.model.vulnerability import BomTarget, Vulnerability, VulnerabilityAnalysis
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    bom = Bom(serial_number=uuid.uuid4())
    bom.metadata.timestamp = now
    machines: dict[str, Component] = {}
    for statement in given:
        purl = purls(statement.package, statement.version, statement.distribution or distribution)[0]
        place = f"{statement.machine} {purl}" if statement.machine else purl
        package = Component(
            name=statement.package,
            version=statement.version or None,
            type=ComponentType.LIBRARY,
            purl=PackageURL.from_string(purl),
            bom_ref=place,
        )
        if statement.machine:
            name = statement.machine
            machine = machines.setdefault(name, Component(name=name, type=ComponentType.DEVICE, bom_ref=name))
            machine.components.add(package)
        else:
            bom.components.add(package)
        protected = statement.status is Status.NOT_AFFECTED
        analysis = VulnerabilityAnalysis(
            state=ImpactAnalysisState(_STATES[statement.status]),
            justification=ImpactAnalysisJustification.PROTECTED_AT_RUNTIME if protected else None,
            responses=[ImpactAnalysisResponse.UPDATE] if statement.status in _TO_UPDATE else [],
            detail=statement.sentence,
            last_updated=statement.since,
        )
        bom.vulnerabilities.add(
            Vulnerability(
                bom_ref=f"{statement.cve} {place}", id=statement.cve, analysis=analysis, affects=[BomTarget(ref=place)]
            )
        )
    for machine in machines.values():
        bom.components.add(machine)
    return JsonV1Dot6(bom).output_as_string(indent=2).encode() + b"\n"


def cyclonedx_parts(given: Iterable[Statement], now: datetime, distribution: str = "debian") -> Iterator[bytes]:
    """Yield a CycloneDX document, version 1.6, about many machines part by part.

    It is what `cyclonedx` makes, which has all of it in memory. The components come last; meanwhile they are in a file.

    Args:
        given: each has a machine; those of one machine follow each other.
        now: when it is made.
        distribution: namespace of a package's URL where the statement has none.
    """
    head = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {"timestamp": now.isoformat()},
    }
    yield msgspec.json.encode(head)[:-1] + b',"vulnerabilities":['
    between = b"\n"
    with TemporaryFile() as components:
        for machine, its in groupby(given, key=lambda statement: statement.machine):
            packages: dict[str, dict[str, object]] = {}
            for statement in its:
                purl = purls(statement.package, statement.version, statement.distribution or distribution)[0]
                packages[purl] = _package(statement, purl)
                yield between + msgspec.json.encode(_vulnerability(statement, purl))
                between = b",\n"
            device = {"type": "device", "bom-ref": machine, "name": machine, "components": list(packages.values())}
            components.write((b",\n" if components.tell() else b"\n") + msgspec.json.encode(device))
        yield b'],"components":['
        components.seek(0)
        yield from iter(lambda: components.read(_READ), b"")
    yield b"]}\n"


def _package(statement: Statement, purl: str) -> dict[str, object]:
    version = {"version": statement.version} if statement.version else {}
    place = f"{statement.machine} {purl}"
    return {"type": "library", "bom-ref": place, "name": statement.package, "purl": purl, **version}


def _vulnerability(statement: Statement, purl: str) -> dict[str, object]:
    analysis: dict[str, object] = {"state": _STATES[statement.status]}
    if statement.status is Status.NOT_AFFECTED:
        analysis["justification"] = "protected_at_runtime"
    if statement.status in _TO_UPDATE:
        analysis["response"] = ["update"]
    analysis |= {"detail": statement.sentence, "lastUpdated": statement.since.isoformat()}
    place = f"{statement.machine} {purl}"
    ref = f"{statement.cve} {place}"
    return {"bom-ref": ref, "id": statement.cve, "analysis": analysis, "affects": [{"ref": place}]}


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
