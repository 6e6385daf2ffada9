"""Prometheus' own promtool reads the rules, fires each alert, and reads what `hotmend metrics` prints."""

from __future__ import annotations

import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hotmend.agent.census.alerts import AlertCode, Record
from hotmend.agent.census.assessment import Assessment
from hotmend.agent.census.look import Look
from hotmend.agent.census.restarts import Plan
from hotmend.agent.record.history import Assessed, Restarted, RunEnded
from hotmend.agent.report.metrics import metrics_text
from hotmend.servicing.actions import State
from tests.servers.packages import candidate_version, deb_fetch, deb_unpack
from tests.unit.test_assessment import NEW, PATCH, QUIET, image, process

RULES = Path(__file__).parents[2] / "packaging/prometheus/hotmend.rules.yml"
pytestmark = pytest.mark.archive


@pytest.fixture(scope="module")
def promtool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prometheus")
    deb_unpack(deb_fetch("prometheus", candidate_version("prometheus")), folder)
    return folder / "usr/bin/promtool"


def run(promtool: Path, *arguments: str, text: str = "") -> str:
    done = subprocess.run([promtool, *arguments], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_rules_are_rules(promtool: Path) -> None:
    assert f"{len(AlertCode) + 1} rules found" in run(promtool, "check", "rules", str(RULES))


def test_each_alert_fires_where_it_is_told_and_not_before(promtool: Path, tmp_path: Path) -> None:
    """Every alert is there from the start; after its own time it fires, with its section of the runbook."""
    rules = RULES.read_text()
    waits = re.findall(
        r'alert="(\S+)"\} == 1\n +for: (\d+)([mh])\n +labels:\n +severity: (\w+)\n.*\n +summary: "(.*)"', rules
    )
    assert len(waits) == len(AlertCode)
    lines = [f"rule_files: [{RULES}]", "evaluation_interval: 5m", "tests:", "- interval: 5m", "  input_series:"]
    lines += [f"  - {{series: 'hotmend_alert{{alert=\"{w[0]}\",instance=\"a\"}}', values: '1x1000'}}" for w in waits]
    lines += ["  - {series: 'hotmend_looked_timestamp_seconds{instance=\"a\"}', values: '0+300x1000'}"]
    lines += ["  alert_rule_test:"]
    for code, number, unit, severity, words in waits:
        minutes = int(number) * (60 if unit == "h" else 1)
        name = "Hotmend" + "".join(word.capitalize() for word in code.split("-"))
        lines += [f"  - {{eval_time: {minutes - 5}m, alertname: {name}, exp_alerts: []}}"] if minutes else []
        summary = words.replace("{{ $labels.instance }}", "a")
        lines += [
            f"  - eval_time: {minutes}m",
            f"    alertname: {name}",
            f"    exp_alerts: [{{exp_labels: {{alert: {code}, instance: a, severity: {severity}}},"
            f" exp_annotations: {{summary: \"{summary}\", runbook_url: 'docs/runbook.md#{code}'}}}}]",
        ]
    lines += ["  - {eval_time: 24h, alertname: HotmendMetricsStale, exp_alerts: []}"]
    (tmp_path / "rules-test.yml").write_text("\n".join(lines) + "\n")
    assert "SUCCESS" in run(promtool, "test", "rules", str(tmp_path / "rules-test.yml"))


def test_what_is_printed_is_prometheus_text(promtool: Path) -> None:
    now = datetime(2026, 11, 29, tzinfo=UTC)
    seen = (process(5, image(patch=PATCH)), process(6, image(disk=NEW)))
    events = (
        Assessed(at=now, waiting=("nginx=2",), restarts=(), reboot=()),
        Restarted(at=now, unit="a.service", outcome="restarted"),
        RunEnded(at=now, run="a", outcome=State.FAILED),
    )
    record = Record(events, (), None, (), timedelta(hours=1))
    text = metrics_text(Look(Assessment(now, seen, (), QUIET, ("nginx=2",)), Plan((), ()), record)).decode()
    complaints = [line for line in run(promtool, "check", "metrics", text=text).splitlines() if line]
    assert complaints == []
    for line in (
        "hotmend_processes 2.0",
        'hotmend_images{state="old"} 1.0',
        'hotmend_images{state="disk_old"} 1.0',
        'hotmend_alert{alert="last-run-failed"} 1.0',
        'hotmend_alert{alert="on-hold"} 0.0',
        'hotmend_last_run{outcome="FAILED"} 1.0',
        'hotmend_restarts{outcome="restarted"} 1.0',
        "hotmend_updates_waiting 1.0",
    ):
        assert f"\n{line}\n" in text
