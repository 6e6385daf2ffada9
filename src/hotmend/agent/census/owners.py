"""Whom a process belongs to, by its control group: a service, somebody's session, a container."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

_ROW = re.compile(r"^\d+:(?:name=systemd)?:(/.*)$", re.MULTILINE)
"""Version 2 of control groups, or the service manager's own hierarchy of version 1."""

_CONTAINER = re.compile(
    r"(?P<engine>docker|libpod|crio|cri-containerd|nerdctl|buildah)-(?P<id>[0-9a-f]{12})[0-9a-f]*\.scope"
    r"|lxc(?:\.payload)?[./](?P<lxc>[^/]+)"
    r"|systemd-nspawn@(?P<nspawn>[^/]+)\.service"
    r"|machine-(?P<machine>[^/]+)\.scope"
    r"|(?P<driver>docker|libpod_parent|kubepods)(?:/[^/]+)*?/(?:libpod-)?(?P<plain>[0-9a-f]{12})[0-9a-f]{52}"
)
_MANAGER = re.compile(r"user@(\d+)\.service")
_USER = re.compile(r"user-(\d+)\.slice")
_SESSION = re.compile(r"session-(.+)\.scope")


class OwnerKind(StrEnum):
    """What keeps a process."""

    SERVICE = "service"
    SCOPE = "scope"
    USER_SERVICE = "user service"
    SESSION = "session"
    CONTAINER = "container"
    NONE = "none"


@dataclass(frozen=True, slots=True, order=True)
class Owner:
    """Whom a process belongs to.

    Attributes:
        kind: what it is.
        name: unit of the service manager, number of the session, or engine and beginning of the id of the container; ""
            for `NONE`.
        user_id: of a session or of a user's service; None for all others.
    """

    kind: OwnerKind
    name: str = ""
    user_id: int | None = None

    @property
    def unit(self) -> str:
        """The unit that the machine's service manager keeps it in; "" where it does not."""
        return self.name if self.kind in (OwnerKind.SERVICE, OwnerKind.SCOPE) else ""


NOBODY = Owner(OwnerKind.NONE)


def owner_in(text: str, *, contained: bool = False) -> Owner:
    """Return whom `/proc/PID/cgroup` names.

    Args:
        text: of the file.
        contained: the process has process numbers of its own: where nothing says which, it is in some container.
    """
    owner = next((found for path in _ROW.findall(text) if (found := _owner(path)) != NOBODY), NOBODY)
    return Owner(OwnerKind.CONTAINER) if contained and owner == NOBODY else owner


def _owner(path: str) -> Owner:
    if found := _CONTAINER.search(path):
        engine = found["engine"] or found["driver"]
        name = f"{engine} {found['id'] or found['plain']}" if engine else ""
        return Owner(OwnerKind.CONTAINER, name or found["lxc"] or found["nspawn"] or found["machine"])
    parts = path.strip("/").split("/")
    user = _USER.search(path)
    manager = next((at for at, part in enumerate(parts) if _MANAGER.fullmatch(part)), None)
    if user and manager is not None and (unit := _first_unit(parts[manager + 1 :])) not in ("", "init.scope"):
        return Owner(OwnerKind.USER_SERVICE, unit, int(user[1]))
    if user and (session := _SESSION.search(path)):
        return Owner(OwnerKind.SESSION, session[1], int(user[1]))
    unit = _first_unit(parts)
    if not unit:
        return NOBODY
    return Owner(OwnerKind.SERVICE if unit.endswith(".service") else OwnerKind.SCOPE, unit)


def _first_unit(parts: list[str]) -> str:
    """Return the outermost unit: groups below it are its own affair."""
    return next((part for part in parts if part.endswith((".service", ".scope"))), "")
