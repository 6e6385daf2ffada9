"""A middle version of xz: Debian's source with the first of its three security patches, compiled as Debian compiles it.

The archive has two versions of a package, the released one and the newest. A quarter needs one between them, so that
some machines are one update behind and others two.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from demo.run import DemoError

PACKAGE, SOURCE = "liblzma5", "xz-utils"
PATCHES_TAKEN = 12
LIBRARY = "lib/x86_64-linux-gnu/liblzma.so.5.4.1"
_SECONDS = 900
_OPTIONS = (
    "--build=x86_64-linux-gnu --prefix=/usr --libdir=/usr/lib/x86_64-linux-gnu --enable-threads --disable-static "
    "--disable-xz --disable-xzdec --disable-lzmadec --disable-lzmainfo --disable-scripts --disable-doc --disable-nls -q"
)
_CHANGES = """\
{source} ({version}) bookworm-security; urgency=medium

  * Only the first of the security patches of the version after this one (rebuilt for a demonstration).

 -- hotmend demonstration <demo@example.org>  Mon, 07 Sep 2026 00:00:00 +0000

"""


def middle_deb(released: Path, version: str, source_version: str, folder: Path) -> Path:
    """Return a package between two releases.

    Args:
        released: the .deb before.
        version: of the new package.
        source_version: whose patches a part is taken of.
        folder: to work in.

    Raises:
        DemoError: the source is not offered, or does not compile.
    """
    folder.mkdir(parents=True)
    _source(source_version, folder)
    tree = folder / "tree"
    tree.mkdir()
    _run(["tar", "xf", *map(str, folder.glob("*.orig.tar.*z")), "-C", str(tree), "--strip-components=1"], folder)
    _run(["tar", "xf", *map(str, folder.glob("*.debian.tar.xz")), "-C", str(folder)], folder)
    series = (folder / "debian/patches/series").read_text().split()
    for patch in series[:PATCHES_TAKEN]:
        _run(["patch", "-s", "-p1", "-i", str(folder / "debian/patches" / patch)], tree)
    # Patches touch what the build system is made of; its generated files come with the source and are still good.
    for name in ("aclocal.m4", "configure", "config.h.in"):
        os.utime(tree / name)
    for path in tree.rglob("Makefile.in"):
        os.utime(path)
    flags = {
        "CFLAGS": f"-g -O2 -ffile-prefix-map={tree}=. -fstack-protector-strong -Wformat -Werror=format-security",
        "CPPFLAGS": "-Wdate-time -D_FORTIFY_SOURCE=2",
        "LDFLAGS": "-Wl,-z,relro -Wl,-z,now",
    }
    _run(["./configure", *_OPTIONS.split()], tree, flags)
    _run(["make", "-s", "-j2", "-C", "src/liblzma"], tree, flags)
    return _package(released, tree, version, folder)


def _source(version: str, folder: Path) -> None:
    apt = folder / "apt"
    for name in ("state/lists/partial", "cache/archives/partial"):
        (apt / name).mkdir(parents=True)
    key = "signed-by=/usr/share/keyrings/debian-archive-keyring.gpg"
    lines = (
        f"deb-src [{key}] http://deb.debian.org/debian bookworm main",
        f"deb-src [{key}] http://deb.debian.org/debian-security bookworm-security main",
    )
    (apt / "sources.list").write_text("\n".join(lines) + "\n")
    settings = {
        "Dir::State": apt / "state",
        "Dir::Cache": apt / "cache",
        "Dir::Etc::sourcelist": apt / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
    }
    (apt / "apt.conf").write_text("".join(f'{name} "{value}";\n' for name, value in settings.items()))
    environment = {"APT_CONFIG": str(apt / "apt.conf")}
    _run(["apt-get", "-q", "update"], folder, environment)
    _run(["apt-get", "-q", "source", "--download-only", f"{SOURCE}={version}"], folder, environment)


def _package(released: Path, tree: Path, version: str, folder: Path) -> Path:
    root = folder / "root"
    _run(["dpkg-deb", "-R", str(released), str(root)], folder)
    library = root / LIBRARY
    built = next((tree / "src/liblzma/.libs").glob("liblzma.so.5.*.*"))
    _run(["strip", "--strip-unneeded", "-o", str(library), str(built)], folder)
    control = root / "DEBIAN/control"
    lines = control.read_text().splitlines()
    control.write_text("".join(f"Version: {version}\n" if x.startswith("Version: ") else f"{x}\n" for x in lines))
    changelog = root / f"usr/share/doc/{PACKAGE}/changelog.Debian.gz"
    _run(["gunzip", str(changelog)], folder)
    text = changelog.with_suffix("")
    text.write_text(_CHANGES.format(source=SOURCE, version=version) + text.read_text())
    _run(["gzip", "-9n", str(text)], folder)
    shutil.rmtree(tree)
    deb = folder / f"{PACKAGE}_{version}_amd64.deb"
    _run(["dpkg-deb", "--root-owner-group", "-b", str(root), str(deb)], folder)
    return deb


def _run(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode:
        raise DemoError(f"{' '.join(command[:3])}: {(done.stderr or done.stdout).strip()[-500:]}")
