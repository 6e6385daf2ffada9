"""Objects with the documented properties of the Windows Update Agent and of CIM, as COM servers under Wine.

Runs on Windows Python alone. `register` puts them where Microsoft's own names point, so that what is tested asks for
`Microsoft.Update.Session` through COM and knows nothing of this file. State is one JSON file, named by the environment
variable `HOTMEND_TEST_AGENT`: it outlives processes and boots, and a test writes and reads it.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"  # tells mypy, too

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pythoncom
from win32com.server.exception import COMException
from win32com.server.util import NewCollection, unwrap, wrap

_CLASSES = {
    "Microsoft.Update.Session": ("{6F1B6D5C-9E51-4B0E-9B0E-3C1E3E2F0A01}", "Session"),
    "Microsoft.Update.UpdateColl": ("{6F1B6D5C-9E51-4B0E-9B0E-3C1E3E2F0A02}", "Collection"),
    "Microsoft.Update.SystemInfo": ("{6F1B6D5C-9E51-4B0E-9B0E-3C1E3E2F0A03}", "SystemInfo"),
    "WbemScripting.SWbemLocator": ("{6F1B6D5C-9E51-4B0E-9B0E-3C1E3E2F0A04}", "Locator"),
}
_SUCCEEDED, _WITH_ERRORS, _FAILED = 2, 3, 4


def register() -> None:
    """Let Microsoft's names lead here."""
    import winreg

    for name, (clsid, cls) in _CLASSES.items():
        for key, value, text in (
            (rf"{name}\CLSID", "", clsid),
            (rf"CLSID\{clsid}\InprocServer32", "", pythoncom.__file__),
            (rf"CLSID\{clsid}\InprocServer32", "ThreadingModel", "both"),
            (rf"CLSID\{clsid}\PythonCOM", "", f"tests.windows.emulated.{cls}"),
        ):
            with winreg.CreateKey(winreg.HKEY_CLASSES_ROOT, key) as handle:
                winreg.SetValueEx(handle, value, 0, winreg.REG_SZ, text)


class State:
    """What the machine's agent knows."""

    def __init__(self) -> None:
        self._path = Path(os.environ["HOTMEND_TEST_AGENT"])
        self.data: dict[str, Any] = json.loads(self._path.read_text())

    def save(self) -> None:
        self._path.write_text(json.dumps(self.data))

    def log(self, update: dict[str, Any], operation: int, result: int, code: int, client: str) -> None:
        entry = {"at": datetime.now(UTC).isoformat(), "title": update["title"], "client": client}
        self.data["history"].insert(0, {**entry, "operation": operation, "result": result, "code": code})


class Shown:
    """An object with the attributes that it is given, which can be read."""

    _public_methods_ = ()

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)
        self._public_attrs_ = list(attributes)
        self._readonly_attrs_ = list(attributes)


def shown(**attributes: Any) -> Any:
    return wrap(Shown(**attributes))


class Collection:
    """`IUpdateCollection`, and every other collection of the agent."""

    _public_methods_ = ("Item", "Add")
    _public_attrs_ = ("Count",)

    def __init__(self, items: list[Any] | None = None) -> None:
        self.items = items or []

    @property
    def Count(self) -> int:
        return len(self.items)

    def Item(self, index: int) -> Any:
        return self.items[index]

    def Add(self, item: Any) -> int:
        self.items.append(item)
        return len(self.items) - 1


def _fail(code: int) -> None:
    raise COMException("the emulated agent was told to fail", code - (1 << 32))


class Session:
    """`IUpdateSession`."""

    _public_methods_ = ("CreateUpdateSearcher", "CreateUpdateDownloader", "CreateUpdateInstaller")
    _public_attrs_ = ("ClientApplicationID",)
    ClientApplicationID = ""

    def CreateUpdateSearcher(self) -> Any:
        return wrap(Searcher())

    def CreateUpdateDownloader(self) -> Any:
        return wrap(Downloader())

    def CreateUpdateInstaller(self) -> Any:
        return wrap(Installer(self.ClientApplicationID))


