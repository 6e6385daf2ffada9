"""VEX documents, in the forms that scanners read: OpenVEX and CycloneDX. What they say is found elsewhere."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
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
    told = [_open_statement(statement, distribution) for statement in given]
    document = {
        "@context": OPENVEX_CONTEXT,
        "@id": f"urn:uuid:{uuid.uuid4()}",
        "author": _TOOL,
        "role": role,
        "timestamp": _moment(now),
        "version": 1,
        "tooling": _TOOL,
        "statements": told,
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


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

    states = {
        Status.FIXED: ImpactAnalysisState.RESOLVED,
        Status.NOT_AFFECTED: ImpactAnalysisState.NOT_AFFECTED,
        Status.AFFECTED: ImpactAnalysisState.EXPLOITABLE,
        Status.UNKNOWN: ImpactAnalysisState.IN_TRIAGE,
    }
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
            state=states[statement.status],
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


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
