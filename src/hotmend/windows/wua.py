"""The Windows Update Agent of this machine, through its COM interface, late bound (`com.dispatch`)."""

from __future__ import annotations

import sys

assert sys.platform == "win32"  # noqa: S101 - tells mypy, too; `registry.local_machine` asks first

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from hotmend.model.errors import SystemCallError
from hotmend.windows.com import com_errors, dispatch
from hotmend.windows.updates import (
    CLASSIFICATIONS,
    Became,
    Entry,
    Found,
    Reboots,
    Result,
    Search,
    Work,
    kbs_of,
)

CLIENT = "hotmend"
_HISTORY_PAGE = 200
_UPDATES_MAX = 5000
_OPERATIONS = {1: "install", 2: "uninstall"}


class LocalAgent:
    """This machine's; what the methods do stands at `agent.UpdateAgent`."""

    def __init__(self) -> None:
        with com_errors("update agent"):
            self._session = dispatch("Microsoft.Update.Session")
            self._session.ClientApplicationID = CLIENT
        self._objects: dict[str, Any] = {}

    def search(self, criteria: str, *, superseded: bool = False) -> Search:
        """See `UpdateAgent`."""
        with _named("search"):
            searcher = self._session.CreateUpdateSearcher()
            if superseded:
                searcher.IncludePotentiallySupersededUpdates = True
            found = searcher.Search(criteria)
            result = Result.of(found.ResultCode)
            if not result.succeeded:
                raise SystemCallError(
                    "update agent: the search ended as {result}", "try again; see the agent's log", result=str(result)
                )
            updates = [self._keep(update) for update in _items(found.Updates)]
            warnings = tuple(str(warning.Message) for warning in _items(found.Warnings))
        if result is not Result.SUCCEEDED and not warnings:
            warnings = (f"the search ended as {result}",)
        return Search(tuple(updates), warnings)

    def history(self) -> tuple[Entry, ...]:
        """See `UpdateAgent`."""
        entries: list[Entry] = []
        with _named("history"):
            searcher = self._session.CreateUpdateSearcher()
            total = min(searcher.GetTotalHistoryCount(), _UPDATES_MAX)
            while len(entries) < total:
                page = searcher.QueryHistory(len(entries), min(_HISTORY_PAGE, total - len(entries)))
                found = [_entry(each) for each in _items(page)]
                if not found:
                    break
                entries += found
        return tuple(entries)

    def install(self, updates: Sequence[Found]) -> Work:
        """See `UpdateAgent`. What could not be downloaded is not installed, and nothing else either."""
        objects = self._wanted(updates)
        with _named("install"):
            for each in objects:
                if not each.EulaAccepted:
                    each.AcceptEula()
            missing = [(update, each) for update, each in zip(updates, objects, strict=True) if not each.IsDownloaded]
            if missing:
                downloader = self._session.CreateUpdateDownloader()
                downloader.Updates = _collection([each for _, each in missing])
                done = downloader.Download()
                if Result.of(done.ResultCode) is not Result.SUCCEEDED:
                    return _not_downloaded(done, updates, [update for update, _ in missing])
            return _work(self._installer(objects).Install(), updates)

    def uninstall(self, updates: Sequence[Found]) -> Work:
        """See `UpdateAgent`."""
        objects = self._wanted(updates)
        with _named("uninstall"):
            return _work(self._installer(objects).Uninstall(), updates)

    def hide(self, update: Found, *, hidden: bool) -> None:
        """See `UpdateAgent`."""
        with _named("hide"):
            self._wanted([update])[0].IsHidden = hidden

    def busy(self) -> bool:
        """See `UpdateAgent`."""
        with _named("installer"):
            return bool(self._session.CreateUpdateInstaller().IsBusy)

    def boot_comes_first(self) -> bool:
        """See `UpdateAgent`."""
        with _named("installer"):
            return bool(self._session.CreateUpdateInstaller().RebootRequiredBeforeInstallation)

    def reboot_required(self) -> bool:
        """See `UpdateAgent`."""
        with _named("system information"):
            return bool(dispatch("Microsoft.Update.SystemInfo").RebootRequired)

    def _installer(self, objects: Sequence[Any]) -> Any:
        installer = self._session.CreateUpdateInstaller()
        installer.Updates = _collection(objects)
        installer.AllowSourcePrompts = False
        return installer

    def _keep(self, update: Any) -> Found:
        found = _found(update)
        self._objects[found.identity] = update
        return found

    def _wanted(self, updates: Sequence[Found]) -> list[Any]:
        try:
            return [self._objects[update.identity] for update in updates]
        except KeyError as error:
            raise SystemCallError(
                "update agent: {name} was not found by a search of this session", name=str(error)
            ) from error


