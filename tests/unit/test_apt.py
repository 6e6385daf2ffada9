"""Programs that change the machine: begun when somebody says so, run to their end, and known to be at work."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotmend.linux import procfs
from hotmend.linux.apt import at_work, call_apt_to_its_end
from hotmend.model.errors import HotmendError
from tests.servers.process import wait_until

LOCKING = """
import fcntl, sys
file = open(sys.argv[1], "r+")
fcntl.lockf(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def locked(lock: Path) -> Iterator[int]:
    """Give the pid of a process that holds a lock as apt and dpkg do."""
    command = [sys.executable, "-c", LOCKING, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        yield other.pid
        other.communicate(timeout=30)


def test_it_is_told_of_before_it_begins_and_is_that_process(tmp_path: Path) -> None:
    began = tmp_path / "began"
    seen: list[tuple[int, bool]] = []
    script = f"touch {began}; echo $$; echo complaint >&2; read -r line || echo nobody answers; exit 7"
    done = call_apt_to_its_end(["sh", "-c", script], {"A": "b"}, lambda pid: seen.append((pid, began.exists())))
    ((pid, too_early),) = seen
    assert not too_early
    assert (done.returncode, done.stdout, done.stderr) == (7, f"{pid}\nnobody answers\n", "complaint\n")


def test_where_that_fails_it_does_not_begin(tmp_path: Path) -> None:
    def fail(pid: int) -> None:
        raise HotmendError(f"not {pid}")

    with pytest.raises(HotmendError, match="not"):
        call_apt_to_its_end(["touch", str(tmp_path / "began")], {}, fail)
    assert not list(tmp_path.iterdir())


def test_it_goes_on_where_who_waits_for_it_is_killed(tmp_path: Path) -> None:
    """What it prints afterwards breaks no pipe: dpkg would stop in the middle of a package."""
    script = f"echo $$ > {tmp_path}/pid; until test -e {tmp_path}/go; do sleep 0.05; done; echo out && echo err >&2 && "
    script += f"touch {tmp_path}/done"
    code = "import sys; from hotmend.linux.apt import call_apt_to_its_end as call; "
    code += "call(['sh', '-c', sys.argv[1]], {}, lambda pid: None)"
    with subprocess.Popen([sys.executable, "-c", code, script]) as waiting:
        wait_until(lambda: bool((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()), "it runs", 30)
        waiting.send_signal(signal.SIGKILL)
    pid = int((tmp_path / "pid").read_text())
    assert procfs.read_stat(pid).comm == "sh"
    (tmp_path / "go").touch()
    wait_until((tmp_path / "done").exists, "it has come to its end", 30)


def test_one_that_is_not_there() -> None:
    done = call_apt_to_its_end(["/nowhere/apt-get"], {}, lambda pid: None)
    assert done.returncode == 127
    assert "/nowhere/apt-get" in done.stderr


def test_who_is_at_work(tmp_path: Path) -> None:
    frontend, dpkg = tmp_path / "lock-frontend", tmp_path / "lock"
    assert at_work([frontend, dpkg]) is None
    frontend.touch()
    dpkg.touch()
    assert at_work([frontend, dpkg]) is None
    for lock in (frontend, dpkg):
        with locked(lock) as pid:
            assert at_work([frontend, dpkg]) == pid
        assert at_work([frontend, dpkg]) is None


@pytest.mark.parametrize("name", ["lock-frontend", "lock"])
def test_these_are_the_locks_that_dpkg_takes(tmp_path: Path, name: str) -> None:
    for each in ("status", "available", "lock-frontend", "lock"):
        (tmp_path / each).touch()
    (tmp_path / "updates").mkdir()
    configure = ["dpkg", f"--admindir={tmp_path}", "--configure", "--pending"]
    assert subprocess.run(configure, check=False).returncode == 0
    with locked(tmp_path / name) as pid:
        done = subprocess.run(configure, check=False, capture_output=True, text=True)
        assert done.returncode == 2
        assert str(pid) in done.stderr
