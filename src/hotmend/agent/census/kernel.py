"""The kernel that runs, those that are installed, and whether somebody asks for a reboot."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TEXT_BYTES_MAX: Final = 1 << 16
_SETUP_BYTES: Final = 1 << 16
_MAGIC, _MAGIC_AT, _VERSION_AT, _BASE = b"HdrS", 0x202, 0x20E, 0x200
"""Of an x86 kernel image, as the kernel's Documentation/arch/x86/boot.rst has it."""

_BUILD = re.compile(r"#.*$")
_BUILD_LETTERS: Final = 64  # uname(2) cuts it off there


@dataclass(frozen=True, slots=True)
class InstalledKernel:
    """A kernel on the disk: its release, as `uname -r` will say, and its build, as `uname -v`; "" where unknown."""

    release: str
    build: str


@dataclass(frozen=True, slots=True)
class Boot:
    """What a boot would change.

    Attributes:
        release, build: of the kernel that runs.
        installed: kernels on the disk.
        container: this is no machine of its own: its kernel is another's.
        required: /run/reboot-required is there.
        packages: those that asked for it.
    """

    release: str
    build: str
    installed: tuple[InstalledKernel, ...]
    container: bool
    required: bool
    packages: tuple[str, ...]


def read_boot(root: Path = Path("/")) -> Boot:
    """Return what the machine says of itself; what cannot be read counts as not there."""
    name = os.uname()
    kernels = [
        InstalledKernel(path.name.removeprefix("vmlinuz-"), _build_of(path, path.name.removeprefix("vmlinuz-")))
        for path in sorted((root / "boot").glob("vmlinuz-*"))
        if path.is_file()
    ]
    packages = dict.fromkeys(_lines(root / "run/reboot-required.pkgs"))
    return Boot(
        release=name.release,
        build=name.version,
        installed=tuple(kernels),
        container=_contained(root),
        required=(root / "run/reboot-required").exists(),
        packages=tuple(packages),
    )


def reboot_reasons(boot: Boot) -> tuple[str, ...]:
    """Return why a reboot is due, a sentence each; none: it is not."""
    reasons = []
    if boot.required:
        asked = f" by {', '.join(boot.packages)}" if boot.packages else ""
        reasons.append(f"/run/reboot-required is there: a reboot was asked for{asked}")
    newest = max(boot.installed, key=lambda kernel: release_key(kernel.release), default=None)
    if newest is not None and not boot.container:
        if release_key(newest.release) > release_key(boot.release):
            reasons.append(f"kernel {boot.release} runs, {newest.release} is installed")
        elif newest.release == boot.release and newest.build and newest.build[:_BUILD_LETTERS] != boot.build:
            reasons.append(f"kernel {boot.release} runs as {boot.build}, {newest.build} is installed")
    return tuple(reasons)


def release_key(release: str) -> tuple[tuple[int, int, str], ...]:
    """Return what orders releases of kernels: numbers as numbers, and before words."""
    return tuple((1, int(p), "") if p.isdigit() else (0, 0, p) for p in re.findall(r"\d+|[^\d.+~_-]+", release))


def _build_of(path: Path, release: str) -> str:
    """Return what a kernel image says of its build, if it is the release's."""
    try:
        with path.open("rb") as file:
            content = file.read(_SETUP_BYTES)
    except OSError:
        return ""
    if content[_MAGIC_AT : _MAGIC_AT + 4] != _MAGIC:
        return ""
    at = int.from_bytes(content[_VERSION_AT : _VERSION_AT + 2], "little") + _BASE
    text = content[at : content.find(b"\0", at)].decode("ascii", "replace")
    found = _BUILD.search(text)
    return found[0] if found and text.startswith(f"{release} ") else ""


def _contained(root: Path) -> bool:
    """Tell whether this is a container, by what its manager leaves for systemd, docker and podman."""
    return any((root / name).exists() for name in ("run/systemd/container", ".dockerenv", "run/.containerenv"))


def _lines(path: Path) -> list[str]:
    try:
        with path.open("r", encoding="utf-8", errors="replace") as file:
            return [line.strip() for line in file.read(_TEXT_BYTES_MAX).splitlines() if line.strip()]
    except OSError:
        return []
