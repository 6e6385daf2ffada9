"""What Prometheus is told of this machine, in its text format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from hotmend import __version__
from hotmend.agent.census.alerts import AlertCode
from hotmend.agent.census.code_state import CodeState
from hotmend.agent.census.look import Look
from hotmend.agent.census.restarts import How
from hotmend.agent.record.history import Assessed, Crashed, Restarted, RunEnded


def metrics_text(look: Look) -> bytes:
    """Return all metrics; docs/monitoring.md has the meaning of each."""
    gauges = _Gauges()
    gauges.one("build_info", "Version of hotmend.", 1, version=__version__)
    _processes(gauges, look)
    _due(gauges, look)
    _records(gauges, look)
    return generate_latest(gauges.registry)


class _Gauges:
    """Metrics of one exposition; all are gauges, since each stands for what is so at this moment."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

    def one(self, name: str, text: str, value: float, **labels: str) -> None:
        """Add a metric with one value."""
        self.many(name, text, [(labels, value)])

    def many(self, name: str, text: str, values: Iterable[tuple[dict[str, str], float]]) -> None:
        """Add a metric with a value for each set of labels."""
        given = list(values)
        if not given:
            return
        gauge = Gauge(f"hotmend_{name}", text, labelnames=list(given[0][0]), registry=self.registry)
        for labels, value in given:
            (gauge.labels(**labels) if labels else gauge).set(value)


def _processes(gauges: _Gauges, look: Look) -> None:
    processes = look.assessment.processes
    states = Counter(image.state for process in processes for image in process.images)
    patches = {image.patch.id for process in processes for image in process.images if image.patch}
    patched = sum(any(image.patch for image in process.images) for process in processes)
    gauges.one("looked_timestamp_seconds", "When this was seen.", look.assessment.at.timestamp())
    gauges.one("processes", "Processes that map a program or library.", len(processes))
    gauges.one("processes_patched", "Processes that run new code by a hotpatch.", patched)
    gauges.one("processes_old", "Processes that run old code.", sum(bool(p.due) for p in processes))
    gauges.one("hotpatches_active", "Hotpatches whose code runs in some process.", len(patches))
    gauges.one("cves_fixed_in_memory", "CVEs fixed in memory in every process concerned.", len(look.assessment.cves))
    gauges.many(
        "images",
        "Images of processes, by what runs beside what is on the disk.",
        [({"state": state.name.lower()}, states[state]) for state in CodeState],
    )


def _due(gauges: _Gauges, look: Look) -> None:
    needs = Counter(need.how for need in (*look.plan.restarts, *look.plan.others))
    gauges.many(
        "restarts_due",
        "Owners of processes with old code, by what it takes.",
        [({"how": how.name.lower()}, needs[how]) for how in How],
    )
    gauges.one("reboot_due", "Whether a reboot is due.", bool(look.assessment.reboot))
    gauges.one("updates_waiting", "Updates that the agent saw waiting.", len(look.assessment.waiting))
    codes = {alert.code for alert in look.alerts}
    gauges.many(
        "alert",
        "Whether something is not as it should be.",
        [({"alert": code.value}, code in codes) for code in AlertCode],
    )


def _records(gauges: _Gauges, look: Look) -> None:
    events = look.record.events
    gauges.one("on_hold", "Whether nothing may be changed.", look.record.hold is not None)
    gauges.one("updates_in_quarantine", "Updates that are not taken here any more.", len(look.record.quarantine))
    crashes = sum(isinstance(event, Crashed) and event.ours for event in events)
    gauges.one("crashes_in_new_code", "Crashes in new code, in the whole history.", crashes)
    restarts = Counter(e.outcome for e in events if isinstance(e, Restarted) and e.outcome)
    gauges.many(
        "restarts", "Restarts by hotmend, in the whole history.", [({"outcome": o}, n) for o, n in restarts.items()]
    )
    runs = [event for event in events if isinstance(event, RunEnded)]
    if runs:
        last = runs[-1]
        gauges.one("last_run_timestamp_seconds", "When the last run ended.", last.at.timestamp())
        gauges.one("last_run", "How the last run ended.", 1, outcome=last.outcome.value)
    if assessed := [event.at.timestamp() for event in events if isinstance(event, Assessed)]:
        gauges.one("last_assessment_timestamp_seconds", "When the agent looked last.", max(assessed))
