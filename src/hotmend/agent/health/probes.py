"""Health probes: what must hold before a machine is changed, and still after it.

A probe that fails before keeps the run from beginning: a machine that is ill already would be blamed on the update. A
signal that cannot be read counts as a failure.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Final

import msgspec
from msgspec import Meta

from hotmend.agent.census.systemd import systemctl
from hotmend.agent.health.events import run_command
from hotmend.agent.record.history import Seen
from hotmend.model.errors import HotmendError

_LOG_BYTES_MAX: Final = 64 << 20
_BODY_BYTES_MAX: Final = 16 << 20
_SYSTEMCTL_SECONDS: Final = 30
Seconds = Annotated[float, Meta(gt=0, le=3600)]


class UnhealthyError(HotmendError):
    """A probe says no; the message says why."""


class Probe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", kw_only=True):
    """What all probes have.

    Attributes:
        name: for people; no two have the same.
        tries: a probe that fails is asked again, so often in all.
        pause_seconds: between tries.
    """

    name: str
    tries: Annotated[int, Meta(ge=1, le=100)] = 3
    pause_seconds: Annotated[float, Meta(ge=0, le=600)] = 1.0

    repeats: ClassVar[bool] = True
    """Whether asking again can help."""

    def check(self) -> None:
        """Raise `ValueError` for what the form does not say."""

    def before(self) -> Seen | None:
        """Return what has to be known later.

        Raises:
            UnhealthyError: the machine is ill already.
        """
        return self.after(None)

    def after(self, known: Seen | None) -> Seen | None:
        """Ask; `known` is what `before` returned.

        Raises:
            UnhealthyError: something is wrong.
        """
        raise NotImplementedError


class TcpProbe(Probe, frozen=True, tag="tcp"):
    """Something accepts connections at `host`, `port`."""

    port: Annotated[int, Meta(ge=1, le=65535)]
    host: str = "127.0.0.1"
    seconds: Seconds = 5.0

    def after(self, known: Seen | None) -> None:  # noqa: ARG002 - it is the same before and after
        """Connect."""
        try:
            socket.create_connection((self.host, self.port), self.seconds).close()
        except OSError as error:
            raise UnhealthyError(f"{self.host}:{self.port}: {error.strerror or error}") from error


class HttpProbe(Probe, frozen=True, tag="http"):
    """A request gets one of `status`, and `contains` stands in the answer."""

    url: str
    status: tuple[int, ...] = (200,)
    contains: str = ""
    verify: bool = True
    seconds: Seconds = 10.0

    def check(self) -> None:
        """Only addresses of the web."""
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"probe {self.name}: {self.url} is no address of the web")

    def after(self, known: Seen | None) -> None:  # noqa: ARG002
        """Ask for it."""
        import urllib3  # not needed by an agent without such probes

        reqs = "CERT_REQUIRED" if self.verify else "CERT_NONE"
        try:
            with urllib3.PoolManager(cert_reqs=reqs, retries=False) as pool:
                answer = pool.request(
                    "GET", self.url, timeout=self.seconds, preload_content=False, headers={"User-Agent": "hotmend"}
                )
                body = answer.read(_BODY_BYTES_MAX)
                answer.release_conn()
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise UnhealthyError(f"{self.url}: {error}") from error
        if answer.status not in self.status:
            raise UnhealthyError(f"{self.url}: status {answer.status}")
        if self.contains.encode() not in body:
            raise UnhealthyError(f"{self.url}: '{self.contains}' is not in the answer")


class CommandProbe(Probe, frozen=True, tag="command"):
    """A command ends with exit code 0."""

    command: Annotated[tuple[str, ...], Meta(min_length=1, max_length=1000)]
    seconds: Seconds = 30.0

    def after(self, known: Seen | None) -> None:  # noqa: ARG002
        """Run it."""
        if why := run_command(self.command, self.seconds, {}):
            raise UnhealthyError(why)


class UnitProbe(Probe, frozen=True, tag="unit"):
    """A unit is active, and has neither restarted nor got another main process since."""

    unit: str

    def after(self, known: Seen | None) -> Seen:
        """Ask the service manager; return the main process and how often it was restarted."""
        try:
            shown = systemctl("show", "--property=ActiveState,MainPID,NRestarts", self.unit, seconds=_SYSTEMCTL_SECONDS)
        except HotmendError as error:
            raise UnhealthyError(str(error)) from error
        found = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
        if found.get("ActiveState") != "active":
            raise UnhealthyError(f"{self.unit} is {found.get('ActiveState', 'unknown')}")
        state = (found.get("MainPID", ""), found.get("NRestarts", ""))
        if known is not None and known != state:
            raise UnhealthyError(f"{self.unit} has restarted")
        return state


class LogProbe(Probe, frozen=True, tag="log"):
    """Not more than `at_most` new lines of `file` match `pattern` while the machine is watched."""

    file: str
    pattern: str
    at_most: Annotated[int, Meta(ge=0)] = 0

    repeats: ClassVar[bool] = False

    def check(self) -> None:
        """The pattern is one."""
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"probe {self.name}: {error}") from error

    def before(self) -> Seen:
        """Return where the file ends now, and which file it is."""
        return self._stat()

    def _stat(self) -> tuple[int, int]:
        try:
            found = os.stat(self.file)  # noqa: PTH116 - inode and size of one moment
        except OSError as error:
            raise UnhealthyError(f"{self.file}: {error.strerror or error}") from error
        return found.st_ino, found.st_size

    def after(self, known: Seen | None) -> Seen:
        """Count in what was written since; a file that was rotated is read from its beginning."""
        inode, size = self._stat()
        end = known[1] if known is not None and known[0] == inode else 0
        offset = end if isinstance(end, int) and end <= size else 0
        try:
            with Path(self.file).open("rb") as stream:
                stream.seek(offset)
                content = stream.read(_LOG_BYTES_MAX)
        except OSError as error:
            raise UnhealthyError(f"{self.file}: {error.strerror or error}") from error
        pattern = re.compile(self.pattern)
        count = sum(pattern.search(line) is not None for line in content.decode("utf-8", "replace").splitlines())
        if count > self.at_most:
            raise UnhealthyError(f"{self.file}: {count} lines match '{self.pattern}', {self.at_most} are allowed")
        return inode, size


AnyProbe = TcpProbe | HttpProbe | CommandProbe | UnitProbe | LogProbe


@dataclass(frozen=True, slots=True)
class Watched:
    """What probes found before a change, by their names: of those that have to know it later."""

    known: dict[str, Seen]


def begin(probes: Sequence[Probe]) -> Watched:
    """Ask all probes before a change.

    Raises:
        UnhealthyError: one of them says no.
    """
    found = {probe.name: _asked(probe, probe.before) for probe in probes}
    return Watched({name: seen for name, seen in found.items() if seen is not None})


def unhealthy(probes: Iterable[Probe], watched: Watched | None) -> str:
    """Ask all probes after a change; return what is wrong, or "".

    Args:
        probes: in order.
        watched: what `begin` returned; None where that is not known any more. A probe that counts from there on says
            nothing then.
    """
    seen = watched.known if watched is not None else {}
    try:
        for probe in probes:
            known = seen.get(probe.name)
            if probe.repeats or known is not None:
                _asked(probe, lambda probe=probe, known=known: probe.after(known))  # type: ignore[misc]
    except UnhealthyError as error:
        return str(error)
    return ""


def failing(probes: Iterable[Probe]) -> tuple[str, ...]:
    """Ask all probes that need nothing of an earlier moment; return what those say that say no."""
    return tuple(why for probe in probes if (why := unhealthy((probe,), None)))


def _asked(probe: Probe, ask: Callable[[], Seen | None]) -> Seen | None:
    for left in reversed(range(probe.tries if probe.repeats else 1)):
        try:
            return ask()
        except UnhealthyError as error:
            if not left:
                raise UnhealthyError(f"probe {probe.name}: {error}") from error
            time.sleep(probe.pause_seconds)
    raise AssertionError("a probe has at least one try")
