"""One Windows for all tests of this folder; each test begins with its registry as it was first."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.running import Running, running
from tests.windows.server import DEFINITIONS, AgentServer, entry, update
from tests.windows.wine import Wine


@pytest.fixture(scope="session")
def prefix() -> Iterator[Wine]:
    with tempfile.TemporaryDirectory(prefix="hotmend-wine-", ignore_cleanup_errors=True) as folder:
        made = Wine(Path(folder))
        yield made
        made.down()


@pytest.fixture
def wine(prefix: Wine) -> Iterator[Wine]:
    prefix.reset()
    prefix.up()
    yield prefix
    prefix.down()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Running]:
    """A server of its own for a test."""
    with running(f"sqlite:///{tmp_path / 'server.db'}") as made:
        made.set_up()
        yield made


_VERSION = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion"
_CONTROL = r"SYSTEM\CurrentControlSet\Control"
GUARD = r"root\Microsoft\Windows\DeviceGuard:Win32_DeviceGuard"


@pytest.fixture
def october(wine: Wine, tmp_path: Path) -> AgentServer:
    """Return the server of `october_server`."""
    return october_server(wine, tmp_path)


def october_server(wine: Wine, folder: Path) -> AgentServer:
    """Return a Windows Server 2025 of 20 October 2025, on the line with KB5066835, as its parts would answer."""
    made = AgentServer(wine, folder / "state", folder / "agent.json")
    made.set(
        {
            _VERSION: {
                "EditionID": "ServerDatacenter",
                "ProductName": "Windows Server 2025 Datacenter",
                "InstallationType": "Server",
                "CurrentBuildNumber": "26100",
                "UBR": 6899,
                "DisplayVersion": "24H2",
                "BuildBranch": "ge_release",
            },
            _CONTROL: {"PEFirmwareType": 2},
            rf"{_CONTROL}\SecureBoot\State": {"UEFISecureBootEnabled": 1},
            r"HARDWARE\DESCRIPTION\System\BIOS": {
                "SystemManufacturer": "VMware, Inc.",
                "SystemProductName": "VMware20,1",
            },
        }
    )
    made.change(
        updates=[
            update("KB5066835", installed=True, downloaded=True, eula=True),
            update("KB5070893", "2025-10 Security Update for WSUS (KB5070893)"),
            update("KB2267602", "Security Intelligence Update (KB2267602)", reboots=0, category=DEFINITIONS),
        ],
        history=[
            entry("KB5066835", "2025-10-15"),
            entry("KB5065474", "2025-09-10", title="2025-09 Hotpatch (KB5065474)"),
            entry("KB5064010", "2025-08-13", title="2025-08 Hotpatch (KB5064010)"),
            entry("KB5062553", "2025-07-09"),
            entry("KB5000001", "2025-07-01", result=4, code=0x80070070),
        ],
        reboot_required=False,
        boot_first=False,
        busy=False,
        cim={
            GUARD: [{"VirtualizationBasedSecurityStatus": 2, "SecurityServicesConfigured": [1, 2]}],
            r"root\cimv2:Win32_QuickFixEngineering": [{"HotFixID": "KB5066835", "InstalledOn": "10/15/2025"}],
        },
    )
    return made
