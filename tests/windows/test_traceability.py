"""docs/traceability.md: what the commands of `hotmend windows` do where they run, in both languages."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.traceability import ROOT, Row, stands, table
from tests.windows.conftest import GUARD, october_server
from tests.windows.server import update
from tests.windows.test_remedies import ADMX, DEVICE_GUARD, MUTEX, OVERRIDE, OVERRIDES, POLICY, SUBSCRIPTIONS
from tests.windows.wine import Wine, windows_path

pytestmark = pytest.mark.wine

AU = rf"{POLICY}\AU"
_LEAVES = update("KB5070881", "2025-10 Cumulative Update (KB5070881)")
_JULY = update("KB5062553", "2025-07 Cumulative Update (KB5062553)", superseded=True)


@dataclass(frozen=True, slots=True)
class _Seen:
    """One observation: what is the same in both languages, and what is said in one of them."""

    line: str
    asked: str
    command: str
    same: str
    said: str


class _Watched:
    """A server of October 2025, and what its commands answer in one language."""

    def __init__(self, wine: Wine, folder: Path, language: str) -> None:
        folder.mkdir()
        wine.reset()
        wine.up()
        self.server, self.folder, self.language = october_server(wine, folder), folder, language

    def do(self, *arguments: str) -> tuple[int, Any, str]:
        """Run a command; return exit code, its answer and what it remarks."""
        done = self.server.run(*arguments, "--json", "--language", self.language)
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        answer = json.loads(done.stdout.decode().splitlines()[-1])
        return done.returncode, answer, " ".join(done.stderr.decode().split())

    def vsm(self, status: int) -> None:
        """Let CIM answer this status."""
        guard = {"VirtualizationBasedSecurityStatus": status, "SecurityServicesConfigured": [1]}
        self.server.change(cim={**self.server.data["cim"], GUARD: [guard]})

    def remedy(self, line: str, asked: str, *arguments: str) -> _Seen:
        """Do something with a remedy."""
        code, answer, _ = self.do(*arguments)
        codes = "".join(f", {each['code']}" for each in answer["reasons"])
        same = f"{answer['standing']}, changed {answer['changed']}{codes}; exit code {code}"
        sentences = [*answer["sentences"], *(each["sentence"] for each in answer["reasons"])]
        return _Seen(line, asked, _typed(*arguments), same, " ".join(sentences))

    def work(self, line: str, asked: str, *arguments: str) -> _Seen:
        """Install or uninstall."""
        code, answer, noted = self.do(*arguments)
        became = ", ".join(f"{each['id']} {each['result']} {each['result_code']}" for each in answer["updates"])
        reboot = f"reboot due: {'yes' if answer['reboot_due'] else 'no'}"
        codes = ", ".join(each["code"] for each in answer["reasons"])
        same = f"{became or codes or 'nothing'}; {reboot}; exit code {code}"
        return _Seen(
            line, asked, _typed(*arguments), same, " ".join([noted, *(r["sentence"] for r in answer["reasons"])])
        )

    def rollback(self, asked: str) -> _Seen:
        """Do the step of a rollback that comes next."""
        code, answer, _ = self.do("rollback")
        same = f"{answer['state']}, remove {answer['remove']}, baseline {answer['baseline']}; exit code {code}"
        return _Seen("S45", asked, _typed("rollback"), same, " ".join(answer["sentences"]))


def _typed(*arguments: str) -> str:
    words = (Path(word.replace("\\", "/")).name if word.startswith("Z:") else word for word in arguments)
    return f"{shlex.join(['hotmend', 'windows', *words])} --json"


def _secure_mode(watched: _Watched) -> Iterator[_Seen]:
    server = watched.server
    watched.vsm(0)
    server.set({r"SYSTEM\CurrentControlSet\Control\SecureBoot\State": {"UEFISecureBootEnabled": 0}})
    yield watched.remedy("S12", "Without Secure Boot nothing is changed", "apply", "vsm")
    server.set({r"SYSTEM\CurrentControlSet\Control\SecureBoot\State": {"UEFISecureBootEnabled": 1}})
    yield watched.remedy("S13", "Switch virtual secure mode on", "apply", "vsm")
    again = watched.remedy("S13", "A second run changes nothing", "apply", "vsm")
    yield _with(again, f"DeviceGuard has {server.get(DEVICE_GUARD)}")
    server.reboot()
    watched.vsm(1)
    yield watched.remedy("S14-S15", "Booted, configured, does not run", "verify", "vsm")
    watched.vsm(2)
    yield watched.remedy("S13", "Booted, and status 2", "verify", "vsm")


def _policy(watched: _Watched) -> Iterator[_Seen]:
    server, made = watched.server, watched.folder / "made.reg"
    server.set({AU: {"ScheduledInstallDay": 3, "UseWUServer": 1}})
    server.set({POLICY: {"WUServer": "http://wsus.example:8530"}})
    facts = json.loads(server.run("facts", "--no-network").stdout)
    managers = ", ".join(f"{name} ({text})" for name, text in facts["managers"].items())
    yield _Seen("S35-S36", "Other managers are seen", "hotmend windows facts --no-network", managers, "")
    (watched.folder / "notify.toml").write_text('mode = "notify"\nexclude = ["*Preview*"]\n')
    arguments = ("policy", "--policy", windows_path(watched.folder / "notify.toml"), "-o", windows_path(made))
    done = server.run(*arguments, "--language", watched.language)
    typed = _typed(*arguments).removesuffix(" --json")
    emitted = ", ".join(line for line in made.read_text("utf-16").splitlines() if line.startswith('"'))
    yield _Seen("S35-S36", "A policy as a registration file", typed, emitted, " ".join(done.stderr.decode().split()))
    apply = ("apply", "client-policy", "--reg", windows_path(made))
    yield watched.remedy("S35-S37", "... applied: ask before installing", *apply)
    undone = watched.remedy("S35-S36", "... undone", "undo", "client-policy")
    yield _with(undone, f"AU has {server.get(AU)}")
    server.environment["HOTMEND_STATE"] = windows_path(server.state)
    menu = (str(server.wine.python), "-m", "hotmend", "menu", "--language", watched.language)
    done = server.wine.feed(b"99\n", *menu, **server.environment)
    numbered = dict.fromkeys(line.strip() for line in done.stdout.decode().splitlines() if line.strip()[:1].isdigit())
    yield _Seen("S36", "A menu without a desktop", "hotmend menu", f"exit code {done.returncode}", "; ".join(numbered))


def _updates(watched: _Watched) -> Iterator[_Seen]:
    server = watched.server
    server.change(updates=[*server.data["updates"], _LEAVES])
    begun = datetime.now(UTC) - timedelta(seconds=1)
    code, answer, _ = watched.do("assess")
    at = datetime.fromisoformat(answer["at"])
    assert begun <= at <= datetime.now(UTC) + timedelta(seconds=1)
    counts = ", ".join(f"{name} {count}" for name, count in answer["counts"].items() if count)
    yield _Seen("S41-S42", "Assess now, by classification", _typed("assess"), f"{counts}; exit code {code}", "")
    deeds = ", ".join(
        f"{each['id']} {each['deed']}, {each['outcome'] or 'not of the line'}" for each in answer["offered"]
    )
    whys = " ".join(dict.fromkeys(each["why"] for each in answer["offered"]))
    yield _Seen("S39", "Other classes are listed, and what each would do to the line", _typed("assess"), deeds, whys)
    level = f"line {answer['line']}, baseline {answer['baseline']}"
    yield _Seen("S44", "Level of the machine", _typed("assess"), level, "")
    yield watched.work("S43, S46", "Install now: what leaves the line keeps all out", "install")
    excluded = ("install", "--exclude", "KB5070881", "--include", "KB5070881")
    definitions = ("install", "--without-reboot", "--classification", "definition")
    yield watched.work("S43", "Only what needs no reboot", *definitions)
    yield watched.work("S43", "Excludes win over includes", *excluded)
    done = server.run("history", "--json").stdout.decode().splitlines()
    entries = [json.loads(line) for line in done]
    assert [each["at"] for each in entries] == sorted((each["at"] for each in entries), reverse=True)
    told = ", ".join(
        f"{' '.join(each['kbs'])} {each['operation']} {each['result']}" + (" by hotmend" if each["client"] else "")
        for each in entries
    )
    yield _Seen("S40", "The whole history, newest first", _typed("history"), told, "")
    hotpatches = ", ".join(each["kbs"][0] for each in entries if each["hotpatch"])
    shown = server.run("history", "--language", watched.language).stdout.decode().splitlines()
    yield _Seen("S23", "Hotpatches in the history", "hotmend windows history", hotpatches, shown[0].strip())
    server.reboot()
    shown = server.run("history", "--actions", "--language", watched.language).stdout.decode().splitlines()
    states = sorted({line.rpartition(": ")[2] for line in shown if not line.startswith(" ")})
    yield _Seen("S40", "What hotmend did", "hotmend windows history --actions", "after the boot", ", ".join(states))


def _rollback(watched: _Watched) -> Iterator[_Seen]:
    server = watched.server
    latest = {**server.stored("KB5066835"), "blocks_until_boot": True}
    server.change(updates=[latest, _JULY], history=[e for e in server.data["history"] if "KB507" not in e["title"]])
    yield watched.rollback("1: the latest update is taken away")
    server.reboot()
    yield watched.rollback("2: the last working baseline is installed")
    server.reboot()
    yield watched.rollback("3: booted, and proven")
    yield watched.work("S45", "What was rolled back stays away", "install", "KB5066835")


def _licence(watched: _Watched) -> Iterator[_Seen]:
    server = watched.server
    server.set({SUBSCRIPTIONS: {MUTEX: "held", "other": 5}, OVERRIDES: {"1234": 7}})
    first, second = "licence-bug-option-1", "licence-bug-option-2"
    yield watched.remedy("S48", "Option 1 without its package", "apply", first)
    folder = server.wine.drive / "windows" / "PolicyDefinitions"
    folder.mkdir(exist_ok=True)
    definition = folder / "KB5062660_251028_18301.admx"
    definition.write_text(ADMX)
    try:
        yield watched.remedy("S48", "Policy set; the value stays until the reboot", "apply", first)
        server.reboot()
        seen = watched.remedy("S48", "After the reboot the value goes, and not before", "apply", first)
        yield _with(seen, f"Subscriptions has {server.get(SUBSCRIPTIONS)}")
        yield watched.remedy("S48", "Done, and booted later than the change", "verify", first)
        watched.do("undo", first)
    finally:
        definition.unlink()
    server.begin_service()
    seen = watched.remedy("S49", "Option 2: service, override, value", "apply", second)
    running = "RUNNING" in server.service("query")
    kept = {name: value for name, value in server.get(OVERRIDES).items() if name in {"1234", OVERRIDE}}
    yield _with(seen, f"HIMDS {'runs' if running else 'stopped'}; Overrides has {kept}")
    yield watched.remedy("S49", "Not done before the reboot", "verify", second)
    server.reboot()
    yield watched.remedy("S49", "Done after it", "verify", second)
    yield watched.remedy("S49", "Undo puts back what was there", "undo", second)


def _with(seen: _Seen, more: str) -> _Seen:
    return _Seen(seen.line, seen.asked, seen.command, f"{seen.same}; {more}", seen.said)


def _row(english: _Seen, german: _Seen) -> Row:
    assert (english.same, english.command) == (german.same, german.command), "the same in both languages"
    assert english.same, english
    said = [english.said] if english.said == german.said else [english.said, german.said]
    return Row(english.line, english.asked, english.command, "\n".join(filter(None, [english.same, *said])))


def test_the_page_has_what_the_commands_do_on_windows(wine: Wine, tmp_path: Path) -> None:
    rows: list[Row] = []
    for part in (_secure_mode, _policy, _updates, _rollback, _licence):
        name = part.__name__.strip("_")
        told = [list(part(_Watched(wine, tmp_path / f"{name}-{language}", language))) for language in ("en", "de")]
        rows += [_row(*pair) for pair in zip(*told, strict=True)]
    german = [row for row in rows if row.observed.count("\n") == 2]
    assert len(german) > len(rows) // 2
    page = ROOT / "docs" / "traceability.md"
    assert stands(page, "windows", table(rows)), "the page was out of date and is written anew: read what changed"
