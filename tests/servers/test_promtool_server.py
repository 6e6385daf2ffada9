"""Prometheus' own promtool: the rules for a server fire on data, and not before; what a server tells is its format."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.servers.packages import candidate_version, deb_fetch, deb_unpack
from tests.servers.test_promtool import run

ROOT = Path(__file__).parents[2]
RULES = ROOT / "packaging/prometheus/hotmend-server.rules.yml"
_SERIES = {
    "HotmendFleetHalted": ("hotmend_fleet_halted", "0 0 1x200", 60),
    "HotmendFleetBrakeOn": ("hotmend_fleet_rollouts_braked", "0 0 1x200", 0),
    "HotmendFleetNotSteered": ("hotmend_fleet_steering_age_seconds", "1 120 121x200", 2),
    "HotmendFleetEventWaiting": ("hotmend_fleet_events_waiting", "0 0 1x200", 5),
    "HotmendFleetMachinesHeld": ("hotmend_fleet_machines_held_long", "0 0 1x200", 10),
    "HotmendFleetMachinesSilent": ("hotmend_fleet_machines_silent", "0 10 11x200", 10),
    "HotmendFleetAgentDoesNotLook": ("hotmend_fleet_machines_blind", "0 0 1x200", 10),
    "HotmendFleetMachineSuspect": ('hotmend_fleet_machines{state="suspect"}', "0 0 1x200", 0),
    "HotmendFleetAuditWrong": ("hotmend_fleet_audit_wrong", "0 0 1x200", 0),
    "HotmendFleetAuditUnread": ("hotmend_fleet_audit_read_age_seconds", "30 600 601x200", 5),
}
"""Alert: series, values minute by minute that are bad from the third on, and minutes until it fires."""
pytestmark = pytest.mark.archive


@pytest.fixture(scope="module")
def promtool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prometheus")
    deb_unpack(deb_fetch("prometheus", candidate_version("prometheus")), folder)
    return folder / "usr/bin/promtool"


def test_each_alert_fires_on_data_and_not_before(promtool: Path, tmp_path: Path) -> None:
    rules = RULES.read_text()
    told = dict(re.findall(r'alert: (\w+)\n(?:.*\n)*?.*summary: "(.*)"', rules))
    severities = dict(re.findall(r"alert: (\w+)\n(?:.*\n)*?.*severity: (\w+)", rules))
    assert told.keys() == {*_SERIES, "HotmendFleetServerSilent"}
    assert f"{len(told)} rules found" in run(promtool, "check", "rules", str(RULES))
    lines = [f"rule_files: [{RULES}]", "evaluation_interval: 1m", "tests:"]
    for name, (series, values, minutes) in _SERIES.items():
        lines += [
            "- interval: 1m",
            "  input_series:",
            f"  - {{series: '{series}', values: '{values}'}}",
            "  - {series: 'hotmend_fleet_machines{state=\"active\"}', values: '100x300'}",
            "  - {series: 'hotmend_fleet_build_info', values: '1x300'}",
            "  alert_rule_test:",
            f"  - {{eval_time: {max(minutes + 1, 1)}m, alertname: {name}, exp_alerts: []}}",
            f"  - eval_time: {minutes + 2}m",
            f"    alertname: {name}",
            f"    exp_alerts: [{{exp_labels: {{severity: {severities[name]}}},"
            f" exp_annotations: {{summary: '{told[name]}'}}}}]",
            "  - {eval_time: 200m, alertname: HotmendFleetServerSilent, exp_alerts: []}",
        ]
    lines += ["- interval: 1m", "  input_series: []", "  alert_rule_test:"]
    silent = told["HotmendFleetServerSilent"]
    lines += ["  - eval_time: 5m", "    alertname: HotmendFleetServerSilent"]
    lines += [f"    exp_alerts: [{{exp_labels: {{severity: critical}}, exp_annotations: {{summary: '{silent}'}}}}]"]
    file = tmp_path / "tests.yml"
    file.write_text("\n".join(lines) + "\n")
    run(promtool, "test", "rules", str(file))


def test_every_alert_and_metric_is_described() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text()
    rules = RULES.read_text()
    assert [name for name in re.findall(r"alert: (\w+)", rules) if f"`{name}`" not in page] == []
    assert [name for name in set(re.findall(r"hotmend_fleet_\w+", rules)) if f"`{name}" not in page] == []
