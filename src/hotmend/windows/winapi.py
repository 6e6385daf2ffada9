"""The registry, services, programs and the boot, as Windows has them. The only file that calls it without COM."""

from __future__ import annotations

import sys

assert sys.platform == "win32"  # noqa: S101 - tells mypy, too; `registry.local_machine` asks first

import contextlib
import ctypes
import os
import struct
import subprocess
import time
import winreg
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pywintypes
import win32security
import win32service

from hotmend.model.errors import PermissionRefusedError, SystemCallError
from hotmend.windows.registry import Kind, Ran, Service, Value, check_key

_ACCESS_DENIED = 5
_NO_SUCH_SERVICE = 1060
_SERVICE_NOT_RUNNING = 1062
_ERA = datetime(1601, 1, 1, tzinfo=UTC)
_TIME_OF_DAY_INFORMATION = 3
_POLL_SECONDS = 0.1
_SHUTDOWN_SECONDS_MAX = 60.0
_SHUTDOWN_IN_PROGRESS = 1190
_PRIVATE = "D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)"
"""Full access, inherited by files and folders, for the system and administrators; none for anybody else."""


class LocalMachine:
    """This machine; what the methods do stands at `registry.Machine`."""

    def values(self, key: str) -> dict[str, Value] | None:
        """See `Registry`."""
        with _opened(key) as handle:
            if handle is None:
                return None
            count = winreg.QueryInfoKey(handle)[1]
            return dict(_value(*winreg.EnumValue(handle, number)) for number in range(count))

    def subkeys(self, key: str) -> tuple[str, ...] | None:
        """See `Registry`."""
        with _opened(key) as handle:
            if handle is None:
                return None
            return tuple(winreg.EnumKey(handle, number) for number in range(winreg.QueryInfoKey(handle)[0]))

    def written_at(self, key: str) -> datetime | None:
        """See `Registry`."""
        with _opened(key) as handle:
            return None if handle is None else _moment(winreg.QueryInfoKey(handle)[2])

    def write(self, key: str, name: str, value: Value) -> None:
        """See `Registry`. RegCreateKeyEx opens a key that exists as it is."""
        with _translated(f"{key}\\{name}"):
            path = check_key(key).partition("\\")[2]
            access = winreg.KEY_SET_VALUE | winreg.KEY_WOW64_64KEY
            with winreg.CreateKeyEx(winreg.HKEY_LOCAL_MACHINE, path, 0, access) as handle:
                winreg.SetValueEx(handle, name, 0, value.kind, _object(value))
                winreg.FlushKey(handle)

    def remove(self, key: str, name: str) -> None:
        """See `Registry`."""
        with _translated(f"{key}\\{name}"), _opened(key, winreg.KEY_SET_VALUE) as handle:
            if handle is None:
                return
            with contextlib.suppress(FileNotFoundError):
                winreg.DeleteValue(handle, name)
            winreg.FlushKey(handle)

    def now(self) -> datetime:
        """See `Machine`."""
        return datetime.now(UTC)

    def booted_at(self) -> datetime:
        """See `Machine`. SYSTEM_TIMEOFDAY_INFORMATION begins with the time of the boot."""
        buffer = ctypes.create_string_buffer(48)
        status = ctypes.windll.ntdll.NtQuerySystemInformation(_TIME_OF_DAY_INFORMATION, buffer, len(buffer), None)
        if status:
            raise SystemCallError(
                "{source}: {why}", source="NtQuerySystemInformation", why=f"status {status & 0xFFFFFFFF:#x}"
            )
        return _moment(struct.unpack_from("<q", buffer.raw)[0])

    def service(self, name: str) -> Service | None:
        """See `Machine`."""
        with _service(name, win32service.SERVICE_QUERY_STATUS) as handle:
            if handle is None:
                return None
            return Service(name, win32service.QueryServiceStatus(handle)[1] != win32service.SERVICE_STOPPED)

    def stop_service(self, name: str, seconds_max: float) -> None:
        """See `Machine`."""
        access = win32service.SERVICE_QUERY_STATUS | win32service.SERVICE_STOP
        with _translated(f"service {name}"), _service(name, access) as handle:
            if handle is None:
                return
            try:
                win32service.ControlService(handle, win32service.SERVICE_CONTROL_STOP)
            except pywintypes.error as error:
                if error.winerror != _SERVICE_NOT_RUNNING:
                    raise
            until = time.monotonic() + seconds_max
            while win32service.QueryServiceStatus(handle)[1] != win32service.SERVICE_STOPPED:
                if time.monotonic() > until:
                    raise SystemCallError(
                        "service {name} did not stop in {seconds} s", name=name, seconds=round(seconds_max)
                    )
                time.sleep(_POLL_SECONDS)

    def run(self, arguments: tuple[str, ...], seconds_max: float) -> Ran:
        """See `Machine`. What consoles write is in the code page of the machine's region or in UTF-16 with its mark."""
        try:
            done = subprocess.run(
                arguments, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds_max, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"{arguments[0]} took longer than {seconds_max:.0f} s") from error
        return Ran(done.returncode, _console_text(done.stdout) + _console_text(done.stderr))

    def reboot(self, seconds: int, why: str) -> None:
        """See `Machine`. The reason is 'operating system: hot fix, planned'."""
        order = ("shutdown.exe", "/r", "/t", str(seconds), "/d", "p:2:17", "/c", why)
        ran = self.run(order, _SHUTDOWN_SECONDS_MAX)
        if ran.code not in {0, _SHUTDOWN_IN_PROGRESS}:
            raise SystemCallError(
                "shutdown: exit code {code} {told}",
                "reboot the machine by hand",
                code=ran.code,
                told=ran.text.strip(),
            )

    def keep_private(self, folder: Path) -> None:
        """See `Machine`. The descriptor is written before anything is in the folder."""
        if not ctypes.windll.shell32.IsUserAnAdmin():
            raise PermissionRefusedError("this is for administrators", "open the console as administrator")
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = win32security.ConvertStringSecurityDescriptorToSecurityDescriptor(
            _PRIVATE, win32security.SDDL_REVISION_1
        )
        information = win32security.DACL_SECURITY_INFORMATION | win32security.PROTECTED_DACL_SECURITY_INFORMATION
        with _translated(str(folder)):
            win32security.SetFileSecurity(str(folder), information, descriptor)

    def folder(self, variable: str) -> str | None:
        """See `Machine`."""
        return os.environ.get(variable)


