"""docs/traceability.md: the lines about rollouts, each with a command to a real server and what it answered."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hotmend.cli.main import run
from hotmend.server.identity.service import begin_setup
from hotmend.servicing.actions import State
from tests.server.fleet import ALWAYS, Fleet
from tests.server.running import Running, running
from tests.traceability import ROOT, Row, stands, table

PAGE = ROOT / "docs" / "traceability.md"
ROLLOUT = """
name = "NAME"
updates = ["openssl=3.0.17-1~deb12u3"]
budget = 20
[[rings]]
name = "canary"
tag = "canary"
[[rings]]
name = "rest"
[thresholds]
soak_minutes = 30
silence_minutes = 600
"""


@pytest.fixture
def fleet(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    with running(sqlite_url) as server:
        token = begin_setup(server.database, server.clock())
        assert run(["fleet", "setup", server.url, "--token", str(token)]) == 0
        server.tokens["admin"] = json.loads((tmp_path / "config" / "hotmend" / "fleet.json").read_bytes())["token"]
        _always_open(server)
        made = Fleet(server)
        made.add(1, canary="1")
        made.add(2, pair="db")
        made.add(10, set="web")
        yield made


def _always_open(server: Running) -> None:
    body = {"windows": ALWAYS["maintenance"]["window"]}
    assert server.call("PUT", "/api/v1/maintenance/configurations/default", body).status == 200


def _told(capsys: pytest.CaptureFixture[str], words: str) -> tuple[int, Any]:
    capsys.readouterr()
    code = run(["fleet", "--json", *words.split()])
    out = capsys.readouterr().out
    return code, json.loads(out) if out else None


def _begin(fleet: Fleet, capsys: pytest.CaptureFixture[str], name: str) -> str:
    Path("rollout.toml").write_text(ROLLOUT.replace("NAME", name))
    made = _told(capsys, "rollout create rollout.toml")[1]
    for words in (f"approve {made['id']} --plan {made['plan']}", f"start {made['id']}"):
        assert _told(capsys, f"rollout {words}")[0] == 0
    fleet.step(made["id"], 3)
    return str(made["id"])


def _under_way(fleet: Fleet, due: dict[str, str]) -> Counter[str]:
    machines = fleet.server.get("/api/v1/machines?limit=100")["items"]
    tags = {each["id"]: each["tags"] for each in machines}
    return Counter(next(iter(tags[machine].items()))[1] for machine in due)


def test_the_page_has_what_a_rollout_did(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [*_first_things_first(fleet, capsys), *_failure(fleet, capsys), *_soak(fleet, capsys)]
    assert stands(PAGE, "rollouts", table(rows)), "the page was out of date and is written anew: read what changed"


def _first_things_first(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> Iterator[Row]:
    Path("rollout.toml").write_text(ROLLOUT.replace("NAME", "openssl"))
    code, shown = _told(capsys, "rollout preview rollout.toml")
    rings = "; ".join(f"{ring['name']}: {ring['machines']} machines, {ring['waves']} waves" for ring in shown["rings"])
    held = ", ".join(f"{count} {why}" for why, count in sorted(shown["rings"][1]["held_now"].items()))
    observed = f"{rings}; of the rest {len(shown['rings'][1]['first'])} would begin, held: {held}; exit code {code}"
    words = "hotmend fleet --json rollout preview rollout.toml"
    asked = "Phases, a pair never together, at most 20 % of a set: 1 canary, a pair `db`, 10 machines in set `web`"
    yield Row("S32", asked, words, observed)
    identity = _begin(fleet, capsys, "openssl")
    fleet.finish()
    fleet.step(identity)
    fleet.later(minutes=30)
    fleet.step(identity, 2)
    most: Counter[str] = Counter()
    for _ in range(12):
        if fleet.step(identity) == "FINISHED":
            break
        due = fleet.due()
        most |= _under_way(fleet, due)
        for action in due.values():
            fleet.report(action, State.SUCCEEDED)
        if not due:
            fleet.later(minutes=30)
    code, shown = _told(capsys, f"rollout show {identity}")
    groups = ", ".join(f"{group['name']} {group['state']}" for group in shown["groups"])
    observed = (
        f"{shown['state']}; {groups}; under way at the same time at most {most['db']} of the pair,"
        f" {most['web']} of the set; exit code {code}"
    )
    yield Row("S32", "The same, carried out", "hotmend fleet --json rollout show ID", observed)


def _failure(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> Iterator[Row]:
    identity = _begin(fleet, capsys, "bad")
    assert fleet.finish(State.FAILED) == 1
    fleet.step(identity)
    code, shown = _told(capsys, f"rollout show {identity}")
    groups = ", ".join(f"{group['name']} {group['state']}" for group in shown["groups"])
    observed = (
        f"{shown['state']}, brake {'on' if shown['brake'] else 'off'}; {groups}; of the rest begun:"
        f" {sum(count for state, count in shown['groups'][1]['actions'].items() if state)};"
        f" {shown['why']['sentence']} exit code {code}"
    )
    yield Row("S33", "A canary reports a failure: halt", "hotmend fleet --json rollout show ID", observed)
    assert _told(capsys, f"rollout roll-back {identity} --reason bad")[0] == 0
    fleet.step(identity)
    fleet.finish()
    fleet.step(identity)
    code, shown = _told(capsys, f"rollout show {identity}")
    observed = f"{shown['state']}; reverts: {shown['reverts']}; exit code {code}"
    yield Row("S33", "... and revert", "hotmend fleet --json rollout roll-back ID", observed)


def _soak(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> Iterator[Row]:
    identity = _begin(fleet, capsys, "soak")
    fleet.finish()
    fleet.step(identity)
    fleet.alerts(fleet.ids[0], "crash-in-new-code")
    fleet.step(identity)
    code, shown = _told(capsys, f"rollout show {identity}")
    observed = f"{shown['state']}; {shown['groups'][0]['state']}: {shown['why']['sentence']} exit code {code}"
    yield Row("S33", "A canary has an alert during the soak", "hotmend fleet --json rollout show ID", observed)
