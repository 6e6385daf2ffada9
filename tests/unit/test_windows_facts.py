"""What facts are made of what a machine answers: firmware names, instance metadata, previews, histories."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotmend.model.errors import SystemCallError
from hotmend.servicing.facts import Image
from hotmend.windows import facts_system
from hotmend.windows.cim import Cim
from hotmend.windows.facts_updates import quick_fixes, states
from hotmend.windows.network import instance, reached
from hotmend.windows.notes import Notes
from hotmend.windows.prepare import VERSION_KEY
from hotmend.windows.registry import Machine, Value
from hotmend.windows.updates import Entry, Result


class Keys:
    """A registry that holds texts and numbers."""

    def __init__(self, keys: dict[str, dict[str, str | int]]) -> None:
        self._keys = keys

    def values(self, key: str) -> dict[str, Value] | None:
        found = self._keys.get(key)
        if found is None:
            return None
        return {name: Value.dword(v) if isinstance(v, int) else Value.text(v) for name, v in found.items()}


class Rows:
    """A CIM repository."""

    def __init__(self, rows: list[dict[str, object]] | None) -> None:
        self._rows = rows

    def instances(self, namespace: str, name: str, properties: tuple[str, ...]) -> tuple[dict[str, object], ...]:
        if self._rows is None:
            raise SystemCallError("CIM does not answer")
        return tuple(self._rows)


def _machine(keys: dict[str, dict[str, str | int]]) -> Machine:
    return cast("Machine", Keys(keys))


def _cim(rows: list[dict[str, object]] | None) -> Cim:
    return cast("Cim", Rows(rows))


_AZURE = "7783-7084-3265-9085-8269-3286-77"


@pytest.mark.parametrize(
    ("maker", "model", "tag", "edition", "where"),
    [
        ("VMware, Inc.", "VMware20,1", "", "ServerStandard", "vmware"),
        ("Microsoft Corporation", "Virtual Machine", _AZURE, "ServerTurbine", "azure"),
        ("Microsoft Corporation", "Virtual Machine", "No Asset Tag", "ServerDatacenter", "hyper-v"),
        (
            "Microsoft Corporation",
            "Virtual Machine",
            "No Asset Tag",
            "ServerTurbine",
            None,
        ),  # Azure Local looks so, too
        ("Amazon EC2", "m7i.large", "", "ServerDatacenter", "other-cloud"),
        ("QEMU", "Standard PC (Q35 + ICH9, 2009)", "", "ServerDatacenter", "other"),
        ("Dell Inc.", "PowerEdge R660", "", "ServerDatacenter", "physical"),
        ("HPE", "ProLiant DL380 Gen11", "", "ServerDatacenter", "physical"),
        ("To Be Filled", "By O.E.M.", "", "ServerDatacenter", None),
        ("", "", "", "ServerDatacenter", None),
    ],
)
def test_where_a_machine_runs_is_what_its_firmware_says_and_else_unknown(
    maker: str, model: str, tag: str, edition: str, where: str | None
) -> None:
    machine = _machine(
        {
            facts_system.BIOS_KEY: {"SystemManufacturer": maker, "SystemProductName": model},
            VERSION_KEY: {"EditionID": edition},
        }
    )
    notes = Notes()
    assert facts_system.environment(machine, _cim([{"SMBIOSAssetTag": tag}]), notes) == where
    assert ("environment" in notes.unread) == (where is None)
    if maker.startswith("Microsoft"):
        assert facts_system.environment(machine, _cim(None), Notes()) is None  # the tag could not be read


@pytest.mark.parametrize(
    ("branch", "insider", "preview"),
    [
        ("ge_release", None, False),
        ("ge_release_svc_prod1", 0, False),
        ("ge_release", 1, True),
        ("rs_prerelease", None, True),
        ("something", None, None),
        ("", None, None),
    ],
)
def test_a_preview_is_told_by_branch_and_enrollment(branch: str, insider: int | None, preview: bool | None) -> None:
    keys: dict[str, dict[str, str | int]] = {VERSION_KEY: {"BuildBranch": branch}}
    if insider is not None:
        keys[facts_system.INSIDER_KEY] = {"EnablePreviewBuilds": insider}
    assert facts_system.version(_machine(keys), Notes())["preview"] is preview


@contextmanager
def _metadata(status: int, body: bytes) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            good = self.headers.get("Metadata") == "true" and self.path.startswith("/metadata/instance/compute?")
            self.send_response(status if good else 400)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def _compute(**reference: str) -> dict[str, Any]:
    return {"location": "uksouth", "vmScaleSetName": "", "storageProfile": {"imageReference": reference}}


@pytest.mark.parametrize(
    ("reference", "image"),
    [
        (
            {"id": "", "publisher": "MicrosoftWindowsServer", "offer": "WindowsServer", "sku": "2025-Datacenter"},
            Image("marketplace", "MicrosoftWindowsServer", "WindowsServer", "2025-Datacenter"),
        ),
        ({"id": "/subscriptions/a/images/b", "publisher": ""}, Image("custom")),
        ({}, Image()),
    ],
)
def test_what_azure_says_of_its_machine(reference: dict[str, str], image: Image) -> None:
    with _metadata(200, json.dumps(_compute(**reference)).encode()) as base:
        found = instance(base, 20)
    notes = Notes()
    assert facts_system.image("azure", found, notes) == (image, "uksouth")
    assert facts_system.scale_set("azure", found, notes) == "none"
    assert facts_system.scale_set("azure", {**found, "vmScaleSetName": "set"}, notes) is None


@pytest.mark.parametrize(("status", "body"), [(500, b"{}"), (200, b"<html>"), (200, b"[]"), (200, b"")])
def test_a_metadata_service_that_answers_nonsense_is_none(status: int, body: bytes) -> None:
    with _metadata(status, body) as base, pytest.raises(OSError, match="metadata"):
        instance(base, 20)


def test_outside_a_cloud_there_are_no_images_and_unknown_ones_stay_unknown() -> None:
    for where in ("physical", "vmware", "hyper-v"):
        assert facts_system.image(where, None, Notes())[0].kind == "own-installation"
    assert facts_system.image("container", None, Notes())[0].kind == "container-base"
    for unclear in (None, "other-cloud", "azure"):
        notes = Notes()
        assert facts_system.image(unclear, None, notes)[0].kind is None
        assert "windows.image.kind" in notes.unread


def test_a_name_that_nobody_has_is_not_reached() -> None:
    assert not reached("name.invalid", 5)


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("10/15/2025", datetime(2025, 10, 15, tzinfo=UTC)),
        ("3/4/2025", datetime(2025, 4, 3, tzinfo=UTC)),  # which is month and which is day? the later one is safe
        ("13/13/2025", None),
        ("01dc3d4e5f607182", None),
        ("None", None),
    ],
)
def test_a_day_that_could_be_two_is_the_later_one(text: str, day: datetime | None) -> None:
    assert quick_fixes(_cim([{"HotFixID": "KB5066835", "InstalledOn": text}])) == {"KB5066835": day}
    assert quick_fixes(_cim([{"HotFixID": "File 1", "InstalledOn": text}])) == {}


_T0 = datetime(2025, 10, 1, tzinfo=UTC)
_entries = st.lists(
    st.builds(
        lambda minute, operation, result, kb: Entry(
            _T0 + timedelta(minutes=minute), f"T ({kb})", operation, result, 0, (kb,)
        ),
        st.integers(0, 50),
        st.sampled_from(["install", "uninstall", "unknown"]),
        st.sampled_from(list(Result)),
        st.sampled_from(["KB1000001", "KB1000002"]),
    ),
    max_size=12,
    unique_by=lambda entry: entry.at,
)


@settings(deadline=None)
@given(_entries, st.sets(st.sampled_from(["KB1000001", "KB1000003"])))
def test_an_update_is_installed_only_if_something_says_so(entries: list[Entry], there: set[str]) -> None:
    found = {update.kb: update for update in states(entries, dict.fromkeys(there), frozenset())}
    for kb, update in found.items():
        done = [entry for entry in sorted(entries, key=lambda e: e.at) if kb in entry.kbs and entry.result.succeeded]
        said = kb in there or (bool(done) and done[-1].operation != "uninstall")
        assert (update.state == "installed") == said
    assert there <= found.keys()
    waiting = [u.kb for u in states(entries, {}, frozenset({"KB1000001"})) if u.state == "pending-reboot"]
    installed = [u.kb for u in states(entries, {}, frozenset()) if u.kb == "KB1000001" and u.state == "installed"]
    assert waiting == installed