def _named(subject: str) -> contextlib.AbstractContextManager[None]:
    return com_errors(f"update agent: {subject}")


def _items(collection: Any) -> list[Any]:
    """Return what a collection of the agent holds; absent ones are empty."""
    if collection is None:
        return []
    return [collection.Item(number) for number in range(collection.Count)]


def _collection(objects: Sequence[Any]) -> Any:
    made = dispatch("Microsoft.Update.UpdateColl")
    for each in objects:
        made.Add(each)
    return made


def _found(update: Any) -> Found:
    identity, behaviour = update.Identity, update.InstallationBehavior
    categories = [str(each.CategoryID).strip("{}").lower() for each in _items(update.Categories)]
    reboots = behaviour.RebootBehavior if behaviour is not None else None
    return Found(
        identity=f"{identity.UpdateID}.{identity.RevisionNumber}",
        kbs=tuple(f"KB{number}" for number in _items(update.KBArticleIDs)),
        title=str(update.Title),
        classification=next((CLASSIFICATIONS[each] for each in categories if each in CLASSIFICATIONS), None),
        severity=str(update.MsrcSeverity or ""),
        reboots=Reboots(reboots) if reboots in set(Reboots) else None,
        downloaded=bool(update.IsDownloaded),
        uninstallable=bool(update.IsUninstallable),
        hidden=bool(update.IsHidden),
        reboot_pending=bool(update.RebootRequired),
    )


def _entry(entry: Any) -> Entry:
    at = entry.Date
    title = str(entry.Title or "")
    return Entry(
        at=datetime(at.year, at.month, at.day, at.hour, at.minute, at.second, tzinfo=UTC),  # the agent gives UTC
        title=title,
        operation=_OPERATIONS.get(entry.Operation, "unknown"),
        result=Result.of(entry.ResultCode),
        code=entry.HResult & 0xFFFFFFFF,
        kbs=kbs_of([title]),
        client=str(entry.ClientApplicationID or ""),
    )


def _work(done: Any, updates: Sequence[Found]) -> Work:
    """Return what became of updates that were all worked on, in this order."""
    each = []
    for number, update in enumerate(updates):
        own = done.GetUpdateResult(number)
        each.append(Became(update, Result.of(own.ResultCode), own.HResult & 0xFFFFFFFF, bool(own.RebootRequired)))
    return Work(Result.of(done.ResultCode), done.HResult & 0xFFFFFFFF, bool(done.RebootRequired), tuple(each))


def _not_downloaded(done: Any, updates: Sequence[Found], missing: Sequence[Found]) -> Work:
    """Return what became of updates of which some did not arrive: what did is not installed either."""
    failed = {}
    for number, update in enumerate(missing):
        own = done.GetUpdateResult(number)
        result = Result.of(own.ResultCode)
        if result is not Result.SUCCEEDED:
            failed[update.identity] = Became(update, result, own.HResult & 0xFFFFFFFF, False)
    each = tuple(failed.get(update.identity, Became(update, Result.NOT_STARTED, 0, False)) for update in updates)
    return Work(Result.FAILED, done.HResult & 0xFFFFFFFF, False, each)
