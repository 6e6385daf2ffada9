"""The peers' sources: fetched at a fixed commit, built in a folder outside the tree."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.report import progress

FETCH_SECONDS_MAX = 120
BUILD_SECONDS_MAX = 300
_BUILT = "hotmend-built"


class NotBuilt(Exception):
    """A peer cannot be measured here; the message says what stopped it."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a peer comes from and how it is built.

    Attributes:
        name: of its folder.
        url: of its public repository.
        commit: what is measured.
        commands: that build it, in its folder.
        needs: Debian packages that the commands need besides a compiler and make.
    """

    name: str
    url: str
    commit: str
    commands: tuple[tuple[str, ...], ...]
    needs: tuple[str, ...]


_UPATCH_COMPILER = (
    "gcc",
    "-std=gnu99",
    "-O2",
    "-D_GNU_SOURCE",
    "-D_FORTIFY_SOURCE=2",
    "-funsigned-char",
    "-fPIE",
    "-pie",
    '-DBUILD_VERSION="bench"',
    "-Iupatch-manage",
)
"""The options of its CMakeLists.txt that make code."""


def _shell(script: str, *words: str) -> tuple[str, ...]:
    """Return the command that runs a script with these words as its arguments."""
    return ("sh", "-c", script, "sh", *words)


LIBPULP = Source(
    "libpulp",
    "https://github.com/SUSE/libpulp",
    "91791f5d89320c31e8f7531b260b4d99a20107db",
    (
        ("./bootstrap",),
        # Python is for its tests alone, which are not built.
        ("./configure", "PYTHON=true", "--enable-stack-check"),
        ("make", "-C", "common"),
        ("make", "-C", "lib"),
        ("make", "-C", "tools"),
    ),
    (
        "autoconf",
        "autoconf-archive",
        "automake",
        "libtool",
        "libelf-dev",
        "libjson-c-dev",
        "libseccomp-dev",
        "libunwind-dev",
    ),
)
LIBCARE = Source(
    "libcare",
    "https://github.com/cloudlinux/libcare",
    "40f12435a0d0f1b76aa19a93aad830b1f6e1e36e",
    # Without DEBUG it is built with -O2; with it, as by default, with -O0.
    (("make", "-C", "src", "DEBUG=", "libcare-ctl", "libcare-cc", "kpatch_gensrc", "kpatch_make", "kpatch_strip"),),
    ("libelf-dev", "libunwind-dev", "pkg-config"),
)
SYSCARE = Source(
    "syscare",
    "https://github.com/openeuler-mirror/syscare",
    "869afba4609c881444fe73eaff3bb8aa2554e5a4",
    # Its two programs in C; the rest is a daemon in Rust, which calls them.
    (
        _shell(
            'exec "$@" upatch-manage/*.c upatch-manage/arch/x86_64/*.c -lelf',
            *_UPATCH_COMPILER,
            "-Iupatch-manage/arch/x86_64",
            "-oupatch-manage/upatch-manage",
        ),
        _shell(
            'exec "$@" upatch-diff/*.c upatch-diff/insn/*.c -lelf',
            *_UPATCH_COMPILER,
            "-Iupatch-diff",
            "-Iupatch-diff/insn",
            "-oupatch-diff/upatch-diff",
        ),
    ),
    ("libelf-dev",),
)


def cache_folder() -> Path:
    """Return where sources and builds are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hotmend" / "peers"


def run(
    command: Sequence[str],
    folder: Path,
    seconds: float = BUILD_SECONDS_MAX,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a command and return what it printed.

    Raises:
        NotBuilt: it failed, with its last words.
    """
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotBuilt(f"{command[0]}: {error}") from error
    if done.returncode:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        said = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "it said nothing")
        raise NotBuilt(f"{' '.join(command[:3])}: exit code {done.returncode}: {said[:200]}")
    return done.stdout


def source_build(source: Source, prepared: Path | None = None) -> Path:
    """Return the folder of a built peer.

    Args:
        source: which.
        prepared: folder of checkouts that are there already, each under its name; without it they are fetched.

    Raises:
        NotBuilt: it could not be fetched or built.
    """
    target = cache_folder() / f"{source.name}-{source.commit[:12]}"
    if (target / _BUILT).exists():
        return target
    target.mkdir(parents=True, exist_ok=True)
    progress(f"building {source.name} in {target}")
    checkout = prepared / source.name if prepared else _fetch(source)
    if not checkout.exists():
        raise NotBuilt(f"there is no checkout {checkout}")
    archive = target / "source.tar"
    run(["git", "archive", "--output", str(archive), source.commit], checkout)
    run(["tar", "-xf", str(archive)], target)
    try:
        for command in source.commands:
            run(command, target)
    except NotBuilt as error:
        raise NotBuilt(f"{error} (it needs {', '.join(source.needs)})") from error
    (target / _BUILT).touch()
    return target


def _fetch(source: Source) -> Path:
    """Fetch exactly the commit, without its history."""
    checkout = cache_folder() / source.name
    checkout.mkdir(parents=True, exist_ok=True)
    progress(f"fetching {source.url}")
    run(["git", "init", "--quiet"], checkout)
    quiet = {"GIT_TERMINAL_PROMPT": "0"}
    run(["git", "fetch", "--quiet", "--depth", "1", source.url, source.commit], checkout, FETCH_SECONDS_MAX, quiet)
    return checkout
