"""`hotmend doctor`: what it says is what this machine does."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from hotmend.cli.main import run
from hotmend.linux import window
from hotmend.linux.machine_facts import machine_checks
from hotmend.linux.probes import Check, Found, own_checks, probe, specimen_checks
from hotmend.linux.specimen import specimen
from hotmend.live.driver import Options, apply, repair
from hotmend.live.machine import Step
from hotmend.live.transaction import Transaction
from tests.live.conftest import Target
from tests.live.handmade import make_hotpatch

WITHOUT_POWER = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
for capability in range(41): libc.prctl(24, capability, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-m", "hotmend", "doctor", "--json"])
"""


def _objects(text: str) -> dict[str, dict[str, object]]:
    return {one["name"]: one for one in map(msgspec.json.decode, text.splitlines())}


def test_where_hotmend_works_everything_needed_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    """The other live tests apply hotpatches here, so a needed thing that is not found is an error here."""
    assert run(["doctor", "--json"]) == 0
    found = _objects(capsys.readouterr().out)
    assert {name for name, one in found.items() if one["needed"] and one["found"] != "yes"} == set()
    assert {"stop", "write-code", "remote-call", "seccomp-filters", "kernel"} <= found.keys()
    assert all(one["remedy"] for one in found.values() if one["found"] != "yes")


def test_without_capabilities() -> None:
    """Without any capability what is lacking is said: no filters are read, and no real-time priority is given."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_POWER], capture_output=True, text=True, env=dict(os.environ), check=False
    )
    found = _objects(done.stdout)
    assert found["capabilities"]["found"] == "no"
    assert found["seccomp-filters"]["found"] == "no"
    assert "CAP_SYS_ADMIN" in str(found["seccomp-filters"]["remedy"])
    assert found["real-time"]["found"] == "no"


def test_in_a_container() -> None:
    command = [
        "unshare",
        "-m",
        "-p",
        "-U",
        "-r",
        "-f",
        "--mount-proc",
        sys.executable,
        "-m",
        "hotmend",
        "doctor",
        "--json",
    ]
    found = _objects(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    assert found["namespaces"]["found"] == "no"
    assert "user and PID namespace" in str(found["namespaces"]["detail"])
    assert "on the host" in str(found["namespaces"]["remedy"])


def test_code_that_only_a_tracer_may_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """What /proc/PID/mem refuses is found to be written through a thread, and said."""

    def refuse(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with specimen() as (pid, filtered):
        monkeypatch.setattr(os, "pwrite", refuse)
        checks = {check.name: check for check in specimen_checks(pid, filtered=filtered)}
        monkeypatch.undo()
    assert (checks["write-code"].found, checks["remote-call"].found) == (Found.YES, Found.YES)
    assert "PTRACE_POKEDATA" in checks["write-code"].detail


def test_a_dead_process_is_not_a_yes() -> None:
    with specimen() as (pid, filtered):
        pass
    assert {check.found for check in specimen_checks(pid, filtered=filtered)} == {Found.NO}


def test_a_failed_attempt_names_its_remedy() -> None:
    def fail() -> str:
        raise PermissionError(1, "not allowed")

    check = probe("this", fail, "do that")
    assert (check.found, check.remedy) == (Found.NO, "do that")
    assert all(check.remedy for check in own_checks() if check.found is not Found.YES)


def test_whether_stops_are_made_in_c(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the library all works, and pauses are longer: that is said."""

    def check() -> Check:
        return next(check for check in own_checks() if check.name == "stop-window")

    compiled = tmp_path / "libwindow.so"
    subprocess.run(window.compile_command("gcc", compiled), check=True)
    try:
        window.use(compiled)
        assert (check().found, check().remedy) == (Found.YES, "")
        window.use(None)
        assert check().found is Found.NO
        assert not check().needed
        monkeypatch.setattr(window, "LIBRARY", tmp_path / "none.so")
        assert "there is no libwindow.so" in check().detail
        monkeypatch.setattr(window, "LIBRARY", compiled)
        monkeypatch.setenv(window.VARIABLE, "python")
        assert "HOTMEND_WINDOW=python" in check().detail
    finally:
        window._bound.clear()


def test_leftovers_are_named(
    program: Path, start: Callable[..., Target], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A patcher that died with entries staged: doctor names the process until it is repaired."""
    target = start(program)
    with monkeypatch.context() as patched:

        def dies(self: Transaction, _: object) -> None:
            self.run(Step.STAGE)
            raise KeyboardInterrupt

        patched.setattr(Transaction, "walk", dies)
        with pytest.raises(KeyboardInterrupt):
            apply([make_hotpatch(program, {"first": 2})], [target.pid], Options())

    def named() -> bool:
        assert run(["doctor", "--json"]) == 0
        check = _objects(capsys.readouterr().out)["leftovers"]
        return str(target.pid) in str(check["detail"]).replace(",", "").split() and check["remedy"] == "hotmend repair"

    assert named()
    assert [result.state for result in repair([target.pid], Options())] == ["repaired"]
    assert not named()


def test_room_is_looked_for_where_the_cache_will_be(tmp_path: Path) -> None:
    with specimen() as (pid, _):
        checks = {check.name: check for check in machine_checks(tmp_path / "not" / "yet", pid)}
    assert checks["cache-room"].detail.endswith(f" at {tmp_path}")
