"""A machine beside this one: its files over this machine's, its own packages, processes and process numbers.

What it writes is gone with it. It has no service manager: packages start and restart services by their init scripts.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[2]
RUN_SECONDS_MAX = 300
_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "PYTHONPATH": str(ROOT / "src")}
_BEGIN = """
set -e
mount -t tmpfs machine "$1"
mkdir "$1/written" "$1/work" "$1/root"
mount -t overlay machine -o "lowerdir=/,upperdir=$1/written,workdir=$1/work" "$1/root"
cd "$1/root"
mount --rbind /dev dev
mount --rbind /sys sys
mount -t proc proc proc
mkdir -p ".$2"
mount --rbind "$2" ".$2"
rm -f usr/sbin/policy-rc.d
echo ready
exec chroot . sleep infinity
"""


class Machine:
    """Begins on entry and ends, with all its processes, on exit."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def __enter__(self) -> Machine:
        """Begin."""
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _BEGIN, "machine"]
        self._process = subprocess.Popen(
            [*command, str(self._folder), str(ROOT)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line != "ready\n":
            raise RuntimeError(f"the machine did not begin: {line}{self._process.stdout.read()}")
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        self._first = int(children.read_text().split()[0])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def command(self, text: str) -> list[str]:
        """Return the command line that has its shell run `text`."""
        return ["nsenter", f"--target={self._first}", "--mount", "--pid", "--root", "--wd", "sh", "-c", text]

    def run(self, text: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Have its shell run `text`."""
        done = subprocess.run(
            self.command(text),
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS_MAX,
            env=os.environ
            | {"LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "PYTHONPATH": str(ROOT / "src")},
            check=False,
        )
        if check and done.returncode:
            raise RuntimeError(f"{text}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        return done

    def install(self, *packages: str) -> None:
        """Install packages, given as `PACKAGE=VERSION`, without those they recommend."""
        self.run(f"apt-get install -qq -y --no-install-recommends --allow-downgrades {shlex.join(packages)}")

    def hotmend(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command; its exit code is for the caller to look at."""
        return self.run(shlex.join([sys.executable, "-m", "hotmend", *arguments]), check=False)

    def version(self, package: str) -> str:
        """Return the installed version."""
        return self.run(f"dpkg-query --show --showformat='${{Version}}' {package}").stdout

    def pids(self, command: str) -> list[int]:
        """Return the processes of that name, in its own numbers."""
        return sorted(map(int, self.run(f"pidof {command}", check=False).stdout.split()))

    def settle(self, command: str, count: int) -> list[int]:
        """Wait until so many processes of that name are there; return them."""
        limit = time.monotonic() + 20
        while len(found := self.pids(command)) != count and time.monotonic() < limit:
            time.sleep(0.05)
        assert len(found) == count, f"{command}: {found}"
        return found
