"""A bundle for whoever is to help: what hotmend says of this machine, with what must not leave it taken out."""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
import pwd
import re
import socket
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import zstandard

from hotmend import __version__
from hotmend.agent.apt.installed import dpkg_query
from hotmend.agent.health.crashes import KERNEL_LOG, kernel_lines
from hotmend.agent.paths import Places
from hotmend.agent.record.history import Action, History
from hotmend.agent.report.redaction import OUT, Redactor
from hotmend.linux.census import take_census
from hotmend.model.errors import InputError

_SECONDS_MAX: Final = 300
_FILE_BYTES_MAX: Final = 64 << 20
_PERSON_FIRST: Final = 1000
_NOBODY: Final = 65534
COMMANDS: Final = {
    "doctor.jsonl": ("doctor", "--json"),
    "status.jsonl": ("status", "--json"),
    "restarts.json": ("restarts", "--json"),
    "nagios.json": ("nagios", "--json"),
    "metrics.prom": ("metrics",),
    "audit-check.json": ("audit", "--check", "--json"),
    "timeline.jsonl": ("timeline", "--since", "30d", "--json"),
}
README: Final = """\
What `hotmend support` put together on {at}. Everything here is text; read it before you send it.

versions.json      hotmend, kernel, distribution, packages that hotmend rests on
doctor.jsonl       what this machine allows and lacks
status.jsonl       hotpatches in memory
restarts.json, nagios.json, metrics.prom, timeline.jsonl, audit-check.json: what these commands say
history.jsonl      the agent's history; audit.jsonl  the record of changes to processes. With command lines left out
                   their hashes do not fit any more: audit-check.json has what the check said of the whole file
configuration.json names of settings, numbers, and words that are hotmend's own
kernel.txt         lines of the kernel's log about hotmend and about processes that it changed
errors.txt         what could not be put together

Left out: command lines, output of commands, words of the configuration, credentials. Stand-ins (`host-1`, `user-1`,
`address-1`, the same each time) for names of machines, domains and people and for addresses.
"""


def make_bundle(places: Places, audit: Path, now: datetime) -> bytes:
    """Return the bundle: a tar archive, compressed with zstandard."""
    members = collect(places, audit, now)
    blob = io.BytesIO()
    with tarfile.open(fileobj=blob, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(f"hotmend-support/{name}")
            entry.size, entry.mode, entry.mtime = len(content), 0o600, int(now.timestamp())
            archive.addfile(entry, io.BytesIO(content))
    return zstandard.ZstdCompressor(level=10, write_checksum=True).compress(blob.getvalue())


def collect(places: Places, audit: Path, now: datetime) -> dict[str, bytes]:
    """Return name and content of each file, redacted. What cannot be had is named in `errors.txt`."""
    errors: list[str] = []
    processes = take_census().processes
    paths = {image.path for process in processes for image in process.images}
    redactor = Redactor(_hosts(), _people(), {*paths, *(p.comm for p in processes), *map(os.path.basename, paths)})
    members = {"README.txt": README.format(at=now.isoformat(timespec="minutes")).encode()}
    # The configuration and the audit record come first: what is left out of them is left out of all others.
    members["configuration.json"] = _json(redactor.settings(_configuration(places.configuration, errors)))
    members["audit.jsonl"] = _lines(audit, redactor, errors)
    members["history.jsonl"] = _lines(places.history, redactor, errors)
    members["versions.json"] = _json(redactor.value(_versions()))
    for name, arguments in COMMANDS.items():
        members[name] = _said(arguments, audit, redactor, errors)
    members["kernel.txt"] = redactor.text(_kernel(places, errors)).encode()
    members["errors.txt"] = redactor.text("".join(f"{error}\n" for error in errors)).encode()
    return members


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False, default=str).encode() + b"\n"


def _configuration(file: Path, errors: list[str]) -> object:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        errors.append(f"{file}: {type(error).__name__}")  # what the parser says has the line in it
        return {}


