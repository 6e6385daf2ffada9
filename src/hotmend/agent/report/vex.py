"""What a scanner of files and packages cannot see: which CVEs are fixed in memory. `reference.vex` writes it.

A statement is about one binary package at the version that is installed, because that is what scanners report.
*Fixed* and *not affected* are said only where every process that runs the code has the fix. Where the disk is old, code
that starts anew is old: for a program that takes a restart, and the statement says so; a library is started anew by any
command, so that it counts as affected, unless only what runs now is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from hotmend.agent.census.assessment import RunningProcess, plain_name
from hotmend.agent.census.code_state import RunningImage
from hotmend.reference.vex import Statement, Status


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
