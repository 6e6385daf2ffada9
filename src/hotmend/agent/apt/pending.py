"""What the package manager has waiting, by apt's own simulation of an upgrade."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hotmend.agent.apt.installed import dpkg_query
from hotmend.agent.apt.remembered import remembered
from hotmend.linux.apt import call_apt, call_apt_to_its_end, complaints_of
from hotmend.model.errors import FetchError

KERNEL = re.compile(r"linux-image-(\d.*|[a-z0-9-]+)")
_APT: Final = ("apt-get", "-q", "-y")
_VARIABLES: Final = {"LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
_SECURITY_SUITE = "-security"
_ROW = re.compile(
    r"Inst (?P<package>[a-z0-9][a-z0-9+.-]+)(?::[a-z0-9]+)? (?:\[(?P<old>[^\]\s]+)\] )?"
    r"\((?P<new>\S+) (?P<origins>.*) \[(?P<architecture>[a-z0-9-]+)\]\)"
)


@dataclass(frozen=True, slots=True)
class Pending:
    """One package that an upgrade would install.

    Attributes:
        package, architecture: of the binary package.
        old_version: installed now; "" where it comes in anew.
        new_version: that would be installed.
        origins: where apt offers it, as `LABEL:VERSION/SUITE`.
    """

    package: str
    architecture: str
    old_version: str
    new_version: str
    origins: tuple[str, ...]

    @property
    def security(self) -> bool:
        """Whether a security suite offers it."""
        return any(origin.endswith(_SECURITY_SUITE) for origin in self.origins)

    @property
    def is_kernel(self) -> bool:
        """Whether it holds a kernel, which runs from the next boot on."""
        return KERNEL.fullmatch(self.package) is not None

    @property
    def installed_name(self) -> str:
        """What dpkg calls it, also where it is installed for several architectures."""
        return f"{self.package}:{self.architecture}"

    def __str__(self) -> str:
        """Return it as apt takes it."""
        return f"{self.package}={self.new_version}"


def parse_simulation(text: str) -> tuple[Pending, ...]:
    """Return the packages in what `apt-get --simulate` prints, in its order; other lines say nothing of these."""
    found = (_ROW.match(line) for line in text.splitlines())
    return tuple(
        Pending(m["package"], m["architecture"], m["old"] or "", m["new"], tuple(m["origins"].split(", ")))
        for m in found
        if m is not None
    )


def pending_updates(
    packages: Iterable[str] = (), *, every: bool = False, memory: Path | None = None
) -> tuple[Pending, ...]:
    """Return what an upgrade would install.

    Args:
        packages: only these; all where there are none.
        every: also what no security suite offers.
        memory: file with apt's last answer, which is its answer now if nothing has changed; None: it is asked.

    Raises:
        FetchError: apt is missing, or cannot work out an upgrade.
        InputError: one of `packages` is not installed.
    """
    wanted = frozenset(packages)
    found = parse_simulation(_upgrade() if memory is None else remembered(memory, _upgrade))
    for package in sorted(wanted - {p.package for p in found}):
        dpkg_query("--show", package)
    chosen = (p for p in found if not wanted or p.package in wanted)
    return tuple(p for p in chosen if every or wanted or p.security)


def _upgrade() -> str:
    return run_apt("--simulate", "-o", "Debug::NoLocking=1", "--with-new-pkgs", "upgrade")


def brought_by(*updates: Pending) -> tuple[Pending, ...]:
    """Return what installing some updates would install, they among it.

    Raises:
        FetchError: apt is missing, or cannot work it out.
    """
    return parse_simulation(run_apt("--simulate", "-o", "Debug::NoLocking=1", "install", *map(str, updates)))


def run_apt(*arguments: str) -> str:
    """Run apt-get, which changes nothing but what it keeps, and return what it printed.

    Raises:
        FetchError: it is missing, did not end, or failed; with its own first complaint.
    """
    return _judged(call_apt([*_APT, *arguments], _VARIABLES, hint="this works on Debian and what is made from it"))


def change_packages(*arguments: str, before: Callable[[int], None], environment: Mapping[str, str]) -> None:
    """Run apt-get, which changes the machine: it is waited for as long as it takes.

    Args:
        arguments: of it.
        before: called with its pid before it begins; where that raises, it does not.
        environment: variables beside the usual ones.

    Raises:
        FetchError: it is missing, or failed; with its own first complaint.
    """
    _judged(call_apt_to_its_end([*_APT, *arguments], {**_VARIABLES, **environment}, before))


def _judged(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode:
        told = complaints_of(done.stderr) or [done.stderr.strip()[-200:] or f"exit code {done.returncode}"]
        raise FetchError(f"apt-get failed: {told[0]}")
    return done.stdout