class SystemInfo:
    """`ISystemInformation`."""

    _public_methods_ = ()
    _public_attrs_ = ("RebootRequired",)

    @property
    def RebootRequired(self) -> bool:
        return bool(State().data["reboot_required"])


class Update:
    """`IUpdate2`."""

    _public_methods_ = ("AcceptEula",)
    _readonly_attrs_ = (
        *("Identity", "InstallationBehavior", "Categories", "KBArticleIDs", "Title", "MsrcSeverity", "IsDownloaded"),
        *("IsInstalled", "IsUninstallable", "RebootRequired", "EulaAccepted"),
    )
    _public_attrs_ = (*_readonly_attrs_, "IsHidden")

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data
        self.Identity = shown(UpdateID=data["id"], RevisionNumber=1)
        self.InstallationBehavior = shown(RebootBehavior=data["reboots"]) if data["reboots"] is not None else None
        category = shown(CategoryID=data["category"], Name="in the machine's language", Type="UpdateClassification")
        product = shown(CategoryID="11111111-2222-3333-4444-555555555555", Name="Windows", Type="Product")
        self.Categories = wrap(Collection([product, category]))
        self.KBArticleIDs = wrap(Collection([kb.removeprefix("KB") for kb in data["kbs"]]))
        self.Title = data["title"]
        self.MsrcSeverity = data.get("severity", "")
        self.IsDownloaded, self.IsInstalled = data["downloaded"], data["installed"]
        self.IsUninstallable, self.RebootRequired = data["uninstallable"], data["pending"]
        self.EulaAccepted = data["eula"]

    @property
    def IsHidden(self) -> bool:
        return bool(self.data["hidden"])

    @IsHidden.setter
    def IsHidden(self, hidden: bool) -> None:
        self._store(hidden=hidden)

    def AcceptEula(self) -> None:
        self._store(eula=True)

    def _store(self, **changes: Any) -> None:
        state = State()
        next(each for each in state.data["updates"] if each["id"] == self.data["id"]).update(changes)
        self.data.update(changes)
        state.save()


class Searcher:
    """`IUpdateSearcher3`. Criteria are the four that hotmend uses; anything else is an error, as it is there."""

    _public_methods_ = ("Search", "GetTotalHistoryCount", "QueryHistory")
    _public_attrs_ = ("IncludePotentiallySupersededUpdates",)
    IncludePotentiallySupersededUpdates = False

    def Search(self, criteria: str) -> Any:
        data = State().data
        if data.get("search_code"):
            _fail(data["search_code"])
        tests = {
            "IsInstalled=0 and IsHidden=0": lambda each: not each["installed"] and not each["hidden"],
            "IsInstalled=0": lambda each: not each["installed"],
            "IsInstalled=1": lambda each: each["installed"],
            "RebootRequired=1": lambda each: each["pending"],
        }
        if criteria not in tests:
            _fail(0x80240032)  # WU_E_INVALID_CRITERIA
        found = [
            wrap(Update(each))
            for each in data["updates"]
            if tests[criteria](each) and (self.IncludePotentiallySupersededUpdates or not each.get("superseded"))
        ]
        warnings = [shown(Message=text) for text in data.get("search_warnings", [])]
        result = _WITH_ERRORS if warnings else _SUCCEEDED
        return shown(ResultCode=result, Updates=wrap(Collection(found)), Warnings=wrap(Collection(warnings)))

    def GetTotalHistoryCount(self) -> int:
        return len(State().data["history"])

    def QueryHistory(self, start: int, count: int) -> Any:
        return wrap(Collection([_entry(each) for each in State().data["history"][start : start + count]]))


def _entry(each: dict[str, Any]) -> Any:
    return shown(
        Date=datetime.fromisoformat(each["at"]),
        Title=each["title"],
        Operation=each["operation"],
        ResultCode=each["result"],
        HResult=_signed(each["code"]),
        ClientApplicationID=each.get("client", ""),
    )


