"""`hotmend fleet`: the command and its client against a real server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from hotmend.cli.main import run
from hotmend.fleet.client import Client, ServerRefusal
from hotmend.fleet.rollouts import Rollouts
from hotmend.model.errors import RemoteError
from hotmend.server.identity.service import begin_setup
from hotmend.server.machines.tables import actions
from hotmend.servicing.actions import State
from tests.server.fleet import Fleet, begun
from tests.server.running import Running, running

PAGE = (Path(__file__).parents[2] / "docs" / "server.md").read_text()


@pytest.fixture
def own(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """A server whose first administrator is whoever runs the command."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    with running(sqlite_url) as server:
        token = begin_setup(server.database, server.clock())
        assert run(["fleet", "setup", server.url, "--token", str(token)]) == 0
        file = tmp_path / "config" / "hotmend" / "fleet.json"
        assert file.stat().st_mode & 0o777 == 0o600
        server.tokens["admin"] = json.loads(file.read_bytes())["token"]
        yield server


def _json(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert run(["fleet", "--json", *arguments]) == code
    return json.loads(capsys.readouterr().out)


def _example() -> str:
    """The rollout that the documentation shows."""
    example = re.search(r"```toml\n(name = .*?)```", PAGE, re.DOTALL)
    assert example
    return example[1]


def _seed_of_another_plan(capsys: pytest.CaptureFixture[str], file: Path, plan: str) -> str:
    """A seed that draws other machines: one of three may be drawn by two seeds."""
    for seed in (f"another-{number}" for number in range(100)):
        if _json(capsys, "rollout", "preview", str(file), "--seed", seed)["plan"] != plan:
            return seed
    raise AssertionError("100 seeds draw the same machines")


def test_a_rollout_by_the_command(own: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fleet = Fleet(own)
    fleet.add(1, canary="1", site="berlin")
    fleet.add(3, site="berlin")
    fleet.add(1, site="berlin", domain="rack-1")
    file = tmp_path / "rollout.toml"
    example = _example()
    file.write_text(example.replace('lane = "normal"', 'lane = "zero-day"'))
    shown = _json(capsys, "rollout", "preview", str(file))
    assert [ring["machines"] for ring in shown["rings"]] == [1, 1, 1, 2]
    assert shown["approvals"] == 2
    file.write_text(example)
    shown = _json(capsys, "rollout", "preview", str(file))
    drawn = ["--seed", shown["seed"], "--plan", shown["plan"]]
    another = _seed_of_another_plan(capsys, file, shown["plan"])
    assert run(["fleet", "rollout", "create", str(file), "--seed", another, *drawn[2:]]) == 4
    assert _json(capsys, "rollout", "preview", str(file), *drawn[:2]) == shown
    made = _json(capsys, "rollout", "create", str(file), *drawn)
    assert _json(capsys, "rollout", "preview", "--planned", made["id"]) == shown
    assert made["plan"] == shown["plan"]
    identity, plan = made["id"], made["plan"]
    assert run(["fleet", "rollout", "start", identity]) == 4  # nobody has approved
    assert run(["fleet", "rollout", "approve", identity, "--plan", "0"]) == 4
    assert _json(capsys, "rollout", "approve", identity, "--plan", plan) == {"state": "READY"}
    for verb, answer in (("start", 0), ("pause", 4)):  # what has just been started runs first
        assert run(["fleet", "rollout", verb, identity, "--reason", "x"]) == answer
    fleet.step(identity)
    for verb, state in (("pause", "PAUSED"), ("resume", "RUNNING"), ("roll-back", "ROLLING_BACK")):
        assert _json(capsys, "rollout", verb, identity) == {"state": state}
    assert run(["fleet", "rollout", "event", identity, "0", "pre", "--allow"]) == 4
    assert run(["fleet", "rollout", "show", identity]) == 0
    text = capsys.readouterr().out
    assert "ROLLING_BACK" in text
    assert plan in text
    assert run(["fleet", "rollout", "list"]) == 0
    assert identity in capsys.readouterr().out


def test_which_machine_of_a_rollout_failed_and_why(
    own: Running, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hotmend.fleet.rollouts._PAGE", 2)
    own.add_users()
    fleet = Fleet(own)
    fleet.add(2, canary="1")
    fleet.add(3)
    identity = begun(own)
    fleet.step(identity, 3)
    (ill, action), (well, other) = fleet.due().items()
    with own.database.write() as connection:
        connection.execute(sa.update(actions).where(actions.c.id == action).values(detail="the probe says no"))
    fleet.report(action, State.FAILED)
    fleet.report(other, State.SUCCEEDED)
    assert run(["fleet", "rollout", "machines", identity]) == 0
    said = capsys.readouterr().out
    assert all(each in said for each in fleet.ids)
    assert run(["fleet", "rollout", "machines", identity, "--state", "failed"]) == 0
    said = capsys.readouterr().out
    assert ill in said
    assert "the probe says no" in said
    assert well not in said
    assert run(["fleet", "--json", "rollout", "machines", identity, "--ring", "1", "--state", "waiting"]) == 0
    waiting = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {each["machine"] for each in waiting} == set(fleet.ids[2:])
    assert run(["fleet", "rollout", "machines", "nothing"]) == 1


def test_a_rollout_is_scheduled_by_the_command(
    own: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet = Fleet(own)
    fleet.add(1, canary="1", site="berlin")
    file = tmp_path / "rollout.toml"
    file.write_text(_example())
    made = _json(capsys, "rollout", "create", str(file))
    schedule = ("rollout", "schedule", made["id"])
    at = (own.clock() + timedelta(hours=2)).replace(microsecond=0)
    assert run(["fleet", *schedule, "--at", at.isoformat()]) == 4  # nobody has approved
    assert run(["fleet", "rollout", "approve", made["id"], "--plan", made["plan"]]) == 0
    for wrong in ((), ("--at", at.isoformat(), "--none"), ("--at", "soon"), ("--at", "2026-01-01T00:00Z")):
        assert run(["fleet", *schedule, *wrong]) == 2
    assert run(["fleet", *schedule, "--at", "9000-01-01T00:00Z"]) == 4
    there = at.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert _json(capsys, *schedule, "--at", there.isoformat()) == {"state": "READY"}
    assert datetime.fromisoformat(_json(capsys, "rollout", "show", made["id"])["start_at"]) == at
    assert run(["fleet", "rollout", "show", made["id"]]) == 0
    assert f"begins by itself at {at:%Y-%m-%d %H:%M:%SZ}" in capsys.readouterr().out
    assert run(["fleet", *schedule, "--none"]) == 0
    assert _json(capsys, "rollout", "show", made["id"])["start_at"] is None


def test_the_halt_by_the_command(own: Running, capsys: pytest.CaptureFixture[str]) -> None:
    assert _json(capsys, "halt", "--show")["halted"] is False
    assert _json(capsys, "halt", "--reason", "smoke")["reason"] == "smoke"
    assert own.get("/api/v1/halt")["halted"] is True
    assert run(["fleet", "halt", "--show"]) == 0
    assert "by admin: smoke" in capsys.readouterr().out
    assert _json(capsys, "release")["halted"] is False


def test_mistakes_are_told(own: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rollout.toml"
    for text, told in (
        ("name = 1", "not a rollout"),
        ("nmae = 'x'", "not a field of a rollout: nmae"),
        ("x", "not a rollout"),
    ):
        file.write_text(text)
        assert run(["fleet", "rollout", "create", str(file)]) == 1
        assert told in capsys.readouterr().err
    assert run(["fleet", "rollout", "create", str(tmp_path / "none")]) == 1
    assert run(["fleet", "rollout", "show", "nothing"]) == 1
    assert run(["fleet", "--server", "http://127.0.0.1:1", "halt"]) == 1  # and the token stays at home
    assert run(["fleet", "setup", own.url, "--token", "wrong"]) == 4  # there are users already


def test_the_client_tells_a_refusal_from_an_error(own: Running) -> None:
    with pytest.raises(ServerRefusal) as refusal:
        Rollouts(Client(own.url, "hm_nobody")).page()
    assert (refusal.value.status, refusal.value.by_a_rule) == (401, False)
    with pytest.raises(RemoteError):
        Client("http://127.0.0.1:1").get("/halt", dict)
    with pytest.raises(RemoteError, match="not the address of a server"):
        Client("localhost:1", "hm_secret").get("/halt", dict)
    with pytest.raises(RemoteError):
        Client("not a url").get("/halt", dict)
