"""What is asked of CIM (WMI): the properties of a class's instances."""

from __future__ import annotations

import importlib
from typing import Protocol, cast


class Cim(Protocol):
    """The CIM repository of this machine."""

    def instances(self, namespace: str, name: str, properties: tuple[str, ...]) -> tuple[dict[str, object], ...]:
        """Return the properties of all instances of a class.

        Raises:
            SystemCallError: CIM does not answer, or knows no such class or property.
        """


def local_cim() -> Cim:
    """Return that of this machine. It is a Windows machine: `registry.local_machine` was asked before."""
    return cast("Cim", importlib.import_module("hotmend.windows.com").LocalCim())
