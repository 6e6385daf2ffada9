"""docs/traceability.md: what the commands of `hotmend arc` do against the routes, in both languages."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hotmend.cli.main import run
from tests.arc.cloud import TOKEN, WHERE, Cloud, cloud
from tests.traceability import ROOT, Row, stands, table

FACTS = ROOT / "tests" / "data" / "facts" / "october-2025.json"


class _Asked:
    """One control plane, asked in one language."""

    def __init__(self, azure: Cloud, folder: Path, language: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.azure, self._folder, self._language, self._capsys = azure, folder, language, capsys

    def facts(self, name: str, **changes: Any) -> str:
        """Write facts of today, changed."""
        facts, now = json.loads(FACTS.read_bytes()), datetime.now(UTC).isoformat()
        path = self._folder / name
        path.write_text(json.dumps({**facts, "collected_at": now, "assessed_at": now, **changes}))
        return str(path)

    def __call__(self, line: str, asked: str, *arguments: str) -> tuple[Row, str]:
        """Return a row without what was said, and what was said."""
        wait = "0.5" if self.azure.machines.stuck else "60"
        common = ("arc", "--id", WHERE.id, "--endpoint", self.azure.endpoint, "--poll", "0.05", "--wait", wait)
        code = run([*common, *arguments, "--language", self._language, "--json"])
        said = self._capsys.readouterr()
        answer = json.loads(said.out)
        words = (Path(word).name if word.startswith("/") else word for word in arguments)
        command = f"{shlex.join(['hotmend', 'arc', *words])} --json"
        sentences = [" ".join(said.err.split()), *(each["sentence"] for each in answer.get("reasons", ()))]
        return Row(line, asked, command, f"{_same(answer)}; exit code {code}"), " ".join(filter(None, sentences))


def _same(answer: dict[str, Any]) -> str:
    """Return what is the same in all languages, and at all times."""
    names = ("agent_status", "enablement", "subscription", "changed", "status", "reboot_status")
    told = [f"{name} {answer[name]}" for name in names if answer.get(name) not in (None, "")]
    told += [f"{name} {count}" for name, count in answer.get("counts", {}).items() if count]
    for each in answer.get("reasons", ()):
        subjects = "; ".join(subject.partition(": ")[0] for subject in each["subjects"])
        told.append(each["code"] + (f" ({subjects})" if subjects else ""))
    return ", ".join(told)


def _asks(asked: _Asked) -> Iterator[tuple[Row, str]]:
    leaves = {"id": "KB5070881", "title": "2025-10 Cumulative Update", "classification": "Security Updates"}
    stays = json.loads(FACTS.read_bytes())["offered"]
    windows = json.loads(FACTS.read_bytes())["windows"]
    without = asked.facts("without.json", windows={**windows, "vsm": {**windows["vsm"], "status": 1}})
    good, bad = asked.facts("good.json"), asked.facts("bad.json", offered=[*stays, leaves])
    yield asked("S16-S17", "Connected, not enabled", "status")
    yield asked("S20", "Enabling needs the prerequisites", "enable", "--facts", without)
    machines = asked.azure.machines
    before, machines.stuck = machines.machines[WHERE], True
    yield asked("S21-S22", "Pending for longer than it takes", "enable")
    machines.machines[WHERE], machines.stuck = before, False
    yield asked("S20", "Enabled: a subscription", "enable")
    yield asked("S23", "What the portal says", "status")
    yield asked("S41-S42", "Assess now", "assess")
    yield asked("S43", "Install now, without knowing what", "install")
    yield asked("S43, S46", "... an update would leave the line", "install", "--facts", bad)
    yield asked("S43", "... excluded", "install", "--facts", bad, "--exclude", "KB5070881", "--reboot", "if-required")
    yield asked("S43", "... all of it keeps the line", "install", "--facts", good)
    yield asked("S19", "No subscription any more", "disable")


def test_the_page_has_what_is_asked_of_azure_arc(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOTMEND_ARC_TOKEN", TOKEN)
    told = []
    for language in ("en", "de"):
        with cloud() as azure:
            told.append(list(_asks(_Asked(azure, tmp_path, language, capsys))))
    rows = []
    for (row, english), (same, german) in zip(*told, strict=True):
        assert row == same, "the same in both languages"
        said = [english] if english == german else [english, german]
        rows.append(Row(row.line, row.asked, row.command, "\n".join(filter(None, [row.observed, *said]))))
    page = ROOT / "docs" / "traceability.md"
    assert stands(page, "arc", table(rows)), "the page was out of date and is written anew: read what changed"
