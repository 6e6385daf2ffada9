"""An archive of Debian packages of our own, which apt reads from disk: two suites that differ, without any network."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.debs import make_deb

OLD: Final = "sample"
NEW: Final = "sample-security"

_CODE = """\
#include <stdlib.h>
#include <string.h>
struct thing { int count; %(member)s char name[24]; };
static int calls;
__attribute__((noinline)) static int work%(n)d(int a, int b) { calls++; return a * %(factor)d + b / (a | 1); }
struct thing *make%(n)d(const char *name) {
    struct thing *made = calloc(1, sizeof *made);
    if (made) { strncpy(made->name, name, 23); made->count = work%(n)d(3, %(n)d); }
    return made;
}
int count%(n)d(struct thing *it) { return it->count + work%(n)d(it->count, 7); }
const char *name%(n)d(struct thing *it) { return it->name; }
"""
"""Libraries in which one function changes, or nothing, or a structure grows."""


@dataclass(frozen=True, slots=True)
class Archive:
    """Where it is, and the environment in which apt and hotmend use it and nothing else.

    Attributes:
        environment: for subprocesses.
        changed: package -> paths of its changed files.
    """

    environment: dict[str, str]
    changed: dict[str, tuple[str, ...]]


def make_archive(root: Path, packages: int, files: int) -> Archive:
    """Make two suites of `packages` packages with `files` libraries each, the newer ones with changes.

    Of the libraries of a package the first has a changed function, the second a grown structure, and so on.
    """
    root.mkdir()
    for suite, new in ((OLD, False), (NEW, True)):
        debs = [_package(root, f"tool{n}", files, new=new) for n in range(packages)]
        _publish(root, suite, debs)
    environment = _configure(root)
    subprocess.run(["apt-get", "-q", "update"], env=environment, check=True, capture_output=True)
    paths = tuple(_library_path(n) for n in range(files))
    return Archive(environment, {f"tool{n}": paths for n in range(packages)})


def _library_path(n: int) -> str:
    return f"usr/lib/libtool{n}.so.1"


def _package(root: Path, name: str, files: int, *, new: bool) -> Path:
    version = "1.0-2" if new else "1.0-1"
    libraries = {_library_path(n): _library(root, name, n, new=new) for n in range(files)}
    pool = root / "pool"
    pool.mkdir(exist_ok=True)
    return make_deb(pool / f"{name}_{version}_amd64.deb", libraries, package=name, version=version)


def _library(root: Path, name: str, n: int, *, new: bool) -> bytes:
    grows = n % 2 == 1
    code = _CODE % {
        "n": n,
        "factor": 5 if new and not grows else 3,
        "member": "long added[2];" if new and grows else "",
    }
    source = root / f"{name}-{n}.c"
    source.write_text(code)
    target = source.with_suffix(".so")
    flags = ["-O2", "-g0", "-shared", "-fPIC", "-Wl,--build-id", "-s"]
    subprocess.run(["gcc", *flags, "-o", target, source], check=True)
    return target.read_bytes()


def _publish(root: Path, suite: str, debs: list[Path]) -> None:
    binary = root / "dists" / suite / "main" / "binary-amd64"
    binary.mkdir(parents=True)
    stanzas = []
    for deb in debs:
        control = subprocess.run(["dpkg-deb", "--field", deb], capture_output=True, text=True, check=True).stdout
        data = deb.read_bytes()
        fields = {
            "Source": "tools",
            "Filename": str(deb.relative_to(root)),
            "Size": len(data),
            "SHA256": hashlib.sha256(data).hexdigest(),
        }
        stanzas.append(control + "".join(f"{key}: {value}\n" for key, value in fields.items()))
    listing = "\n".join(stanzas).encode()
    (binary / "Packages").write_bytes(listing)
    digest = hashlib.sha256(listing).hexdigest()
    head = f"Origin: Sample\nSuite: {suite}\nCodename: {suite}\nArchitectures: amd64\nComponents: main\n"
    date = "Date: Thu, 01 Jan 2026 00:00:00 UTC\n"
    release = f"{head}{date}SHA256:\n {digest} {len(listing)} main/binary-amd64/Packages\n"
    (root / "dists" / suite / "Release").write_text(release)


def _configure(root: Path) -> dict[str, str]:
    """Return the environment in which apt knows this archive alone."""
    sources = "".join(f"deb [trusted=yes arch=amd64] file:{root} {suite} main\n" for suite in (OLD, NEW))
    settings: Mapping[str, object] = {
        "Dir::State": root / "state",
        "Dir::Cache": root / "cache",
        "Dir::Etc::sourcelist": root / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": "/dev/null",
        "APT::Sandbox::User": "root",
    }
    (root / "sources.list").write_text(sources)
    (root / "apt.conf").write_text("".join(f'{key} "{value}";\n' for key, value in settings.items()))
    for name in ("state/lists/partial", "cache/archives/partial"):
        (root / name).mkdir(parents=True)
    return os.environ | {
        "APT_CONFIG": str(root / "apt.conf"),
        "XDG_CACHE_HOME": str(root / "home"),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }


def survey_command(output: Path, *options: str) -> list[str]:
    """Return the command that surveys such an archive."""
    command = [sys.executable, "-W", "ignore", "-m", "hotmend", "survey"]
    return [*command, OLD, NEW, "--workers", "2", "--output", str(output), *options]
