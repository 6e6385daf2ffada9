"""A process that lives through the quarter with the liblzma of the baseline, and is patched as its channel goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demo.run import DemoError
from hotmend.repository.client import Fetched
from tests.servers.command import DONE, hotmend_run
from tests.servers.packages import deb_unpack

PYTHON = "/usr/bin/python3"
_PROGRAM = """
import lzma, os, sys
data = os.urandom(100_000)
packed = lzma.compress(data)
for _ in sys.stdin:
    print(int(lzma.decompress(packed) == data), flush=True)
"""


class Living:
    """A stock Python with the baseline's liblzma mapped."""

    def __init__(self, process: subprocess.Popen[str], package: str, version: str) -> None:
        self._process = process
        self._package = package
        self._version = version

    def works(self) -> None:
        """Let it unpack something.

        Raises:
            DemoError: it does not come out right, or the process is gone.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        if self._process.stdout.readline().strip() != "1":
            raise DemoError("the process that lives on does not work any more")

    def follow(self, fetched: Fetched) -> str:
        """Apply what a release has for this process; return what became of it, in words.

        Raises:
            DemoError: there is nothing for it, or it was refused.
        """
        for path, hotpatches in fetched.files:
            hotpatch = hotpatches[0]
            if (hotpatch.package, hotpatch.versions[0]) == (self._package, self._version):
                applied = hotmend_run("apply", str(path), "--pid", str(self._process.pid))
                if applied.code != DONE:
                    raise DemoError(applied.told())
                self.works()
                shown = hotmend_run("status", "--pid", str(self._process.pid)).objects[0]["hotpatches"]
                active = sum(bool(found["active"]) for found in shown)
                return f"{hotpatch.versions[1]} applied to {self._process.pid}: {len(shown)} known, {active} active"
        raise DemoError(f"the release has nothing for {self._package} {self._version}")


@contextmanager
def living(deb: Path, package: str, version: str, folder: Path) -> Iterator[Living]:
    """Start the process; it ends with the block."""
    tree = deb_unpack(deb, folder)
    libraries = str(next(tree.rglob("liblzma.so.5")).parent)
    process = subprocess.Popen(
        [PYTHON, "-c", _PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"LD_LIBRARY_PATH": libraries},
    )
    try:
        started = Living(process, package, version)
        started.works()
        if libraries not in Path(f"/proc/{process.pid}/maps").read_text():
            raise DemoError(f"{PYTHON} does not use the liblzma of {libraries}")
        yield started
    finally:
        process.kill()
        process.wait()
