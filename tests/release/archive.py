"""A distribution of our own, signed with OpenPGP: small libraries, and security updates that change them.

A library is written in C and compiled: `factor` is a number in one function, `grows` an added member of a structure.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

from tests.debs import make_deb

MAIN, SECURITY = "sample", "sample-security"

_CODE = """\
#include <stdlib.h>
#include <string.h>
struct thing { int count; %(member)s char name[24]; };
static int calls;
__attribute__((noinline)) static int work(int a, int b) { calls++; return a * %(factor)d + b / (a | 1); }
struct thing *make_%(name)s(const char *name) {
    struct thing *made = calloc(1, sizeof *made);
    if (made) { strncpy(made->name, name, 23); made->count = work(3, 4); }
    return made;
}
int count_%(name)s(struct thing *it) { return it->count + work(it->count, 7); }
const char *name_%(name)s(struct thing *it) { return it->name; }
"""

CHANGELOG = """\
{package} ({version}) sample-security; urgency={urgency}

  * Fix {cve}: a number was wrong.

 -- A Maintainer <a@example.org>  Thu, 01 Jan 2026 00:00:00 +0000
"""


@contextmanager
def keyring(name: str) -> Iterator[tuple[Path, Path]]:
    """Give the home of a new OpenPGP key and the file of its public half; its agent ends with the block."""
    with tempfile.TemporaryDirectory(prefix="hm-gpg-") as folder:  # a socket's path must be short
        home = Path(folder)
        home.chmod(0o700)
        gpg = ["gpg", "--homedir", folder, "--batch", "--quiet"]
        unprotected = [
            "--passphrase",
            "",
            "--quick-gen-key",
            f"{name} <{name}@example.org>",
            "ed25519",
            "sign",
            "never",
        ]
        subprocess.run([*gpg, *unprotected], check=True, capture_output=True)
        public = home / "public.gpg"
        public.write_bytes(subprocess.run([*gpg, "--export"], check=True, capture_output=True).stdout)
        try:
            yield home, public
        finally:
            subprocess.run(["gpgconf", "--homedir", folder, "--kill", "gpg-agent"], check=False, capture_output=True)


@dataclass
class Archive:
    """Two suites below `root`; what they offer is as of the last `publish`."""

    root: Path
    home: Path
    public: Path
    offers: dict[str, dict[str, Path]] = field(default_factory=lambda: {MAIN: {}, SECURITY: {}})

    def put(
        self,
        suite: str,
        package: str,
        version: str,
        *,
        factor: int = 3,
        grows: bool = False,
        cve: str = "CVE-2026-1000",
    ) -> None:
        """Offer a version of a package in place of the one before."""
        pool = self.root / "pool"
        pool.mkdir(parents=True, exist_ok=True)
        text = CHANGELOG.format(package=package, version=version, urgency="high", cve=cve)
        before = self.offers[suite].get(package) or self.offers[MAIN].get(package)
        if before is not None:
            text += "\n" + before.with_suffix(".changelog").read_text()
        deb = pool / f"{package}_{version}_amd64.deb"
        shutil.rmtree(deb.with_suffix(".root"), ignore_errors=True)
        library = self._library(package, factor, grows=grows)
        make_deb(deb, {f"usr/lib/lib{package}.so.1": library}, package=package, version=version, changelog=text)
        deb.with_suffix(".changelog").write_text(text)
        self.offers[suite][package] = deb

    def offer(self, suite: str, package: str, deb: Path) -> None:
        """Offer a package that is there already in place of the version before."""
        place = self.root / "pool" / deb.name.replace("%3a", "_")  # no escapes in an address
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(deb, place)
        self.offers[suite][package] = place

    def _library(self, name: str, factor: int, *, grows: bool) -> bytes:
        code = _CODE % {"name": name, "factor": factor, "member": "long added[2];" if grows else ""}
        source = self.root / f"{name}.c"
        source.write_text(code)
        target = source.with_suffix(".so")
        flags = ["-O2", "-g0", "-shared", "-fPIC", "-Wl,--build-id", "-s"]
        subprocess.run(["gcc", *flags, "-o", target, source], check=True)
        return target.read_bytes()

    def publish(self, day: int = 1, valid_until: str = "") -> None:
        """Write and sign the lists of both suites, as of a day of January 2026."""
        for suite, debs in self.offers.items():
            stanzas = []
            for deb in debs.values():
                control = subprocess.run(
                    ["dpkg-deb", "--field", deb], capture_output=True, text=True, check=True
                ).stdout
                data = deb.read_bytes()
                digest = hashlib.sha256(data).hexdigest()
                name = deb.relative_to(self.root)
                stanzas.append(f"{control}Filename: {name}\nSize: {len(data)}\nSHA256: {digest}\n")
            until = f"Valid-Until: {valid_until}\n" if valid_until else ""
            self._sign(suite, "\n".join(stanzas).encode(), f"Date: {_date(day)}\n{until}")

    def _sign(self, suite: str, listing: bytes, dates: str) -> None:
        folder = self.root / "dists" / suite
        binary = folder / "main" / "binary-amd64"
        binary.mkdir(parents=True, exist_ok=True)
        (binary / "Packages").write_bytes(listing)
        digest = hashlib.sha256(listing).hexdigest()
        head = f"Origin: Sample\nSuite: {suite}\nCodename: {suite}\nArchitectures: amd64\nComponents: main\n"
        release = f"{head}{dates}SHA256:\n {digest} {len(listing)} main/binary-amd64/Packages\n"
        (folder / "Release").write_text(release)
        command = ["gpg", "--homedir", str(self.home), "--batch", "--quiet", "--yes", "--clearsign", "--output"]
        subprocess.run([*command, folder / "InRelease", folder / "Release"], check=True, capture_output=True)

    def plan(self, folder: Path, channel: str, packages: tuple[str, ...], more: str = "", address: str = "") -> Path:
        """Write a plan that watches packages of this distribution, read where it is or from a web server."""
        text = f"channel = {channel!r}\npackages = {list(packages)!r}\n{more}\n"
        for suite in self.offers:
            text += f"[[suite]]\nname = {suite!r}\nuri = {address or f'file:{self.root}'!r}\n"
            text += f"signed_by = {str(self.public)!r}\n"
            text += f"security = {str(suite == SECURITY).lower()}\n"
        path = folder / "plan.toml"
        path.write_text(text)
        return path

    def copy(self, root: Path) -> Archive:
        """Return the same distribution elsewhere, to be changed."""
        shutil.copytree(self.root, root)
        moved = {s: {p: root / d.relative_to(self.root) for p, d in debs.items()} for s, debs in self.offers.items()}
        return Archive(root, self.home, self.public, moved)


def _date(day: int) -> str:
    return format_datetime(datetime(2026, 1, day, tzinfo=UTC), usegmt=True).replace("GMT", "UTC")
