"""`hotmend apply`, `revert`, `status` and `ps`: options, exit codes, output. Processes are put aside, or our own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hotmend.cli import apply as apply_module
from hotmend.cli import revert as revert_module
from hotmend.cli.audit_option import AUDIT_VARIABLE
from hotmend.cli.change import exit_code
from hotmend.cli.main import run
from hotmend.cli.output import ExitCode
from hotmend.live.chain import DEFAULT_FILE
from hotmend.live.driver import Options, ProcessResult, ShadowReport
from hotmend.live.gate import hotpatch_id
from hotmend.model.hotpatch import Hotpatch
from hotmend.model.verdict import Reason, refusal
from hotmend.package.encode import encode
from tests.hotpatches import sample

Capture = pytest.CaptureFixture[str]
AUDIT = os.environ.get(AUDIT_VARIABLE, str(DEFAULT_FILE))
Asked = list[tuple[Any, Any, Options]]


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "h.hotpatch").write_bytes(encode(sample()))
    return str(tmp_path / "h.hotpatch")


def result(pid: int, state: str, *reasons: Reason) -> ProcessResult:
    shadow = ShadowReport("server", "ab12", 0x7F00_0000_0000, 0x7F00_0000_0000, 0x7F00_0000_5000)
    return ProcessResult(pid, "server", 4711, 3, 2, 123.4, 1, (shadow,), state, reasons, 0x5000)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Asked]:
    """Return a function that says what the driver will report; it returns the list of what was asked."""

    def prepare(*results: ProcessResult) -> Asked:
        asked: Asked = []

        def change(
            what: Sequence[Hotpatch] | Sequence[str] | None,
            pids: Sequence[int] | None,
            options: Options,
            progress: Callable[[int, int], None],
        ) -> list[ProcessResult]:
            asked.append((what, pids, options))
            for number in range(len(results)):
                progress(number + 1, len(results))
            return list(results)

        monkeypatch.setattr(apply_module, "apply", change)
        monkeypatch.setattr(revert_module, "revert", change)
        return asked

    return prepare


def test_apply_passes_on_what_it_was_told(file: str, driver: Callable[..., Asked]) -> None:
    asked = driver(result(7, "would-apply"))
    arguments = ["--pid", "7", "--pid", "8", "--pid", "7", "--dry-run", "--deadline", "2.5", "--max-pause", "800"]
    assert run(["apply", file, *arguments]) == 0
    assert asked == [((sample(),), [7, 8], Options(2.5, 800, dry_run=True, audit=AUDIT))]


def test_apply_is_strict_unless_told(file: str, driver: Callable[..., Asked]) -> None:
    asked = driver(result(7, "applied"))
    assert [run(["apply", file, *more]) for more in ([], ["--consistency", "strict"], ["--consistency", "lazy"])] == [
        0
    ] * 3
    assert [options.lazy for _, _, options in asked] == [False, False, True]


def test_apply_means_all_processes_unless_some_are_named(file: str, driver: Callable[..., Asked]) -> None:
    asked = driver(result(7, "applied"))
    assert run(["apply", file]) == 0
    assert asked[0][1] is None


def test_json_reports_each_process(file: str, driver: Callable[..., Asked], capfd: Capture) -> None:
    driver(result(7, "applied"), result(8, "refused", refusal("function-active", "It is active.", "f in thread 8")))
    assert run(["apply", file, "--json"]) == 4
    one, two = (json.loads(line) for line in capfd.readouterr().out.splitlines())
    assert (one["pid"], one["state"], one["threads"], one["attempts"], one["pause_us"]) == (7, "applied", 3, 2, 123.4)
    assert one["redirected"] == 1
    assert one["shadows"][0] == {
        "name": "server", "hotpatch_id": "ab12", "load_address": 0x7F00_0000_0000, "size": 0x5000
    }  # fmt: skip
    assert two["reasons"][0]["subjects"] == ["f in thread 8"]


def test_a_person_reads_the_refusal(file: str, driver: Callable[..., Asked], capfd: Capture) -> None:
    driver(result(8, "refused", refusal("function-active", "It is active.", "f in thread 8")))
    assert run(["apply", file]) == 4
    printed = capfd.readouterr().out
    assert "refused: It is active. [function-active]" in printed
    assert "f in thread 8" in printed


def test_no_process_is_3_and_says_so(file: str, driver: Callable[..., Asked], capfd: Capture) -> None:
    driver()
    assert run(["apply", file]) == 3
    assert "No process maps the old build of server" in capfd.readouterr().err


def test_a_named_process_of_another_build_is_3(file: str, driver: Callable[..., Asked], capfd: Capture) -> None:
    driver(result(8, "refused", refusal("not-mapped", "It maps none.")))
    assert run(["apply", file, "--pid", "8", "--json"]) == 3
    assert json.loads(capfd.readouterr().out)["state"] == "not-mapped"


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ({"applied"}, ExitCode.DONE),
        ({"applied", "unchanged"}, ExitCode.DONE),
        ({"unchanged", "not-mapped"}, ExitCode.NOTHING_TO_DO),
        (set(), ExitCode.NOTHING_TO_DO),
        ({"applied", "refused"}, ExitCode.REFUSED),
        ({"applied", "refused", "gone"}, ExitCode.FAILED),
        ({"reverted"}, ExitCode.DONE),
        ({"would-revert"}, ExitCode.DONE),
    ],
)
def test_the_worst_process_decides_the_exit_code(states: set[str], code: ExitCode) -> None:
    assert exit_code(states) is code


def test_revert_takes_back_what_the_file_holds(file: str, driver: Callable[..., Asked]) -> None:
    asked = driver(result(7, "reverted"))
    assert run(["revert", file, "--pid", "7"]) == 0
    assert asked == [([hotpatch_id(sample())], [7], Options(audit=AUDIT))]


def test_revert_all_takes_back_everything(driver: Callable[..., Asked]) -> None:
    asked = driver(result(7, "reverted"))
    assert run(["revert", "--all"]) == 0
    assert asked == [(None, None, Options(audit=AUDIT))]


def test_revert_does_not_report_processes_with_something_else(
    file: str, driver: Callable[..., Asked], capfd: Capture
) -> None:
    driver(result(7, "unchanged"))
    assert run(["revert", file, "--json"]) == 3
    printed, said = capfd.readouterr()
    assert printed == ""
    assert "not applied in any process" in said


@pytest.mark.parametrize("both", [True, False])
def test_revert_wants_either_a_file_or_all(file: str, both: bool, capfd: Capture) -> None:
    assert run(["revert", *([file, "--all"] if both else [])]) == 2
    assert "either FILE or --all" in capfd.readouterr().err


def test_status_of_a_process_without_hotpatches(capfd: Capture) -> None:
    assert run(["status", "--pid", str(os.getpid()), "--json"]) == 0
    shape = json.loads(capfd.readouterr().out)
    assert (shape["pid"], shape["hotpatches"]) == (os.getpid(), [])
    assert run(["status", "--pid", str(os.getpid())]) == 0
    assert "Nothing is applied." in capfd.readouterr().err


def test_status_of_a_process_that_is_not_there_is_1(capfd: Capture) -> None:
    assert run(["status", "--pid", str(2**22 - 1)]) == 1
    assert "process" in capfd.readouterr().err


def test_ps_lists_what_a_process_maps(capfd: Capture) -> None:
    assert run(["ps", "--pid", str(os.getpid()), "--json"]) == 0
    shape = json.loads(capfd.readouterr().out)
    assert shape["pid"] == os.getpid()
    (libc,) = (image for image in shape["images"] if "libc.so" in image["path"])
    assert libc["state"] == "current"
    assert libc["build_id"] == libc["disk_build_id"]
    assert run(["ps", "--pid", str(os.getpid())]) == 0
    assert "libc.so" in capfd.readouterr().out


def test_repair_of_a_process_with_nothing_left(capsys: Capture) -> None:
    assert run(["repair", "--json", "--pid", str(os.getpid())]) == 3
    (shape,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (shape["pid"], shape["state"], shape["reasons"]) == (os.getpid(), "unchanged", [])
