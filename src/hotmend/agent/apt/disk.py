"""Packages brought onto the disk by the machine's own apt, with the restarts held back that nobody needs."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import Final

from hotmend.agent.apt.held import Holder, hold_restarts, release_restarts
from hotmend.agent.apt.installed import service_names
from hotmend.agent.apt.kept import take_kept
from hotmend.agent.apt.pending import Pending, brought_by, change_packages, run_apt
from hotmend.agent.census.units import is_booted, unit_of
from hotmend.agent.memory import Changed, Memory, PackageResult, Spared
from hotmend.linux.apt import at_work
from hotmend.linux.process import processes_mapping
from hotmend.model.errors import FetchError, HotmendError
from hotmend.publisher import feed

_QUIET: Final = {"NEEDRESTART_SUSPEND": "1", "HOTMEND_APT_HOOK": "off"}
"""For this one call of apt: memory is changed already, and what is due is named here."""
_OWN_FILES: Final = ("-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold")
"""Nobody is there to be asked: a configuration file that was changed here stays, and the new one lies beside it."""


def fetch(pending: Sequence[Pending], place: Path) -> dict[str, Path]:
    """Have apt download packages that it does not keep already, and return where each is.

    Who installs packages meanwhile is not in the way.

    Raises:
        FetchError: apt cannot, or a package is not there afterwards.
    """
    if not pending:
        return {}
    wanted = {p.package: feed.PackageVersion(p.package, p.new_version) for p in pending}
    kept = take_kept(wanted.values(), place)
    if missing_here := [version for version in wanted.values() if version not in kept]:
        feed.fetch_many(missing_here, place)
    found = {package: feed.find(place, version) for package, version in wanted.items()}
    if missing := [str(wanted[package]) for package, path in found.items() if path is None]:
        raise FetchError(f"apt downloaded no file for {', '.join(missing)}", "run apt-get update and try again")
    return {package: path for package, path in found.items() if path is not None}


def download_only(pending: Sequence[Pending]) -> None:
    """Have apt fill its cache with packages and what they need.

    Raises:
        FetchError: it cannot.
    """
    if pending:
        run_apt("--download-only", "install", *map(str, pending))


def all_fixed(result: PackageResult | Changed, spared: Spared) -> bool:
    """Return whether all processes run the new code that may be touched; where nobody may, it is not so."""
    if result.memory is Memory.PARTLY:
        return all(spared(old.pid) and not old.part for old in result.still_old)
    return result.memory is Memory.FIXED


def held_services(results: Iterable[tuple[str, PackageResult | Changed]], spared: Spared) -> tuple[str, ...]:
    """Return the services that need no restart: those of packages whose processes all run the new code.

    Processes that are never touched are no reason to restart others. A unit that also runs old code, of whatever
    package, is none of them, and neither is one that could not load the new files of its package later. The name of a
    template is one where no unit made from it runs old code: packages ask by it (`postgresql` for
    `postgresql@15-main`).

    Args:
        results: a package's name and what became of its processes, for each.
        spared: which processes are never touched.
    """
    results = tuple(results)
    names: set[str] = set()
    due = _names(old.unit for _, result in results for old in result.still_old)
    for package, result in results:
        if not all_fixed(result, spared):
            continue
        services = _names(unit_of(done.pid) for done in result.results)
        if not is_booted():  # init scripts leave no trace in their processes
            services.update(service_names(package))
        (due if result.needed_later else names).update(services)
    return tuple(sorted(names - due))


def never_services(results: Iterable[tuple[str, PackageResult | Changed]], spared: Spared) -> tuple[str, ...]:
    """Return the services that must not be restarted, whatever they run: those of processes that are never touched.

    Args:
        results: a package's name and what became of its processes, for each.
        spared: which processes those are.
    """
    names = _names(unit_of(process.pid) for process in processes_mapping() if spared(process.pid))
    if not is_booted():
        for package, result in results:
            if any(spared(old.pid) for old in result.still_old):
                names.update(service_names(package))
    return tuple(sorted(names))


def _names(units: Iterable[str]) -> set[str]:
    """Return the names without suffix of units, and of the templates that they are made from."""
    whole = {unit.removesuffix(".service") for unit in units if unit}
    return whole | {base for name in whole if (base := name.partition("@")[0])}


def without_forbidden(pending: Sequence[Pending], forbidden: Container[str]) -> tuple[Pending, ...]:
    """Leave out what would bring a forbidden update with it: packages of one source often need one another's version.

    Args:
        pending: what is to be installed.
        forbidden: as PACKAGE=VERSION.

    Raises:
        FetchError: apt cannot say.
    """
    return tuple(one for one in pending if not any(str(other) in forbidden for other in brought_by(one)))


def install(pending: Sequence[Pending], held: Sequence[str], place: Path) -> str:
    """Have apt install packages, those that are in `place` from there; return why it failed, or "".

    It takes as long as it takes, and restarts are held back for as long as apt itself lives.
    """
    holder: Holder | None = None

    def hold(pid: int) -> None:
        nonlocal holder
        holder = Holder.of(pid)
        hold_restarts(held, holder)

    try:
        if (busy := at_work()) is not None:
            return f"apt or dpkg is at work already, process {busy}"
        given = ("-o", f"Dir::Cache::archives={place}", "-o", "APT::Sandbox::User=root", *_OWN_FILES)
        change_packages(*given, "install", *map(str, pending), before=hold, environment=_QUIET)
    except (HotmendError, OSError) as error:
        return str(error)
    finally:
        if holder is not None:
            release_restarts(holder)
    return ""
