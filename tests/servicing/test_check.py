"""`hotmend check`: all answers through the command, in both languages."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from hotmend.cli.main import run
from hotmend.servicing.facts_json import facts_encode
from tests.servicing.machines import changed, linux, machine, windows

DATA = Path(__file__).parents[1] / "data" / "facts"
OCTOBER = str(DATA / "october-2025.json")


def _ask(capfd: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    assert run(["check", *arguments, "--json"]) == code
    return json.loads(capfd.readouterr().out)


def test_all_questions_are_answered(capfd: pytest.CaptureFixture[str]) -> None:
    found = _ask(capfd, OCTOBER, "--at", "2025-10-26T12:00:00Z")
    assert (found["product"], found["eligible"], found["enrollment"]) == ("windows-server-2025", True, "ENABLED")
    assert (found["level"]["line"], found["level"]["baseline"]["id"]) == ("on", "KB5066835")
    assert [each["day"] for each in found["forecast"]["due"]] == ["2025-11-11", "2025-12-09", "2026-01-13"]
    assert [each["day"] for each in found["forecast"]["due_with_workaround"]] == ["2025-10-26", "2026-01-13"]
    assert found["forecast"]["next_hotpatch"] == "2025-11-11"
    assert (found["avoided"]["reboots"], found["avoided"]["restarts"]) == (2, 0)
    assert [each["deed"] for each in found["maintenance"]["choices"]] == ["install", "list"]
    assert found["managers"] == {"azure-arc": "agent 1.57 connected"}
    assert found["origin"] == "recorded"


@pytest.mark.parametrize(
    ("updates", "code", "outcomes", "line"),
    [
        (["KB5070893"], 0, ["stays-on-line"], "on"),
        (["KB5070881"], 4, ["leaves-line"], "off"),
        (["KB5070881", "KB5070893"], 4, ["leaves-line", "stays-off-line"], "off"),
        (["KB5068966"], 0, ["stays-on-line"], "on"),
        (["KB5073379"], 0, ["stays-on-line"], "on"),
        (["KB5099999"], 4, ["unknown"], "unknown"),
        (["KB5066835"], 0, ["already-installed"], "on"),
    ],
)
def test_a_verdict_before_an_installation(
    updates: list[str], code: int, outcomes: list[str], line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    options = [part for each in updates for part in ("--if-installed", each)]
    found = _ask(capfd, OCTOBER, "--at", "2025-10-26T12:00:00Z", *options, code=code)
    assert [each["outcome"] for each in found["effects"]] == outcomes
    assert found["level_after"]["line"] == line


def test_a_policy_decides_windows_and_updates(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(
        """
mode = "automatic"
include = ["KB890830"]
exclude = ["KB5070893"]
[[window]]
name = "second Tuesday plus 5 days"
rule = "FREQ=MONTHLY;BYDAY=2TU"
start = 2025-01-01T02:00:00
minutes = 180
days_after = 5
[[freeze]]
name = "November"
first = 2025-11-01
last = 2025-11-30
"""
    )
    found = _ask(capfd, OCTOBER, "--at", "2025-10-26T12:00:00Z", "--policy", str(policy))["maintenance"]
    assert [each["start"] for each in found["windows"]] == [
        "2025-12-14T02:00:00+01:00",
        "2026-01-18T02:00:00+01:00",
        "2026-02-15T02:00:00+01:00",
    ]
    assert [(each["id"], each["deed"]) for each in found["choices"]] == [
        ("KB5070893", "exclude"),
        ("KB890830", "install"),
    ]
    policy.write_text("mode = 'sometimes'")
    assert run(["check", OCTOBER, "--policy", str(policy)]) == 1
    assert run(["check", OCTOBER, "--policy", str(tmp_path / "nothing")]) == 1


def test_releases_of_further_channels_are_read(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    calendar = tmp_path / "debian.csv"
    calendar.write_text(
        "product,month,label,type,restart_required,status,release_date,kb,build,requires_baseline_kb,hotpatch_line,"
        "hotpatch_line_basis,confidence,source,note,images\n"
        "Debian 12,2026-10,2026.10 B,baseline,yes,released,2026-10-13,2026-10,,,on,documented,high,manifest,,\n"
    )
    facts = [str(DATA / "debian.json"), "--at", "2026-11-28T09:00:00Z"]
    assert _ask(capfd, *facts)["level"]["causes"][0]["code"] == "baseline-not-in-channel"
    found = _ask(capfd, *facts, "--calendar", str(calendar))
    assert (found["level"]["line"], found["level"]["baseline"]["id"]) == ("on", "2026-10")
    assert [(each["day"], each["need"]) for each in found["forecast"]["due"]] == [
        ("2026-11-28", "reboot"),
        ("2027-01-12", "reboot"),
    ]


_ENGLISH = re.compile(
    r"\b(the|is|not|of|and|or|machine|updates? (is|of)|needs|known|installed|reboot|restart)\b", re.IGNORECASE
)
_NAMES = re.compile(r"\[[\w-]+\]|`[^`]*`|azure-arc|VirtualizationBasedSecurityStatus")


def _printed(capfd: pytest.CaptureFixture[str], path: str, *arguments: str) -> str:
    run(["check", path, "--language", "de", *arguments])
    return capfd.readouterr().out


def test_in_german_everything_is_german(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    unknown = tmp_path / "unknown.json"
    unknown.write_text(
        '{"facts": 1, "collected_at": "2025-10-20T00:00:00Z", "windows":'
        ' {"build": 26100, "edition": "ServerDatacenter", "installation": "Server"}}'
    )
    nothing = tmp_path / "nothing.json"
    nothing.write_bytes(
        facts_encode(
            changed(
                machine(windows(revision=None)),
                environment="azure",
                time_zone=None,
                windows__preview=True,
                windows__vsm__status=0,
                windows__vsm__uefi=False,
                windows__vsm__secure_boot=False,
                windows__scale_set="uniform",
                windows__image__kind="custom",
                windows__arc__connected=False,
                windows__arc__endpoints={"x.example": False},
                windows__hotpatch__feature_licence_lapsed=True,
            )
        )
    )
    debian = tmp_path / "debian.json"
    debian.write_bytes(
        facts_encode(machine(linux(root=False, ptrace_scope=3, memory_writable=False, seccomp_readable=False)))
    )
    commands = (
        (OCTOBER, "--if-installed", "KB5070881", "--if-installed", "KB5066782", "--at", "2025-10-26T12:00:00Z"),
        (str(unknown), "--if-installed", "KB5068966", "--at", "2025-10-26T12:00:00Z"),
        (str(nothing), "--at", "2025-11-20T12:00:00Z"),
        (str(DATA / "debian.json"),),
        (str(debian), "--at", "2026-11-20T12:00:00Z"),
    )
    for path, *arguments in commands:
        for line in _printed(capfd, path, *arguments).splitlines():
            typed = line.strip()
            if line.startswith("       ") and not typed.startswith(("[", "Risiko")):
                continue  # a command to type
            assert not _ENGLISH.search(_NAMES.sub("", typed)), line


@pytest.mark.parametrize("content", ["", "[]", '{"facts": 1}', '{"facts": 2, "collected_at": "2025-10-20T00:00:00Z"}'])
def test_what_is_no_facts_is_an_error_with_a_hint(
    content: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "facts.json"
    path.write_text(content)
    assert run(["check", str(path)]) == 1
    assert "docs/facts.md describes the form" in capfd.readouterr().err
    assert run(["check", str(tmp_path / "nothing.json")]) == 1
    assert run(["check", OCTOBER, "--at", "yesterday"]) == 2
