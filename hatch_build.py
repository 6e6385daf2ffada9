"""Build hook: compiles the stop window (`src/hotmend/linux/window.c`) where there is a C compiler.

The library uses no part of Python's interface, so a C compiler and the C library's headers are all it takes. Where
they are missing the package is built without it: the same work is then done in Python. `CFLAGS` and `LDFLAGS` are used.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface[Any]):
    """Named by hatchling."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; a failure is told and is none of the build."""
        del version
        source = Path(self.root) / "src" / "hotmend" / "linux" / "window.c"
        output = source.with_name("libwindow.so")
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            self.app.display_warning("no C compiler: the stop window stays in Python")
            return
        identity = hashlib.sha256(source.read_bytes()).hexdigest()
        wanted = [shlex.split(os.environ.get(name, "")) for name in ("CFLAGS", "LDFLAGS")]
        flags = ("-O2", *wanted[0], *wanted[1], "-shared", "-fPIC", f'-DSOURCE_SHA256="{identity}"')
        command = [compiler, *flags, "-o", output.name, source.name]  # no path of this machine in the library
        done = subprocess.run(command, cwd=source.parent, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            self.app.display_warning(f"the stop window stays in Python: {done.stderr.strip()}")
            return
        build_data["artifacts"].append("src/hotmend/linux/libwindow.so")
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-linux_x86_64"
