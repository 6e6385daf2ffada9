"""`hotmend fleet maintenance` against a real server, with the example of the documentation."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from hotmend.server.maintenance.closing import close
from tests.server.machine import report, simple
from tests.server.running import Running
from tests.server.typed import Typed

PAGE = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The configuration that the documentation shows."""
    example = re.search(r"```toml\n(  mode = .*?)```", PAGE, re.DOTALL)
    assert example
    made = tmp_path / "configuration.toml"
    made.write_text(example[1])
    return made


def test_a_configuration_by_command(server: Running, typed: Typed, file: Path) -> None:
    (made,) = typed.rows("maintenance", "put", "web", str(file))
    assert (made["version"], made["wanted"]["slots"], made["machines"]) == (1, 2, 0)
    assert made["wanted"]["windows"][0]["start"] == "2026-01-04T02:00:00"
    assert made["wanted"]["freezes"] == {"inventory": {"first": "2027-01-02", "last": "2027-01-05", "yearly": True}}
    assert typed.rows("maintenance", "show", "web") == [made]
    shown = typed("maintenance", "show", "web")
    for told in ("mode automatic", "2 of 30 minutes", "FREQ=WEEKLY;BYDAY=SU", "inventory", "exclude: linux-image-*"):
        assert told in shown
    file.write_text('mode = "notify"')
    typed("maintenance", "put", "web", str(file), "--version", "2", code=4)  # it is another
    typed("maintenance", "put", "web", str(file), "--version", "1")
    assert [(row["version"], row["wanted"]["mode"]) for row in typed.rows("maintenance", "list")] == [(2, "notify")]
    assert "notify" in typed("maintenance", "list")
    typed("maintenance", "remove", "web")
    typed("maintenance", "show", "web", code=1)
    assert typed.rows("maintenance", "list") == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("mdoe = 'notify'", "not a field of a configuration: mdoe"),
        ("mode = 'sometimes'", "not a configuration"),
        ("mode = ", "not a configuration"),
        (
            "[[windows]]\nname = 'a'\nrule = 'FREQ=DAILY'\nstart = 2026-01-01T01:00:00\nminutes = 60\ndays = 1",
            "not a field of a configuration: windows.0.days",
        ),
        (
            "[freezes.a]\nfirst = 2026-01-01\nlast = 2026-01-02\nyaerly = true",
            "not a field of a configuration: freezes.a.yaerly",
        ),
    ],
)
def test_a_mistake_in_a_configuration_is_told(typed: Typed, file: Path, text: str, told: str) -> None:
    file.write_text(text)
    assert told in typed.error("maintenance", "put", "web", str(file), code=1)
    assert typed.rows("maintenance", "list") == []


def test_assignments_by_command(server: Running, typed: Typed, file: Path) -> None:
    machine = simple(server, "one")
    machine.check_in(report=report(zone="Europe/Berlin"))
    typed("tag", machine.id, "role=web")
    for name in ("web", "own"):
        typed("maintenance", "put", name, str(file))
    typed("maintenance", "assign", "web", "--priority", "1", code=2)
    typed("maintenance", "assign", "web", "--priority", "1", "--tag", "role", "--machine", machine.id, code=2)
    typed("maintenance", "assign", "none", "--priority", "1", "--tag", "role", code=1)
    assert typed.rows("maintenance", "assign", "web", "--priority", "1", "--tag", "role=web")[0]["value"] == "web"
    typed("maintenance", "assign", "own", "--priority", "2", "--machine", machine.id)
    assert "role=web" in typed("maintenance", "assignments")
    typed("maintenance", "remove", "web", code=4)  # it is assigned
    (found,) = typed.rows("maintenance", "machine", machine.id)
    assert (found["configuration"], found["zone"]) == ("own", "Europe/Berlin")
    assert found["windows"][0]["name"] == "sunday"
    first = typed.rows("maintenance", "assignments")[0]
    assert first["configuration"] == "own"
    typed("maintenance", "unassign", first["id"])
    assert "web; zone Europe/Berlin" in typed("maintenance", "machine", machine.id)


def test_freezes_by_command(typed: Typed) -> None:
    typed("maintenance", "freeze", "turn", "2026-12-18", "2027-01-06", "--yearly")
    assert typed.rows("maintenance", "freezes") == [
        {"name": "turn", "first": "2026-12-18", "last": "2027-01-06", "yearly": True}
    ]
    assert "2027-01-06" in typed("maintenance", "freezes")
    typed("maintenance", "freeze", "back", "2026-12-18", "2026-12-17", code=4)
    typed("maintenance", "freeze", "day", "tomorrow", "2026-12-17", code=2)
    typed("maintenance", "thaw", "turn")
    typed("maintenance", "thaw", "turn", code=1)
    assert typed.rows("maintenance", "freezes") == []


def test_a_window_gets_its_word_and_shows_its_outcome(server: Running, typed: Typed, tmp_path: Path) -> None:
    file = tmp_path / "asked.toml"
    file.write_text('zone = "UTC"\nevent_minutes = 1440')
    typed("maintenance", "put", "default", str(file))
    machine = simple(server)
    machine.check_in()
    window = typed.rows("maintenance", "windows")[-1]
    assert window["state"] == "asked"
    (answered,) = typed.rows("maintenance", "answer", window["id"], "--deny", "--reason", "the backup runs")
    assert (answered["state"], answered["reason"]) == ("denied", "the backup runs")
    server.clock.ahead += timedelta(hours=40)
    assert close(server.app.state.context) >= 1
    assert "0 of 1 machines changed, 0 actions succeeded" in typed("maintenance", "windows")
    typed("maintenance", "answer", window["id"], "--allow", code=4)  # it is over
