"""The remedies on Windows Python, with a registry, services and boots that are Wine's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotmend.windows.regfile import decode_reg
from tests.windows.server import Server
from tests.windows.wine import Wine, windows_path

pytestmark = pytest.mark.wine

OVERRIDES = r"SYSTEM\CurrentControlSet\Policies\Microsoft\FeatureManagement\Overrides"
SUBSCRIPTIONS = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion\Subscriptions"
VERSION = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion"
DEVICE_GUARD = r"SYSTEM\CurrentControlSet\Control\DeviceGuard"
SECURE_BOOT = r"SYSTEM\CurrentControlSet\Control\SecureBoot\State"
POLICY = r"SOFTWARE\Policies\Microsoft\Windows\WindowsUpdate"
MUTEX = "DeviceLicensingServiceCommandMutex"
OVERRIDE = "4264695439"


@pytest.fixture
def server(wine: Wine, tmp_path: Path) -> Server:
    made = Server(wine, tmp_path / "state")
    made.set(
        {
            VERSION: {"EditionID": "ServerDatacenter"},
            SUBSCRIPTIONS: {MUTEX: "held", "other": 5},
            OVERRIDES: {"1234": 7},
            SECURE_BOOT: {"UEFISecureBootEnabled": 1},
        }
    )
    return made


def test_option_2_is_done_only_after_a_boot_that_is_later_than_the_change(server: Server) -> None:
    assert "RUNNING" in server.begin_service()

    code, said = server.do("apply", "licence-bug-option-2")
    assert (code, said["standing"], said["changed"]) == (0, "awaiting-reboot", 3)
    assert "STOPPED" in server.service("query")
    assert server.get(OVERRIDES) == {"1234": 7, OVERRIDE: 1}
    assert server.get(SUBSCRIPTIONS) == {"other": 5}

    assert [server.do(verb, "licence-bug-option-2")[0] for verb in ("apply", "verify")] == [3, 1]
    record = (server.state / f"{said['action']}.json").read_bytes()
    server.wine.reboot()
    code, said = server.do("verify", "licence-bug-option-2")
    assert (code, said["standing"]) == (0, "done")
    assert (server.state / f"{said['action']}.json").read_bytes() == record  # verify changes nothing


def test_what_was_there_is_exported_first_and_undo_brings_it_back(server: Server) -> None:
    _, said = server.do("apply", "licence-bug-option-2")
    exported = [decode_reg(next(server.state.glob(f"*.{number}.reg")).read_bytes()) for number in (1, 2)]
    assert [{n: v.shown() for n, v in keys.popitem()[1].items() if v} for keys in exported] == [
        {"1234": "7"},
        {MUTEX: "held", "other": "5"},
    ]
    assert len(said["exports"]) == 2

    server.set({OVERRIDES: {"new-sibling": 9}})
    code, said = server.do("undo", "licence-bug-option-2")
    assert (code, said["changed"]) == (0, 2)
    assert server.get(OVERRIDES) == {"1234": 7, "new-sibling": 9}
    assert server.get(SUBSCRIPTIONS) == {MUTEX: "held", "other": 5}
    assert server.do("undo", "licence-bug-option-2")[0] == 3


def test_an_export_is_what_windows_own_tool_takes(server: Server) -> None:
    server.do("apply", "licence-bug-option-2")
    server.set({SUBSCRIPTIONS: {"other": 6}})
    export = next(server.state.glob("*.2.reg"))
    assert server.wine.run("reg.exe", "import", windows_path(export)).returncode == 0
    assert server.get(SUBSCRIPTIONS) == {MUTEX: "held", "other": 5}


def test_undo_does_not_throw_away_what_others_wrote(server: Server) -> None:
    server.do("apply", "licence-bug-option-2")
    server.set({OVERRIDES: {OVERRIDE: 2}})
    code, said = server.do("undo", "licence-bug-option-2")
    assert (code, [reason["code"] for reason in said["reasons"]]) == (4, ["changed-by-others"])
    assert server.get(OVERRIDES)[OVERRIDE] == 2


def test_a_value_that_comes_back_after_the_reboot_is_not_done_and_needs_another_one(server: Server) -> None:
    server.do("apply", "licence-bug-option-2")
    server.wine.reboot()
    server.set({SUBSCRIPTIONS: {MUTEX: "again"}})
    assert server.do("verify", "licence-bug-option-2")[1]["standing"] == "not-applied"
    code, said = server.do("apply", "licence-bug-option-2")
    assert (code, said["standing"], said["changed"]) == (0, "awaiting-reboot", 1)
    server.do("undo", "licence-bug-option-2")
    assert server.get(SUBSCRIPTIONS)[MUTEX] == "held"


def test_an_absent_key_is_created_and_stays_when_undone(server: Server) -> None:
    server.wine.script(f"import winreg; winreg.DeleteKey(winreg.HKEY_LOCAL_MACHINE, r'{OVERRIDES}')")
    server.do("apply", "licence-bug-option-2")
    assert server.get(OVERRIDES) == {OVERRIDE: 1}
    server.do("undo", "licence-bug-option-2")
    assert server.get(OVERRIDES) == {}


def test_option_1_removes_the_value_only_after_the_reboot(server: Server) -> None:
    assert [r["code"] for r in server.do("apply", "licence-bug-option-1")[1]["reasons"]] == ["preview-package-needed"]
    folder = server.wine.drive / "windows" / "PolicyDefinitions"
    folder.mkdir(exist_ok=True)
    definition = folder / "KB5062660_251028_18301.admx"
    definition.write_text(ADMX)
    try:
        code, said = server.do("apply", "licence-bug-option-1")
        assert (code, said["standing"], said["changed"]) == (0, "awaiting-reboot", 1)
        assert (server.get(OVERRIDES)["777"], server.get(SUBSCRIPTIONS)[MUTEX]) == (1, "held")
        assert server.do("apply", "licence-bug-option-1")[0] == 3
        assert server.get(SUBSCRIPTIONS)[MUTEX] == "held"

        server.wine.reboot()
        assert server.do("verify", "licence-bug-option-1")[1]["standing"] == "not-applied"
        code, said = server.do("apply", "licence-bug-option-1")
        assert (code, said["standing"], said["changed"]) == (0, "done", 1)
        assert server.get(SUBSCRIPTIONS) == {"other": 5}
        assert server.do("apply", "licence-bug-option-1")[0] == 3
    finally:
        definition.unlink()


def test_the_workarounds_are_refused_on_azure_edition(server: Server) -> None:
    server.set({VERSION: {"EditionID": "ServerTurbine"}})
    before = server.get(OVERRIDES)
    for remedy in ("licence-bug-option-1", "licence-bug-option-2"):
        code, said = server.do("apply", remedy)
        assert (code, [reason["code"] for reason in said["reasons"]]) == (4, ["remedy-not-for-edition"])
    assert server.get(OVERRIDES) == before
    assert not server.state.exists()


def test_the_registry_value_alone_never_proves_virtual_secure_mode(server: Server) -> None:
    code, said = server.do("apply", "vsm")
    assert (code, said["standing"]) == (0, "awaiting-reboot")
    assert server.get(DEVICE_GUARD)["EnableVirtualizationBasedSecurity"] == 1
    server.wine.reboot()
    code, said = server.do("verify", "vsm")
    assert (code, said["standing"]) == (1, "unproven")
    assert "proves nothing" in said["sentences"][-1]
    assert "der Wert allein beweist nichts" in server.do("verify", "vsm", "--language", "de")[1]["sentences"][-1]


def test_virtual_secure_mode_needs_secure_boot(server: Server) -> None:
    server.set({SECURE_BOOT: {"UEFISecureBootEnabled": 0}})
    code, said = server.do("apply", "vsm")
    assert (code, [reason["code"] for reason in said["reasons"]]) == (4, ["secure-boot-not-on"])


def test_a_value_that_was_there_already_counts_from_the_time_its_key_was_written(server: Server) -> None:
    server.set({DEVICE_GUARD: {"EnableVirtualizationBasedSecurity": 1}})
    code, said = server.do("apply", "vsm")
    assert (code, said["standing"], said["action"]) == (3, "awaiting-reboot", None)
    server.wine.reboot()
    assert server.do("verify", "vsm")[1]["standing"] == "unproven"  # only the proof is missing now


def test_a_policy_is_emitted_applied_read_and_undone(server: Server, tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text('mode = "notify"\n')
    made = tmp_path / "made.reg"
    assert (
        server.run("policy", "--policy", windows_path(tmp_path / "policy.toml"), "-o", windows_path(made)).returncode
        == 0
    )
    server.set({rf"{POLICY}\AU": {"ScheduledInstallDay": 3, "UseWUServer": 1}})
    code, said = server.do("apply", "client-policy", "--reg", windows_path(made))
    assert (code, said["standing"]) == (0, "done")
    assert server.get(rf"{POLICY}\AU") == {"UseWUServer": 1, "NoAutoUpdate": 0, "AUOptions": 3}
    emitted = decode_reg(server.run("policy").stdout)
    assert {n: v.shown() for n, v in emitted[rf"HKLM\{POLICY}\AU"].items() if v} == {
        "UseWUServer": "1",
        "NoAutoUpdate": "0",
        "AUOptions": "3",
    }
    assert server.do("undo", "client-policy")[0] == 0
    assert server.get(rf"{POLICY}\AU") == {"ScheduledInstallDay": 3, "UseWUServer": 1}


ADMX = """<?xml version="1.0" encoding="utf-8"?>
<policyDefinitions xmlns="http://schemas.microsoft.com/GroupPolicy/2006/07/PolicyDefinitions" revision="1.0">
  <policies>
    <policy name="KB5062660_251028_18301_Feature_Preview" class="Machine" valueName="777"
        key="SYSTEM\\CurrentControlSet\\Policies\\Microsoft\\FeatureManagement\\Overrides">
      <enabledValue><decimal value="1"/></enabledValue>
      <disabledValue><decimal value="0"/></disabledValue>
    </policy>
  </policies>
</policyDefinitions>
"""
