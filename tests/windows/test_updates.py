"""Updates through the update agent's COM interface, on Windows Python; the agent is an emulated one (`emulated.py`)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.windows.server import DEFINITIONS, AgentServer, entry, update
from tests.windows.wine import windows_path

pytestmark = pytest.mark.wine

LEAVES = update("KB5070881", "2025-10 Cumulative Update (KB5070881)")
STAYS = update("KB5070893", "2025-10 Security Update for WSUS (KB5070893)")
SIGNATURES = update("KB2267602", "Definitionsupdate (KB2267602)", reboots=0, category=DEFINITIONS)


def _offer(server: AgentServer, *updates: dict[str, Any]) -> None:
    server.change(updates=[each for each in server.data["updates"] if each["installed"]] + list(updates))


def test_an_assessment_says_what_each_update_is_and_would_do_and_changes_nothing(october: AgentServer) -> None:
    _offer(october, LEAVES, STAYS, SIGNATURES, update("KB5099999"))
    before = october.agent.read_text()
    code, said = october.do("assess", "--exclude", "5099999")
    assert (code, said["line"], said["baseline"], said["reboot_pending"]) == (0, "on", "KB5066835", False)
    assert {name: count for name, count in said["counts"].items() if count} == {"security": 3, "definition": 1}
    assert [(each["id"], each["deed"], each["outcome"], each["needs_reboot"]) for each in said["offered"]] == [
        ("KB5070881", "install", "leaves-line", True),
        ("KB5070893", "install", "stays-on-line", True),
        ("KB2267602", "list", None, False),
        ("KB5099999", "exclude", "unknown", True),
    ]
    assert october.agent.read_text() == before
    assert not october.state.exists()
    german = october.run("assess", "--language", "de").stdout.decode()
    assert "Empfohlene Updates" in german
    assert "nimmt die Maschine von der Linie" in german


def test_what_leaves_the_line_keeps_everything_out_until_it_is_excluded_or_allowed(october: AgentServer) -> None:
    _offer(october, LEAVES, STAYS)
    before = october.agent.read_text()
    for arguments in ([], ["--include", "KB5070881"], ["KB5070881", "KB5070893"], ["--dry-run"]):
        code, said = october.do("install", *arguments)
        assert (code, [reason["code"] for reason in said["reasons"]]) == (4, ["leaves-hotpatch-line"])
        assert said["reasons"][0]["subjects"][0].startswith("KB5070881: leaves-line: ")
    told = october.do("install", "--language", "de")[1]["reasons"][0]
    assert told["subjects"][0].startswith("KB5070881: leaves-line: KB5070881 nimmt die Maschine von der Linie")
    assert october.agent.read_text() == before
    assert not october.state.exists()

    code, said = october.do("install", "--exclude", "KB5070881", "--include", "KB5070881")
    assert (code, said["chosen"], said["result"], said["reboot_due"]) == (0, ["KB5070893"], "succeeded", True)
    assert [october.stored(kb)["installed"] for kb in ("KB5070881", "KB5070893")] == [False, True]
    assert (october.stored("KB5070893")["eula"], october.data["history"][0]["client"]) == (True, "hotmend")
    october.reboot()
    assert october.do("install", "KB5070881", "--leave-line")[0] == 0
    assert october.stored("KB5070881")["installed"]


def test_only_what_needs_no_reboot(october: AgentServer) -> None:
    _offer(october, STAYS, SIGNATURES, update("KB5071111", reboots=2, category=DEFINITIONS))
    code, said = october.do(
        "install", "--without-reboot", "--classification", "security", "--classification", "definition"
    )
    assert (code, said["chosen"], said["reboot_expected"], said["reboot_due"]) == (0, ["KB2267602"], False, False)
    assert said["updates"] == [
        {"id": "KB2267602", "result": "succeeded", "result_code": "0x00000000", "needs_reboot": False}
    ]
    assert october.do("install", "--without-reboot")[0] == 3


def test_what_fails_is_named_and_nothing_is_half_done(october: AgentServer) -> None:
    _offer(october, {**STAYS, "download_code": 0x80240438}, SIGNATURES)
    code, said = october.do("install", "--include", "KB2267602")
    assert (code, said["result"]) == (1, "failed")
    assert [(each["id"], each["result"], each["result_code"]) for each in said["updates"]] == [
        ("KB5070893", "failed", "0x80240438 WU_E_PT_ENDPOINT_UNREACHABLE"),
        ("KB2267602", "not-started", "0x00000000"),
    ]
    assert not any(october.stored(kb)["installed"] for kb in ("KB5070893", "KB2267602"))

    _offer(october, {**STAYS, "install_code": 0x800F0922})
    code, said = october.do("install")
    assert (code, said["updates"][0]["result_code"]) == (1, "0x800f0922 CBS_E_INSTALLERS_FAILED")
    done = october.run("history", "--json").stdout.decode()
    assert '"result":"failed","result_code":"0x800f0922 CBS_E_INSTALLERS_FAILED","client":"hotmend"' in done

    for name, reason in (("busy", "update-client-busy"), ("boot_first", "reboot-comes-first")):
        october.change(busy=name == "busy", boot_first=name == "boot_first")
        code, said = october.do("install")
        assert (code, [each["code"] for each in said["reasons"]]) == (4, [reason])
    october.change(search_code=0x8024002E)
    code, said = october.do("install")
    assert (code, "search: 0x8024002e WU_E_WU_DISABLED" in said["error"]) == (1, True)


def test_records_outlive_the_reboot_and_an_end_in_the_middle(october: AgentServer) -> None:
    _offer(october, STAYS)
    code, said = october.do("install", "--reboot", "if-required")
    assert (code, said["reboot_due"], said["reboot_ordered"]) == (0, True, True)
    assert october.do("history", "--actions")[1]["state"] == "awaiting-reboot"
    october.reboot()
    shown = october.do("history", "--actions")[1]
    assert (shown["action"], shown["state"]) == (said["action"], "done")
    assert "reboot ordered" in " ".join(shown["events"])

    _offer(october, update("KB5068861", "2025-11 Cumulative Update (KB5068861)"))
    october.environment["HOTMEND_TEST_DIE"] = "KB5068861"
    assert october.run("install", "KB5068861", "--leave-line").returncode == 9
    del october.environment["HOTMEND_TEST_DIE"]
    first = october.run("history", "--actions").stdout.decode().splitlines()
    assert first[0].endswith(": failed")
    assert "interrupted before it was told what came of it; installed now: none" in first[3]


def test_uninstalling_says_when_it_leaves_the_line_and_when_the_agent_cannot(october: AgentServer) -> None:
    hotpatch = update("KB5065474", "2025-09 Hotpatch (KB5065474)", installed=True, uninstallable=False)
    october.change(updates=[*october.data["updates"], hotpatch])
    packages = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\Packages"
    october.set({rf"{packages}\Package_for_KB5065474~31bf3856ad364e35~amd64~~26100.6508.1.6": {"CurrentState": 112}})
    code, said = october.do("uninstall", "KB5065474")
    assert (code, [each["code"] for each in said["reasons"]]) == (4, ["not-uninstallable"])
    assert said["reasons"][0]["subjects"][1].startswith(
        "dism /online /remove-package /packagename:Package_for_KB5065474~"
    )

    october.change(history=[entry("KB5066835", "2025-10-15")])  # nothing is known of what came before
    code, said = october.do("uninstall", "KB5066835")
    assert (code, [each["code"] for each in said["reasons"]]) == (4, ["removal-leaves-hotpatch-line"])
    assert october.stored("KB5066835")["installed"]
    code, said = october.do("uninstall", "KB5066835", "--leave-line")
    assert (code, said["updates"][0]["result"], said["reboot_due"]) == (0, "succeeded", True)
    assert not october.stored("KB5066835")["installed"]
    assert october.do("uninstall", "KB5066835", "--leave-line")[0] == 3


JULY = update("KB5062553", "2025-07 Cumulative Update (KB5062553)", superseded=True)


def test_rolling_back_is_three_steps_of_one_action_that_outlives_reboots(october: AgentServer) -> None:
    latest = {**october.stored("KB5066835"), "blocks_until_boot": True}
    october.change(updates=[latest, JULY])
    code, said = october.do("rollback", "--reboot", "if-required")
    assert (code, said["state"], said["remove"], said["baseline"]) == (0, "awaiting-reboot", "KB5066835", "KB5062553")
    assert said["reboot_ordered"]
    assert [october.stored(kb)["installed"] for kb in ("KB5066835", "KB5062553")] == [False, False]
    october.reboot()
    code, second = october.do("rollback")
    assert (code, second["state"], second["action"]) == (0, "awaiting-reboot", said["action"])
    assert october.stored("KB5062553")["installed"]
    assert october.do("rollback")[1]["state"] == "awaiting-reboot"  # nothing but the boot is left
    october.reboot()
    code, third = october.do("rollback")
    assert (code, third["state"], third["action"]) == (0, "done", said["action"])
    assert october.stored("KB5066835")["hidden"]

    october.change(updates=[{**each, "hidden": False} for each in october.data["updates"]])
    assert october.do("assess")[1]["offered"][0]["deed"] == "exclude"
    refused = october.run("install", "KB5066835", "KB5000000")
    assert (refused.returncode, october.stored("KB5066835")["installed"]) == (3, False)
    assert b"KB5066835: It was rolled back on this machine" in refused.stderr
    assert b"KB5000000 is not offered." in refused.stderr
    assert october.do("rollback", "--release", "KB5066835")[1]["state"] == "undone"
    assert october.do("assess")[1]["offered"][0]["deed"] == "install"


def test_nothing_is_taken_away_when_the_baseline_is_not_at_hand(october: AgentServer) -> None:
    before = october.agent.read_text()
    code, said = october.do("rollback")
    assert (code, [each["code"] for each in said["reasons"]]) == (4, ["baseline-not-at-hand"])
    assert october.agent.read_text() == before
    assert not october.state.exists()

    october.change(updates=[*october.data["updates"], {**JULY, "install_code": 0x80073712}])
    code, said = october.do("rollback")
    assert (code, said["state"]) == (1, "failed")
    assert "0x80073712 ERROR_SXS_COMPONENT_STORE_CORRUPT" in " ".join(said["sentences"])
    october.change(updates=[{**each, "install_code": 0} for each in october.data["updates"]])
    code, again = october.do("rollback")  # the same action goes on where it failed
    assert (code, again["state"], again["action"]) == (0, "awaiting-reboot", said["action"])


def test_the_menu_does_the_same_by_number(october: AgentServer) -> None:
    october.environment["HOTMEND_STATE"] = windows_path(october.state)
    said = b"2\n3\n\n\n\nno\n3\nsecurity\n\n1\nyes\n99\n"
    command = (str(october.wine.python), "-m", "hotmend", "menu", "--language", "en")
    done = october.wine.feed(said, *command, **october.environment)
    text = done.stdout.decode()
    assert (done.returncode, "Traceback" in done.stderr.decode()) == (0, False)
    assert text.count("> hotmend windows install --language en --reboot never --dry-run") == 1
    assert "> hotmend windows install --language en --reboot never\r\n" not in text  # it was not done
    assert "> hotmend windows install --language en --classification security --reboot if-required" in text
    assert october.stored("KB5070893")["installed"]
    assert "There is no such choice: '99'" in text
