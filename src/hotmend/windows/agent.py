"""What is asked of the Windows Update Agent, and how this machine's own is reached."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Final, Protocol, cast

from hotmend.windows.updates import Entry, Found, Search, Work

OFFERED: Final = "IsInstalled=0 and IsHidden=0"
ABSENT: Final = "IsInstalled=0"
INSTALLED: Final = "IsInstalled=1"
PENDING: Final = "RebootRequired=1"
"""Criteria of a search, in the agent's own language."""


class UpdateAgent(Protocol):
    """The update client of a machine. It looks where the machine's policy sends it: WSUS, or Microsoft.

    Raises (all methods):
        PermissionRefusedError: this user may not.
        SystemCallError: the agent answers with an error; the message has its code.
    """

    def search(self, criteria: str, *, superseded: bool = False) -> Search:
        """Return the updates that fit; with `superseded` also those that a newer one replaces. Takes minutes."""

    def history(self) -> tuple[Entry, ...]:
        """Return the whole history, newest first."""

    def install(self, updates: Sequence[Found]) -> Work:
        """Accept the terms of updates that this object's search has found, download and install them."""

    def uninstall(self, updates: Sequence[Found]) -> Work:
        """Take away updates that this object's search has found."""

    def hide(self, update: Found, *, hidden: bool) -> None:
        """See that an update is not offered any more, or again."""

    def busy(self) -> bool:
        """Return whether an installation is going on."""

    def boot_comes_first(self) -> bool:
        """Return whether nothing can be installed before the next boot."""

    def reboot_required(self) -> bool:
        """Return whether something that was installed waits for a boot."""


def local_agent() -> UpdateAgent:
    """Return that of this machine. It is a Windows machine: `registry.local_machine` was asked before."""
    return cast("UpdateAgent", importlib.import_module("hotmend.windows.wua").LocalAgent())
