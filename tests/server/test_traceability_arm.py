"""docs/traceability.md: what a server answers to the tools of Azure, for a machine that checks in meanwhile."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hotmend.arc.connector import connect
from hotmend.arc.machine import Where
from hotmend.cli.main import run
from hotmend.server.arm.service import GROUP, SUBSCRIPTION
from hotmend.servicing.actions import State
from hotmend.wire.messages import Reached
from hotmend.wire.report import Report, report_hash
from tests.server.machine import Simple, report, simple
from tests.server.running import Running, running
from tests.server.test_arm import profile
from tests.traceability import ROOT, Row, stands, table

PAGE = ROOT / "docs" / "traceability.md"
WAITS = ("nginx=1.22.1-9+deb12u11", "openssl=3.0.17-1~deb12u3")


class _There(threading.Thread):
    """A machine that checks in until it is told to stop, and does what it is asked for."""

    def __init__(self, machine: Simple) -> None:
        super().__init__()
        self.machine, self.over = machine, threading.Event()

    def run(self) -> None:
        held, done = "", list[Reached]()
        said: Report = report(waiting=WAITS)
        while not self.over.wait(0.05):
            answer = self.machine.check_in(report=said, report_hash=report_hash(said), policy=held, reached=tuple(done))
            held = answer.policy_hash
            done = [Reached(each.id, State.SUCCEEDED, self.machine.server.clock()) for each in answer.orders]
            if any(order.kind == "install" for order in answer.orders):
                said = report(waiting=("curl=7.88.1-10+deb12u14",))


@pytest.fixture
def served(templates: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    file = tmp_path / "server.db"
    shutil.copy(templates["sqlite"], file)
    monkeypatch.setattr("hotmend.server.arm.api.RETRY_AFTER_SECONDS", 0)
    with running(f"sqlite:///{file}", check_ins_per_minute=1_000_000) as server:
        server.set_up()
        monkeypatch.setenv("HOTMEND_ARC_TOKEN", server.tokens["operator"])
        yield server


def test_the_page_has_what_azures_tools_are_answered(served: Running, capsys: pytest.CaptureFixture[str]) -> None:
    there = _There(simple(served, "web-1"))
    there.machine.check_in(report=report(waiting=WAITS))
    common = ["arc", "--id", Where(SUBSCRIPTION, GROUP, "web-1").id, "--endpoint", served.url, "--poll", "0.05"]

    def asked(line: str, what: str, *words: str) -> Row:
        capsys.readouterr()
        code = run([*common, *words, "--json"])
        told = _told(json.loads(capsys.readouterr().out))
        return Row(line, what, f"hotmend arc {' '.join(words)} --json", f"{told}; exit code {code}")

    there.start()
    try:
        rows = [
            asked("S16-S17", "Connected, no licence profile", "status"),
            _switched(served, "S20-S22", "Enabled, when the machine has said that it has its policy", "Enabled"),
            asked("S41-S42", "Assess now: an action of the machine", "assess"),
            asked("S43", "Install now: an action of the machine", "install", "--leave-line", "--reboot", "never"),
            _switched(served, "S19", "No subscription any more: the machine only says what waits", "Disabled"),
            asked("S19", "... and installs nothing", "install", "--leave-line"),
        ]
    finally:
        there.over.set()
        there.join()
    actions = served.get(f"/api/v1/machines/{there.machine.id}/actions")["items"]
    kinds = ", ".join(f"{each['kind']} {each['state']} by {each['created_by']}" for each in reversed(actions))
    rows.append(Row("S40", "The same in the history of the machine", "GET /api/v1/machines/ID/actions", kinds))
    assert stands(PAGE, "azure", table(rows)), "the page was out of date and is written anew: read what changed"


def _switched(server: Running, line: str, what: str, status: str) -> Row:
    client: Any
    with connect(SUBSCRIPTION, endpoint=server.url, token=server.tokens["operator"], poll_seconds=0.05) as client:
        made = client.license_profiles.begin_create_or_update(GROUP, "web-1", profile(status)).result()
        (feature,) = made.properties.product_profile.product_features
        found = client.machines.get(GROUP, "web-1").properties.os_profile.linux_configuration.patch_settings
    enablement = found.status.hotpatch_enablement_status.value
    observed = f"Hotpatch {feature.subscription_status.value}; hotpatchEnablementStatus {enablement}"
    return Row(line, what, "PUT licenseProfiles/default, by the SDK", observed)


def _told(answer: dict[str, Any]) -> str:
    names = ("agent_status", "enablement", "subscription", "changed", "status", "reboot_status", "error")
    told = [f"{name} {answer[name]}" for name in names if answer.get(name) not in (None, "")]
    told += [f"{name} {count}" for name, count in answer.get("counts", {}).items() if count]
    return ", ".join(told)
