"""What the suites of a plan offer, by an apt of the channel's own: its lists, its keys, its packages.

apt checks the signature of each Release file with the keys that the plan names for the suite, the lists against the
Release file, and each package against the lists; a list that is older than the one it has it ignores, an expired one it
refuses. The machine's own sources, keys and lists are neither used nor changed; its proxy settings are.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from hotmend.image.deb import version_order
from hotmend.linux.apt import call_apt, complaints_of
from hotmend.model.errors import FetchError, InputError
from hotmend.publisher import feed
from hotmend.publisher.feed import PackageVersion
from hotmend.publisher.release.plan import Plan, Suite
from hotmend.publisher.survey.suites import Offer, read_offers

APT_SECONDS_MAX: Final = 1800
_HELPER = "/usr/lib/apt/apt-helper"
_CHECKS: Final[dict[str, object]] = {
    "APT::Architecture": "amd64",
    "APT::Architectures": "amd64",
    "APT::Sandbox::User": "root",
    "APT::Get::AllowUnauthenticated": "false",
    "Acquire::AllowInsecureRepositories": "false",
    "Acquire::AllowWeakRepositories": "false",
    "Acquire::AllowDowngradeToInsecureRepositories": "false",
    "Acquire::Check-Valid-Until": "true",
    "Acquire::Check-Date": "true",
    "Acquire::Languages": "none",
}
"""Images of machines in the cloud have been seen to come with expiry switched off."""


@dataclass(frozen=True, slots=True)
class Current:
    """The newest version of a package over all suites.

    Attributes:
        offer: name, source, version, architecture, size, SHA-256.
        security: a suite of security updates offers exactly this version.
    """

    offer: Offer
    security: bool


class Mirror:
    """The suites of a plan, and a store of packages that remembers what the archive has forgotten.

    Attributes:
        debs: the store.
    """

    def __init__(self, plan: Plan) -> None:
        root = Path(plan.state)
        self._plan = plan
        self._apt = root / "apt"
        self.debs = root / "debs"
        self._lock = threading.Lock()

    def update(self) -> None:
        """Fetch the lists anew.

        Raises:
            FetchError: a suite cannot be reached, or is not signed as the plan says; the lists are as before.
        """
        self._configure()
        self._run(["apt-get", "-q", "update", "-o", "APT::Update::Error-Mode=any"], refused="Skipping acquire")

    def offers(self) -> dict[str, Current]:
        """Return the newest version of each package, by name."""
        found: dict[str, Current] = {}
        lists = self._lists()
        for suite in self._plan.suite:
            for offer in self._suite_offers(lists, suite):
                present = found.get(offer.package)
                order = 1 if present is None else version_order(offer.version, present.offer.version)
                if present is None or order > 0:
                    found[offer.package] = Current(offer, suite.security)
                elif order == 0 and suite.security:
                    found[offer.package] = replace(present, security=True)
        return found

    def fetch(self, wanted: Iterable[PackageVersion]) -> dict[PackageVersion, Path]:
        """Return the files of packages, from the store or from the archive.

        Raises:
            FetchError: the archive does not offer one of them (any more).
        """
        self._configure()
        versions = tuple(dict.fromkeys(wanted))
        with self._lock:
            missing = [version for version in versions if feed.find(self.debs, version) is None]
            if missing:
                self._download(missing)
        files = {version: feed.find(self.debs, version) for version in versions}
        lost = [version for version, path in files.items() if path is None]
        if lost:
            raise FetchError(f"apt downloaded another file than {lost[0]}")
        return {version: path for version, path in files.items() if path is not None}

    def forget(self, keep: Iterable[PackageVersion]) -> int:
        """Delete the packages of the store that nobody needs any more; return how many."""
        wanted = {feed.find(self.debs, version) for version in keep}
        gone = [path for path in self.debs.glob("*.deb") if path not in wanted] if self.debs.is_dir() else []
        for path in gone:
            path.unlink(missing_ok=True)
        return len(gone)

    def _lists(self) -> list[tuple[str, str, str]]:
        """Return address, name and file of each list of packages."""
        form = "$(REPO_URI)\t$(RELEASE)\t$(FILENAME)"
        filters = ("Identifier: Packages", "Architecture: amd64")
        listing = self._run(["apt-get", "indextargets", "--format", form, *filters])
        rows = [line.split("\t") for line in listing.splitlines()]
        return [(uri.rstrip("/"), name, path) for uri, name, path in rows]

    def _suite_offers(self, lists: list[tuple[str, str, str]], suite: Suite) -> Iterator[Offer]:
        where = (suite.uri.rstrip("/"), suite.name)
        # A suite with nothing in it has no list; that one without its components fails, `update` has seen to.
        for path in dict.fromkeys(path for uri, name, path in lists if (uri, name) == where):
            yield from read_offers(self._run([_HELPER, "cat-file", path]))

    def _download(self, missing: list[PackageVersion]) -> None:
        """Put packages into the store."""
        self.debs.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.debs) as folder:
            self._run(["apt-get", "-q", "download", *map(str, missing)], cwd=folder)
            for path in Path(folder).glob("*.deb"):
                path.replace(self.debs / path.name)

    def _configure(self) -> None:
        """Write the sources of this apt; lists of others are forgotten."""
        sources = self._apt / "sources.list"
        if sources.exists() and sources.read_text() == self._sources():
            return
        for name in ("state/lists/partial", "cache/archives/partial", "etc"):
            (self._apt / name).mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._apt / "state" / "lists", ignore_errors=True)
        (self._apt / "state/lists/partial").mkdir(parents=True)
        (self._apt / "sources.list").write_text(self._sources())

    def _options(self) -> Iterator[str]:
        """Yield the settings, for the command line: what the machine's own files say cannot weaken them there."""
        for name, value in {**self._places(), **_CHECKS}.items():
            yield from ("-o", f"{name}={value}")

    def _places(self) -> dict[str, object]:
        return {
            "Dir::State": self._apt / "state",
            "Dir::State::status": "/dev/null",
            "Dir::Cache": self._apt / "cache",
            "Dir::Etc::sourcelist": self._apt / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::trusted": "/dev/null",
            "Dir::Etc::trustedparts": self._apt / "etc",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": self._apt / "etc",
        }

    def _sources(self) -> str:
        lines = []
        for suite in self._plan.suite:
            if any(c.isspace() or c in "[]" for c in suite.signed_by) or not Path(suite.signed_by).is_file():
                raise InputError(f"{suite.name}: {suite.signed_by!r} is no file with keys", "signed_by in the plan")
            options = f"arch=amd64 signed-by={Path(suite.signed_by).absolute()}"
            lines.append(f"deb [{options}] {suite.uri} {suite.name} {' '.join(suite.components)}\n")
        return "".join(lines)

    def _run(self, command: list[str], cwd: str | None = None, refused: str = "") -> str:
        """Run apt; what it says is an error as well where it has the words `refused` in it."""
        done = call_apt(
            [command[0], *self._options(), *command[1:]],
            {"LC_ALL": "C.UTF-8"},
            directory=cwd,
            seconds_max=APT_SECONDS_MAX,
            hint="publishing needs apt",
        )
        complaints = complaints_of(done.stderr)
        complaints += [line[3:] for line in done.stderr.splitlines() if refused and refused in line]
        if done.returncode or (refused and complaints):
            reason = complaints[0] if complaints else "failed"
            raise FetchError(f"{' '.join(command[:3])}: {reason}", "nothing was published")
        return done.stdout


def digest_of(path: Path) -> str:
    """Return a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
