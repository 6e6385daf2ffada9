"""How rustc is called: which one, and with what for each configuration."""

from __future__ import annotations

import shutil
from pathlib import Path

from .catalog import Configuration, Variant

RUST_COMPILERS = {"rustc": Path("/usr/bin/rustc"), "rustup": Path.home() / ".cargo/bin/rustc"}
"""The distribution's, and the one that rustup installed, where there is one."""

_VARIANT_OPTIONS = {
    Variant.PIE: (),
    Variant.LTO: ("lto=fat",),
    Variant.ABORT: ("panic=abort", "force-unwind-tables=yes"),
    Variant.ABORT_LTO: ("panic=abort", "force-unwind-tables=yes", "lto=fat"),
    Variant.DEBUG: ("debuginfo=2",),
}


def is_rust(compiler: str) -> bool:
    """Whether the name in a configuration means a Rust compiler."""
    return compiler in RUST_COMPILERS


def rust_compiler(name: str) -> str:
    """Return the program to run for `name`; names of other compilers are programs already."""
    return str(RUST_COMPILERS[name]) if name in RUST_COMPILERS else name


def compiler_installed(name: str) -> bool:
    """Whether the compiler of a configuration is on this machine."""
    return shutil.which(rust_compiler(name)) is not None


def rust_command(configuration: Configuration, source: Path, target: Path) -> list[str]:
    """Return the command that makes the program of one build.

    The crate has one name and one path for both builds, as the builds of a package have: panics show the path.
    """
    level = configuration.level.removeprefix("-O")
    options = [
        f"opt-level={level}",
        "codegen-units=1",
        "link-arg=-Wl,--build-id",
        *_VARIANT_OPTIONS[configuration.variant],
    ]
    words = [rust_compiler(configuration.compiler), "--edition=2021", "--crate-name=program", "-Awarnings"]
    words.append(f"--remap-path-prefix={source.parent}=/usr/src/program")
    for option in options:
        words += ["-C", option]
    return [*words, str(source), "-o", str(target)]