def _lines(file: Path, redactor: Redactor, errors: list[str]) -> bytes:
    """Return a file of JSON lines, redacted; a line that is none is left out whole."""
    found = []
    try:
        with file.open("rb") as stream:
            content = stream.read(_FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return b""
    except OSError as error:
        errors.append(f"{file}: {error.strerror or error}")
        return b""
    if len(content) > _FILE_BYTES_MAX:
        errors.append(f"{file}: only its first {_FILE_BYTES_MAX} bytes")
    for line in content[:_FILE_BYTES_MAX].splitlines():
        found.append(_line(line, redactor))
    return b"".join(line + b"\n" for line in found)


def _line(line: bytes, redactor: Redactor) -> bytes:
    try:
        value = json.loads(line)
    except ValueError:
        return json.dumps(OUT).encode()
    return json.dumps(redactor.value(value), ensure_ascii=False).encode()


def _said(arguments: tuple[str, ...], audit: Path, redactor: Redactor, errors: list[str]) -> bytes:
    """Return what a command of hotmend prints, redacted."""
    environment = os.environ | {"HOTMEND_AUDIT": str(audit)}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "hotmend", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS_MAX,
            env=environment,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        errors.append(f"hotmend {' '.join(arguments)}: {type(error).__name__}")
        return b""
    if done.returncode not in (0, 3, 4) and not done.stdout:
        errors.append(f"hotmend {' '.join(arguments)}: exit code {done.returncode}")
    if arguments[-1] == "--json":
        return b"".join(_line(line, redactor) + b"\n" for line in done.stdout.splitlines())
    return redactor.text(done.stdout.decode("utf-8", "replace")).encode()


def _versions() -> Mapping[str, object]:
    release = Path("/etc/os-release")
    fields = dict(line.split("=", 1) for line in _text(release).splitlines() if "=" in line)
    packages = {}
    for name in ("libc6", "libdw1", "apt", "dpkg", "systemd", "needrestart", "unattended-upgrades"):
        try:
            packages[name] = dpkg_query("--show", "--showformat=${Version}", name)
        except InputError:
            packages[name] = ""
    return {
        "hotmend": __version__,
        "python": platform.python_version(),
        "kernel": f"{platform.system()} {platform.release()} {platform.version()} {platform.machine()}",
        "processors": os.cpu_count(),
        "distribution": {key: fields.get(key, "").strip('"') for key in ("ID", "VERSION_ID", "VERSION_CODENAME")},
        "packages": packages,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _kernel(places: Places, errors: list[str]) -> str:
    """Return lines of the kernel's log about hotmend and about commands that it changed."""
    try:
        events = History(places.history).read().events
        lines = kernel_lines(KERNEL_LOG)
    except OSError as error:
        errors.append(f"{error.filename}: {error.strerror or error}")
        return ""
    names = {changed.comm for event in events if isinstance(event, Action) for changed in event.changed}
    about = re.compile("|".join(rf"\b{re.escape(name)}\[" for name in sorted(names)) or r"(?!)")
    return "".join(f"{line}\n" for line in lines if "hotmend" in line or about.search(line))


def _hosts() -> Iterable[str]:
    """Return the names by which this machine, its domain and machines it knows may be written."""
    names = {
        platform.node(),
        socket.gethostname(),
        *_text(Path("/etc/hostname")).split(),
        *_text(Path("/etc/mailname")).split(),
    }
    for line in _text(Path("/etc/hosts")).splitlines():
        names.update(line.partition("#")[0].split()[1:])
    for line in _text(Path("/etc/resolv.conf")).splitlines():
        words = line.split()
        if words[:1] in (["search"], ["domain"]):
            names.update(words[1:])
    names |= {name.partition(".")[0] for name in names}
    harmless = ("localhost", "ip6-", "debian", "vm")
    return {name for name in names if name and not name.startswith(harmless)}


def _people() -> Iterable[str]:
    """Return names of people: accounts with numbers of people, and folders below /home."""
    accounts = (account for account in pwd.getpwall() if _PERSON_FIRST <= account.pw_uid != _NOBODY)
    names = {name for account in accounts for name in (account.pw_name, *account.pw_gecos.split(","))}
    with contextlib.suppress(OSError):
        names.update(path.name for path in Path("/home").iterdir())
    return {name.strip() for name in names if name.strip()}


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""
