"""docs/traceability.md: the lines about machines of a fleet, each with a command to a server and what it answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hotmend.agent.configuration import Configuration
from hotmend.agent.machine import Machine
from hotmend.agent.paths import Places
from hotmend.agent.record.history import History
from hotmend.agent.uplink.directing import reached, with_directions
from hotmend.agent.uplink.doing import perform
from hotmend.agent.uplink.files import Outbox, write
from hotmend.cli.main import run
from tests.server.machine import report
from tests.server.running import Running
from tests.traceability import ROOT, Row, stands, table

PAGE = ROOT / "docs" / "traceability.md"


class _Typed:
    """Commands as a person types them, and what they print."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, words: str) -> tuple[int, list[Any]]:
        self._capture.readouterr()
        code = run(words.split())
        return code, [json.loads(line) for line in self._capture.readouterr().out.splitlines()]


def _turn(places: Places, server: Running) -> None:
    """Do what a turn does with orders and outbox; what it sees of this machine is none of the page's."""
    machine = Machine(places, Configuration(), History(places.history), server.clock)
    machine, wanted = with_directions(machine)
    assert wanted is not None
    for order in wanted.orders:
        perform(machine, order)
    said = report(waiting=("nginx=1.22.1-9+deb12u11",), restarts=("redis-server.service",))
    write(places.outbox, Outbox(said, reached(machine.history.read().events), wanted.policy_hash))


def test_the_page_has_what_machines_of_a_fleet_did(
    server: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Places.__init__, "__defaults__", (tmp_path,))
    monkeypatch.setenv("HOTMEND_SERVER", server.url)
    monkeypatch.setenv("HOTMEND_TOKEN", server.tokens["admin"])
    typed, rows = _Typed(capsys), []
    Places().state.mkdir(parents=True)
    code, (key,) = typed("fleet --json key-add berlin --tag site=berlin --uses 1")
    script = "with the script to paste" if "hotmend enroll" in key["script"] and key["secret"] in key["script"] else "-"
    observed = f"{script}; tier {key['tier']}, tags {key['tags']}, for {key['uses_max']} machine; exit code {code}"
    command = "hotmend fleet --json key-add berlin --tag site=berlin --uses 1"
    rows.append(Row("S17", "A registration key: tier, tags, end, uses", command, observed))
    monkeypatch.setenv("HOTMEND_KEY", key["secret"])
    code, (made,) = typed(f"enroll {server.url} --server-key {server.app.state.context.key.public} --name web-1 --json")
    pinned = made["server_key"] == server.app.state.context.key.public
    observed = f"approved {made['approved']}, the server's key pinned: {pinned}; exit code {code}"
    rows.append(Row("S17", "Enrolled, with a key of its own", "hotmend enroll URL --server-key KEY --json", observed))
    code, (shown,) = typed("fleet --json machines")
    seen = "seen" if shown["seen_at"] else "never seen"
    observed = f"{shown['name']}: {shown['state']}, {seen}, tags {shown['tags']}; exit code {code}"
    rows.append(Row("S17", "It shows as connected", "hotmend fleet --json machines", observed))
    code, _ = typed(f"enroll {server.url} --again --json")
    rows.append(
        Row("S17", "The key again, which was for one machine", "hotmend enroll URL --again", f"exit code {code}")
    )
    _turn(Places(), server)
    typed("agent uplink --once --json")
    code, (shown,) = typed(f"fleet --json machine {made['machine']}")
    fixes = ", ".join(f"{each['cve']} {each['fixed']} ({each['comm']})" for each in shown["findings"] if each["cve"])
    observed = f"{fixes}; restarts due: {shown['machine']['restarts_due']}; exit code {code}"
    rows.append(
        Row("S38, S44", "What is fixed in memory, seen at the server", "hotmend fleet --json machine ID", observed)
    )
    code, (planned,) = typed(f"fleet --json act {made['machine']} assess")
    typed("agent uplink --once --json")
    _turn(Places(), server)
    typed("agent uplink --once --json")
    _, (done,) = typed(f"fleet --json actions {made['machine']}")
    observed = f"{planned['state']}, after the machine's next turn {done['state']}; exit code {code}"
    rows.append(Row("S41-S42", "Assess now, from the server", "hotmend fleet --json act ID assess", observed))
    code, (shown,) = typed(f"fleet --json forecast {made['machine']}")
    observed = f"{', '.join(shown['updates'])}; {shown['told'][0]} exit code {code}"
    rows.append(Row("S43", "Install now: the forecast first", "hotmend fleet --json forecast ID", observed))
    code, (planned,) = typed(f"fleet --json act {made['machine']} install --yes")
    observed = f"{planned['state']}; exit code {code}"
    rows.append(Row("S43", "... and then the action", "hotmend fleet --json act ID install --yes", observed))
    assert stands(PAGE, "machines", table(rows)), "the page was out of date and is written anew: read what changed"