def _console_text(written: bytes) -> str:
    if written.startswith(b"\xff\xfe"):
        return written.decode("utf-16", "replace")
    try:
        return written.decode("utf-8")
    except UnicodeDecodeError:
        return written.decode("oem", "replace")


@contextlib.contextmanager
def _translated(subject: str) -> Iterator[None]:
    """Turn what Windows raises into an error with a hint."""
    try:
        yield
    except OSError as error:
        if error.winerror == _ACCESS_DENIED:
            raise PermissionRefusedError(
                "{subject}: access denied", "run it as an administrator", subject=subject
            ) from error
        raise SystemCallError("{source}: {why}", source=subject, why=error.strerror) from error
    except pywintypes.error as error:
        if error.winerror == _ACCESS_DENIED:
            raise PermissionRefusedError(
                "{subject}: access denied", "run it as an administrator", subject=subject
            ) from error
        raise SystemCallError("{source}: {why}", source=subject, why=error.strerror) from error


@contextlib.contextmanager
def _opened(key: str, access: int = winreg.KEY_READ) -> Iterator[winreg.HKEYType | None]:
    with _translated(key):
        path = check_key(key).partition("\\")[2]
        try:
            handle = winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, path, 0, access | winreg.KEY_WOW64_64KEY)
        except FileNotFoundError:
            yield None
            return
        with handle:
            yield handle


@contextlib.contextmanager
def _service(name: str, access: int) -> Iterator[Any]:
    with _translated(f"service {name}"):
        manager = win32service.OpenSCManager(None, None, win32service.SC_MANAGER_CONNECT)
        try:
            try:
                handle = win32service.OpenService(manager, name, access)
            except pywintypes.error as error:
                if error.winerror != _NO_SUCH_SERVICE:
                    raise
                yield None
                return
            try:
                yield handle
            finally:
                win32service.CloseServiceHandle(handle)
        finally:
            win32service.CloseServiceHandle(manager)


def _moment(ticks: int) -> datetime:
    """Return a FILETIME, 100 ns since 1601, as a time."""
    return _ERA + timedelta(microseconds=ticks // 10)


def _value(name: str, data: object, kind: int) -> tuple[str, Value]:
    """Return a value from what winreg makes of it."""
    match data:
        case None:
            raw = b""
        case bytes():
            raw = data
        case int():
            raw = data.to_bytes(8 if kind == Kind.QWORD else 4, "little")
        case str():
            raw = f"{data}\0".encode("utf-16-le", "surrogatepass")
        case list():
            raw = "".join(f"{text}\0" for text in [*data, ""]).encode("utf-16-le", "surrogatepass")
        case _:
            raise SystemCallError(
                "{source}: {why}", source=name, why=f"type {kind}, which winreg reads as {type(data).__name__}"
            )
    return name, Value(kind, raw)


def _object(value: Value) -> int | str | list[str] | bytes:
    """Return what winreg takes for a value."""
    for found in (value.number, value.string):
        if found is not None:
            return found
    return list(value.strings) if value.strings is not None else value.data
