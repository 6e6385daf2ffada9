"""What `hotmend server` is told and cannot do: it says so, and no exit code says that all is well."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

_SECONDS = 90.0


def _server(folder: Path, *given: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hotmend", "server", "--state", str(folder / "state"), *given]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)


def test_an_address_that_is_taken_is_no_success(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = _server(tmp_path, "--listen", f"127.0.0.1:{port}")
    assert done.returncode == 1, done.stderr  # 3, which it was, is "nothing to do"
    assert f"hotmend: nothing listens on 127.0.0.1:{port}" in done.stderr


@pytest.mark.parametrize("url", ["fleet.example", "ftp://fleet.example", "https://", "https://[", "https://a:b"])
def test_an_address_that_nobody_can_go_to_is_refused(url: str, tmp_path: Path) -> None:
    done = _server(tmp_path, "--url", url)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"not an address of a server: {url}" in done.stderr


def test_a_certificate_that_is_none_is_named(tmp_path: Path) -> None:
    wrong = tmp_path / "fleet.pem"
    wrong.write_text("nothing")
    done = _server(tmp_path, "--tls-certificate", str(wrong), "--tls-key", str(wrong))
    assert done.returncode == 1
    assert f"{wrong} and {wrong} are no certificate in PEM and its key" in done.stderr
    gone = tmp_path / "gone.pem"
    done = _server(tmp_path, "--tls-certificate", str(gone), "--tls-key", str(wrong))
    assert done.returncode == 1
    assert f"hotmend: {gone}: No such file or directory" in done.stderr
