"""A signed channel with hotpatches for one small web server: one that breaks it, and one that is right."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hotmend.linux.process import file_build_id
from hotmend.repository.issues import known_issue
from hotmend.repository.making import About, hotpatch_release
from hotmend.repository.releases import ManifestPackage
from tests.debs import make_deb
from tests.repository.kit import BASELINE, CHANNEL, World, baseline

SOURCE = Path(__file__).with_name("subject.c")
PROGRAM = "usr/sbin/subject"
BUILDS = {
    "shipped": ("200 OK", "as shipped", "1.0-1"),
    "bad": ("500 Internal Server Error", "broken", "1.0-2"),
    "good": ("200 OK", "repaired", "1.0-3"),
}
"""What each build answers, and its version."""


def changelog(name: str, cve: str) -> str:
    """Return the changelog of a build whose version fixes a vulnerability."""
    entry = "subject ({version}) bookworm-security; urgency=high\n\n  * {what}\n\n"
    entry += " -- A Maintainer <a@example.org>  Wed, 03 Jan 2024 00:00:00 +0000\n\n"
    first = entry.format(version=BUILDS["shipped"][2], what="Initial release.")
    return first if name == "shipped" else entry.format(version=BUILDS[name][2], what=f"Fix {cve}.") + first


@dataclass
class Releases:
    """The channel, and what may be published on it.

    Attributes:
        folder: of everything.
        world: publisher and signers.
    """

    folder: Path
    world: World

    @property
    def program(self) -> Path:
        """The program as it was shipped."""
        return self.folder / "shipped"

    @property
    def channel(self) -> str:
        """The agents' configuration of the channel."""
        return f'[channel]\naddress = "{self.world.mirror}"\nname = "{CHANNEL}"\n'

    def publish(self, name: str) -> None:
        """Offer a release to the stable tier, signed by the people it takes."""
        bundle = (self.folder / f"{name}.hotmend").read_bytes()
        release = hotpatch_release((bundle,), About(CHANNEL, BASELINE, name), self.world.now)
        self.world.publisher().add(release, {release.files[0].name: bundle})
        self.world.promote(name)

    def add_issue(self, name: str, title: str, workaround: str, text: str = "") -> None:
        """Say what goes wrong with a release, and what to do about it: in words, and as TOML."""
        issue = known_issue(title, self.world.now, workaround, text, "the text")
        self.world.sign(self.world.publisher().add_issue(CHANNEL, name, issue), "stable1", "stable2")

    def withdraw(self, name: str) -> None:
        """Take a release back."""
        pending = self.world.publisher().withdraw(CHANNEL, (name,), "it breaks the server")
        self.world.sign(pending, "stable1", "stable2")


def make_releases(folder: Path) -> Releases:
    """Compile all builds, compare them as any publisher does, and found a channel."""
    packages = {name: _package(folder, name) for name in BUILDS}
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda name: _compared(folder, packages["shipped"], packages[name], name), ("bad", "good")))
    world = World(folder / "channel").make_keys().found()
    build = file_build_id(folder / "shipped")
    assert build is not None
    shipped = ManifestPackage("subject", BUILDS["shipped"][2], "amd64", security=False, build_ids=(build,))
    found = baseline(world.now)
    manifest = msgspec.structs.replace(found.manifest, packages=(shipped,))
    world.publisher().add(msgspec.structs.replace(found, manifest=manifest), {})
    world.promote(BASELINE)
    return Releases(folder, world)


def compiled(program: Path, status: str, body: str) -> Path:
    """Compile the web server to answer this."""
    words = [f'-DSTATUS="{status}"', f'-DBODY="{body}"']
    subprocess.run(["gcc", "-O2", "-s", *words, "-o", program, SOURCE], check=True)
    return program


def _package(folder: Path, name: str) -> Path:
    status, body, version = BUILDS[name]
    program = compiled(folder / name, status, body)
    return make_deb(
        folder / f"{name}.deb",
        {PROGRAM: program.read_bytes()},
        package="subject",
        version=version,
        changelog=changelog(name, f"CVE-2026-{BUILDS[name][2][-1] * 4}"),
    )


def _compared(folder: Path, old: Path, new: Path, name: str) -> None:
    command: list[str | Path] = [sys.executable, "-m", "hotmend", "build", old, new, "-o", folder / f"{name}.hotmend"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