def _signed(code: int) -> int:
    return code - (1 << 32) if code >= 1 << 31 else code


class Outcome:
    """`IDownloadResult` and `IInstallationResult`."""

    _public_methods_ = ("GetUpdateResult",)
    _public_attrs_ = ("ResultCode", "HResult", "RebootRequired")

    def __init__(self, results: list[tuple[int, int, bool]], *, downloading: bool = False) -> None:
        codes = {result for result, _, _ in results}
        self.ResultCode = codes.pop() if len(codes) == 1 else _WITH_ERRORS
        self.HResult = 0 if self.ResultCode != _FAILED else _signed(0x80240022)
        self.RebootRequired = any(reboot for _, _, reboot in results)
        self._results, self._downloading = results, downloading

    def GetUpdateResult(self, index: int) -> Any:
        result, code, reboot = self._results[index]
        if self._downloading:
            return shown(ResultCode=result, HResult=_signed(code))
        return shown(ResultCode=result, HResult=_signed(code), RebootRequired=reboot)


class Downloader:
    """`IUpdateDownloader`."""

    _public_methods_ = ("Download",)
    _public_attrs_ = ("Updates",)
    Updates: Any = None

    def Download(self) -> Any:
        state, results = State(), []
        for each in _chosen(self.Updates, state):
            code = each.get("download_code", 0)
            each["downloaded"] = not code
            results.append((_FAILED if code else _SUCCEEDED, code, False))
        state.save()
        return wrap(Outcome(results, downloading=True))


class Installer:
    """`IUpdateInstaller2`."""

    _public_methods_ = ("Install", "Uninstall")
    _public_attrs_ = ("Updates", "AllowSourcePrompts", "IsBusy", "RebootRequiredBeforeInstallation")
    AllowSourcePrompts = True
    Updates: Any = None

    def __init__(self, client: str) -> None:
        self._client = client
        data = State().data
        self.IsBusy, self.RebootRequiredBeforeInstallation = data["busy"], data["boot_first"]

    def Install(self) -> Any:
        return self._work(1, "install_code", installed=True)

    def Uninstall(self) -> Any:
        return self._work(2, "uninstall_code", installed=False)

    def _work(self, operation: int, key: str, *, installed: bool) -> Any:
        state, results = State(), []
        for each in _chosen(self.Updates, state):
            code = each.get(key, 0)
            if not code and operation == 2 and not each["uninstallable"]:
                code = 0x80240028
            if not code and operation == 1 and not (each["downloaded"] and each["eula"]):
                code = 0x80240023
            if os.environ.get("HOTMEND_TEST_DIE") == each["kbs"][0]:
                os._exit(9)
            reboot = not code and each["reboots"] != 0
            if not code:
                each["installed"], each["pending"] = installed, reboot
                state.data["reboot_required"] |= reboot
                state.data["boot_first"] |= reboot and bool(each.get("blocks_until_boot"))
            result = _FAILED if code else _SUCCEEDED
            state.log(each, operation, result, code, self._client)
            results.append((result, code, reboot))
        state.save()
        return wrap(Outcome(results))


def _chosen(updates: Any, state: State) -> list[dict[str, Any]]:
    """Return the stored updates that a collection holds, which comes back as a COM object."""
    ids = [unwrap(item).data["id"] for item in unwrap(updates).items]
    return [next(each for each in state.data["updates"] if each["id"] == one) for one in ids]


class Locator:
    """`SWbemLocator`."""

    _public_methods_ = ("ConnectServer",)

    def ConnectServer(self, server: str, namespace: str) -> Any:
        return wrap(Services(namespace))


class Services:
    """`SWbemServices`."""

    _public_methods_ = ("InstancesOf",)

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    def InstancesOf(self, name: str) -> Any:
        rows = State().data["cim"].get(f"{self._namespace}:{name}")
        if rows is None:
            _fail(0x80041010)  # WBEM_E_INVALID_CLASS
        return NewCollection([shown(**row) for row in rows or []])
