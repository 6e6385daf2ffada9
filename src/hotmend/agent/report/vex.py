"""What a scanner of files and packages cannot see: which CVEs are fixed in memory. OpenVEX and CycloneDX.

A statement is about one binary package at the version that is installed, because that is what scanners report.
*Fixed* and *not affected* are said only where every process that runs the code has the fix. Where the disk is old, code
that starts anew is old: for a program that takes a restart, and the statement says so; a library is started anew by any
command, so that it counts as affected, unless only what runs now is asked for.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import msgspec

from hotmend import __version__
from hotmend.agent.census.assessment import RunningProcess, plain_name
from hotmend.agent.census.code_state import RunningImage

OPENVEX_CONTEXT: Final = "https://openvex.dev/ns/v0.2.0"
_TOOL: Final = f"hotmend {__version__}"


class Status(StrEnum):
    """As OpenVEX has them."""

    FIXED = "fixed"
    NOT_AFFECTED = "not_affected"
    AFFECTED = "affected"


@dataclass(frozen=True, slots=True)
class Statement:
    """One CVE of one package at its installed version.

    Attributes:
        cve: its id.
        package, version: of the binary package; what is installed.
        status: of it on this machine.
        sentence: on what that rests; for `AFFECTED`, what to do.
        since: when the last process had it.
    """

    cve: str
    package: str
    version: str
    status: Status
    sentence: str
    since: datetime


@dataclass(slots=True)
class _Case:
    """What was seen of one CVE of one package."""

    fixed: list[tuple[RunningProcess, RunningImage]]
    left: list[tuple[RunningProcess, RunningImage]]


def statements(
    processes: Iterable[RunningProcess], installed: Callable[[str], str], *, running: bool = False
) -> tuple[Statement, ...]:
    """Return what can be said, sorted by CVE and package.

    Args:
        processes: all that run.
        installed: the version that is installed of a package; "" where it is not.
        running: only what runs now counts: a library that is old on the disk as well.
    """
    found = []
    for (cve, package), case in _cases(list(processes)).items():
        version = installed(package)
        if version:
            found.append(_statement(cve, package, version, case, running=running))
    return tuple(sorted(found, key=lambda statement: (statement.cve, statement.package)))


def _cases(processes: Sequence[RunningProcess]) -> dict[tuple[str, str], _Case]:
    """Return, by CVE and package, which images have its fix and which run the same file without it."""
    images = [(process, image) for process in processes for image in process.images]
    named: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for _, image in images:
        if image.patch is not None:
            for cve in image.patch.cves:
                key = (cve, image.patch.package)
                named.setdefault(key, set()).add((plain_name(image.path), image.patch.new_build_id))
    cases = {}
    for (cve, package), builds in named.items():
        case, names = _Case([], []), {name for name, _ in builds}
        for process, image in images:
            if plain_name(image.path) not in names:
                continue
            own = image.patch is not None and cve in image.patch.cves
            brought = image.patch is None and (plain_name(image.path), image.build_id) in builds
            (case.fixed if own or brought else case.left).append((process, image))
        cases[cve, package] = case
    return cases


def _statement(cve: str, package: str, version: str, case: _Case, *, running: bool) -> Statement:
    moments = [image.patch.applied_at for _, image in case.fixed if image.patch]
    since = datetime.fromtimestamp(max(moments), UTC)
    ids = ", ".join(sorted({image.patch.id for _, image in case.fixed if image.patch}))
    count = len({process.pid for process, _ in case.fixed})
    evidence = f"Hotpatch {ids} is in the memory of {count} processes, read from it"
    if case.left:
        names = ", ".join(sorted({f"{process.comm} ({process.pid})" for process, _ in case.left}))
        return Statement(
            cve, package, version, Status.AFFECTED, f"Restart or hot-patch what runs old code: {names}.", since
        )
    behind = [image for _, image in case.fixed if image.disk_build_id != image.effective_build_id]
    if not behind:
        return Statement(cve, package, version, Status.FIXED, f"{evidence}, and the disk has the new build.", since)
    libraries = sorted({image.path for image in behind if ".so" in image.path})
    if libraries and not running:
        told = f"Install the update: running processes have the fix, programs that start anew do not ({libraries[0]})."
        return Statement(cve, package, version, Status.AFFECTED, told, since)
    told = f"{evidence}; no process runs the old code. The disk has the old build: a restart brings it back."
    return Statement(cve, package, version, Status.NOT_AFFECTED, told, since)


def purls(package: str, version: str, distribution: str = "debian") -> tuple[str, ...]:
    """Return the package URLs that scanners have for a package: with an epoch there are two ways to write it."""
    from packageurl import PackageURL

    epoch, _, rest = version.rpartition(":")
    found = [PackageURL("deb", distribution, package, version)]
    if epoch:
        found.append(PackageURL("deb", distribution, package, rest, {"epoch": epoch}))
    return tuple(url.to_string() for url in found)


def openvex(given: Iterable[Statement], now: datetime, distribution: str = "debian") -> bytes:
    """Return an OpenVEX document, version 0.2.0."""
    told = [_open_statement(statement, distribution) for statement in given]
    document = {
        "@context": OPENVEX_CONTEXT,
        "@id": f"urn:uuid:{uuid.uuid4()}",
        "author": _TOOL,
        "role": "what is in the memory of one machine",
        "timestamp": _moment(now),
        "version": 1,
        "tooling": _TOOL,
        "statements": told,
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _open_statement(statement: Statement, distribution: str) -> dict[str, object]:
    found: dict[str, object] = {
        "vulnerability": {"name": statement.cve},
        "products": [{"@id": purl} for purl in purls(statement.package, statement.version, distribution)],
        "status": statement.status.value,
        "timestamp": _moment(statement.since),
    }
    match statement.status:
        case Status.NOT_AFFECTED:
            found |= {"justification": "inline_mitigations_already_exist", "impact_statement": statement.sentence}
        case Status.AFFECTED:
            found |= {"action_statement": statement.sentence}
        case Status.FIXED:
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
    }
    bom = Bom(serial_number=uuid.uuid4())
    bom.metadata.timestamp = now
    for statement in given:
        purl = purls(statement.package, statement.version, distribution)[0]
        bom.components.add(
            Component(
                name=statement.package,
                version=statement.version,
                type=ComponentType.LIBRARY,
                purl=PackageURL.from_string(purl),
                bom_ref=purl,
            )
        )
        protected = statement.status is Status.NOT_AFFECTED
        analysis = VulnerabilityAnalysis(
            state=states[statement.status],
            justification=ImpactAnalysisJustification.PROTECTED_AT_RUNTIME if protected else None,
            responses=[] if statement.status is Status.FIXED else [ImpactAnalysisResponse.UPDATE],
            detail=statement.sentence,
            last_updated=statement.since,
        )
        bom.vulnerabilities.add(
            Vulnerability(
                bom_ref=f"{statement.cve} {purl}", id=statement.cve, analysis=analysis, affects=[BomTarget(ref=purl)]
            )
        )
    return JsonV1Dot6(bom).output_as_string(indent=2).encode() + b"\n"


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
