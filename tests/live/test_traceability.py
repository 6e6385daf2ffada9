"""docs/traceability.md: what is shown of a Linux machine from the kernel and from process memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hotmend.cli.main import run
from hotmend.package.encode import encode
from tests.live.conftest import SOURCE, Target
from tests.live.handmade import compile_target, make_hotpatch
from tests.traceability import ROOT, Row, stands, table

pytestmark = pytest.mark.live


class _Machine:
    """This machine, with one process that has an old build."""

    def __init__(self, target: Target, capsys: pytest.CaptureFixture[str], log: Path) -> None:
        self._target, self._capsys, self._log = target, capsys, log

    def do(self, *words: str, log: bool = False) -> tuple[int, list[Any]]:
        """Run a command about the process; return exit code and objects."""
        code = run([*words, "--pid", str(self._target.pid), *(["--audit", str(self._log)] if log else []), "--json"])
        return code, [json.loads(line) for line in self._capsys.readouterr().out.splitlines()]

    def changed(self, line: str, asked: str, *words: str) -> Row:
        """Change the process, and ask it for its answers."""
        code, (found,) = self.do(*words, log=True)
        answers = self._target.ask("a")
        told = f"{found['state']}, functions redirected {found['redirected']}; exit code {code}"
        return Row(line, asked, _typed(*words), f"{told}; the process now answers {answers}")

    def shown(self, line: str, asked: str) -> Row:
        """Read back what is in the process."""
        code, (found,) = self.do("status")
        told = [
            f"{each['name']} {'active' if each['active'] else 'inactive'} ({each['state']}), {' '.join(each['cves'])}"
            for each in found["hotpatches"]
        ]
        return Row(line, asked, _typed("status"), f"{'; '.join(told) or 'nothing'}; exit code {code}")

    def doctor(self) -> Row:
        """Say what the kernel lets hotmend do."""
        code = run(["doctor", "--json"])
        found = [json.loads(line) for line in self._capsys.readouterr().out.splitlines()]
        needed = ", ".join(f"{each['name']}: {each['found']}" for each in found if each["needed"])
        return Row("S11-S12", "What the kernel lets hotmend do", "hotmend doctor --json", f"{needed}; exit code {code}")

    def logged(self) -> Row:
        """Say what the log has."""
        assert run(["audit", str(self._log), "--json"]) == 0
        found = [json.loads(line) for line in self._capsys.readouterr().out.splitlines()]
        *lines, check = found
        told = ", ".join(dict.fromkeys(f"{each['deed']} {each['phase']} {each['outcome']}".strip() for each in lines))
        return Row("S40", "What was done here", "hotmend audit LOG --json", f"{told}; sound: {check['sound']}")


def _typed(*words: str) -> str:
    names = (Path(word).name for word in words)
    return f"hotmend {' '.join(names)} --pid PID --json"


def _rows(machine: _Machine, hotpatch: Path) -> Iterator[Row]:
    yield machine.doctor()
    yield machine.shown("S44", "Before: what is in the process")
    yield machine.changed("S38", "Changed while it runs", "apply", str(hotpatch))
    yield machine.shown("S44", "From process memory, with no database")
    yield machine.changed("S43", "Asked for again: nothing to do", "apply", str(hotpatch))
    yield machine.changed("S45", "Taken back while it runs", "revert", "--all")
    yield machine.shown("S45", "... and that it was there is still read back")
    yield machine.logged()


def _unknown(target: Target, capsys: pytest.CaptureFixture[str], hotpatch: Path) -> Row:
    """Offer the hotpatch to a process of another build."""
    words = ("apply", str(hotpatch))
    code = run([*words, "--pid", str(target.pid), "--json"])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    states = [" ".join(dict.fromkeys([each["state"], *(why["code"] for why in each["reasons"])])) for each in found]
    told = "; ".join(states)
    told = f"{told}; exit code {code}; the process answers {target.ask('a')}"
    return Row("S10", "A build that the hotpatch was not made for", _typed(*words), told)


def test_the_page_has_what_is_read_back_here(
    program: Path, start: Callable[..., Target], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "target.hotpatch"
    file.write_bytes(encode(make_hotpatch(program, {"first": 2, "second": 2, "slow": 2, "high": 2}, "target")))
    rows = list(_rows(_Machine(start(program, "0"), capsys, tmp_path / "audit.jsonl"), file))
    other = compile_target(SOURCE, tmp_path / "other", "-Wl,--build-id=sha1")
    rows.append(_unknown(start(other, "0"), capsys, file))
    page = ROOT / "docs" / "traceability.md"
    assert stands(page, "linux", table(rows)), "the page was out of date and is written anew: read what changed"
