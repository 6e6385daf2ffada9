"""COM: the only file that calls it. CIM through its scripting interface, late bound."""

from __future__ import annotations

import sys

assert sys.platform == "win32"  # noqa: S101 - tells mypy, too; `registry.local_machine` asks first

import contextlib
from collections.abc import Iterator
from typing import Any

import pythoncom
import win32com.client.dynamic

from hotmend.model.errors import PermissionRefusedError, SystemCallError
from hotmend.windows.updates import code_text

_ACCESS_DENIED = 0x80070005


class LocalCim:
    """CIM of this machine."""

    def instances(self, namespace: str, name: str, properties: tuple[str, ...]) -> tuple[dict[str, object], ...]:
        """See `cim.Cim`."""
        with com_errors(f"CIM class {name}"):
            services = dispatch("WbemScripting.SWbemLocator").ConnectServer(".", namespace)
            found = services.InstancesOf(name)
            return tuple({wanted: getattr(item, wanted) for wanted in properties} for item in found)


def dispatch(name: str) -> Any:
    """Return a new object of a class, late bound: no type library is read and no code is generated."""
    with com_errors(name):
        return win32com.client.dynamic.Dispatch(name)


@contextlib.contextmanager
def com_errors(subject: str) -> Iterator[None]:
    """Turn what COM raises into an error that names its code."""
    try:
        yield
    except pythoncom.com_error as error:
        code, text, details = (*error.args, None, None, None)[:3]
        if details:  # what the object itself says: source, text, help file, context, its own code
            code, text = details[5] or code, details[2] or text
        number = int(code or 0) & 0xFFFFFFFF
        said = f"{code_text(number)} {text or ''}".strip()
        if number == _ACCESS_DENIED:
            raise PermissionRefusedError(
                "{source}: {why}", "run it as an administrator", source=subject, why=said
            ) from error
        raise SystemCallError("{source}: {why}", source=subject, why=said) from error
    except AttributeError as error:
        raise SystemCallError("{source}: has no {name}", source=subject, name=str(error)) from error
