"""`hotmend apply --rehearse` on a small server: it goes on, or leaves the real processes alone and says why."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hotmend.cli.main import run
from hotmend.linux import procfs
from hotmend.linux.process import processes_mapping
from hotmend.live.registry import process_status
from hotmend.package.encode import encode
from tests.live.conftest import OWN_BUILD_ID
from tests.live.handmade import compile_target, make_hotpatch
from tests.live.mounts import mounts_but_of_tests
from tests.servers.process import children_list, port_free, port_open, wait_until

pytestmark = pytest.mark.live
SOURCE = Path(__file__).with_name("server.c")


class Server:
    """The server in a directory of its own; `pids` are master and worker."""

    def __init__(self, program: Path, *arguments: str) -> None:
        self.program, self.port = program, port_free()
        self.process = subprocess.Popen(
            [program, str(self.port), *arguments], cwd=program.parent, env={**os.environ, "FRAGILE": "1"}
        )
        wait_until(lambda: port_open(self.port) and bool(children_list(self.process.pid)), "the server listens")
        self.pids = [self.process.pid, *children_list(self.process.pid)]

    def answer(self) -> str:
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as client:
            return client.makefile().readline().strip()

    @property
    def command(self) -> str:
        return f"bash -c 'cat < /dev/tcp/127.0.0.1/{self.port}'"

    def untouched(self) -> bool:
        """Whether it lives, with the old code and nothing beside it."""
        return self.process.poll() is None and self.answer() == "1" and not any(map(process_status, self.pids))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_target(SOURCE, tmp_path_factory.mktemp("rehearsal") / "server", OWN_BUILD_ID)


@pytest.fixture
def serve(compiled: Path, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Return a function that starts a server in `tmp_path`; it ends with the test."""
    program = tmp_path / "server"
    program.write_bytes(compiled.read_bytes())
    program.chmod(0o755)
    running: list[Server] = []

    def start(*arguments: str) -> Server:
        running.append(Server(program, *arguments))
        return running[-1]

    yield start
    for server in running:
        server.process.kill()
        server.process.wait()


@pytest.fixture
def rehearse(
    compiled: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, list[dict[str, Any]]]]:
    """Return a function (server, answers of the hotpatch, *options) -> (exit code, objects printed)."""

    def call(server: Server, answers: dict[str, int | str], *options: str) -> tuple[int, list[dict[str, Any]]]:
        file = tmp_path / "h.hotpatch"
        file.write_bytes(encode(make_hotpatch(compiled, answers)))
        named = [word for pid in server.pids for word in ("--pid", str(pid))]
        words = ["apply", str(file), "--rehearse", "--rehearse-seconds", "0.3", "--json", *named, *options]
        code = run(words)
        return code, [json.loads(line) for line in capfd.readouterr().out.splitlines()]

    return call


Rehearse = Callable[..., tuple[int, list[dict[str, Any]]]]
Serve = Callable[..., Server]


def codes(results: list[dict[str, Any]]) -> set[str]:
    return {reason["code"] for result in results for reason in result["reasons"]}


def test_it_goes_on_when_the_stand_in_lives(serve: Serve, rehearse: Rehearse, tmp_path: Path) -> None:
    server = serve()
    options = ("--rehearse-command", server.command, "--rehearse-expect-change")
    code, results = rehearse(server, {"answer": 2}, *options)
    assert (code, [r["state"] for r in results]) == (0, ["applied"] * 2), results
    assert results[0]["stand_in"]["passed"]
    assert results[0]["stand_in"]["processes"] == 2
    assert results[0]["stand_in"]["seconds"] >= 0.3
    assert server.answer() == "2"
    assert (tmp_path / "started").read_text().strip() == str(server.process.pid), "the stand-in wrote to real files"


def test_another_output_leaves_the_real_processes_alone(serve: Serve, rehearse: Rehearse) -> None:
    server = serve()
    code, results = rehearse(server, {"answer": 2}, "--rehearse-command", server.command)
    assert (code, codes(results)) == (4, {"rehearsal-outputs-differ"})
    assert {r["state"] for r in results} == {"refused"}
    assert "line 1: '1' became '2'" in results[0]["reasons"][0]["subjects"][0]
    assert server.untouched()


def test_a_stand_in_that_dies_leaves_the_real_processes_alone(serve: Serve, rehearse: Rehearse) -> None:
    server = serve()
    code, results = rehearse(server, {"tick": "import:abort"})
    assert (code, codes(results)) == (4, {"stand-in-died"}), results
    assert server.untouched()


def test_a_command_that_fails(serve: Serve, rehearse: Rehearse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotmend.trial.rehearsal._ANSWER_SECONDS_MAX", 0.2)
    server = serve()
    code, results = rehearse(server, {"answer": 2}, "--rehearse-command", "echo no; exit 3")
    assert (code, codes(results)) == (4, {"rehearsal-command-failed"})
    assert "exit status 3" in results[0]["reasons"][0]["sentence"]
    assert server.untouched()


def test_a_stand_in_that_does_not_start(serve: Serve, rehearse: Rehearse) -> None:
    server = serve("fragile")
    code, results = rehearse(server, {"answer": 2})
    assert (code, codes(results)) == (4, {"stand-in-not-started"})
    assert "exit status 5" in results[0]["reasons"][0]["sentence"]
    assert server.untouched()


def test_a_hotpatch_that_the_stand_in_refuses(serve: Serve, rehearse: Rehearse) -> None:
    server = serve()
    code, results = rehearse(server, {"answer": "import:no_such_function"})
    assert (code, codes(results)) == (4, {"stand-in-refused"})
    assert "import-missing" in results[0]["reasons"][0]["subjects"][0]
    assert server.untouched()


def test_the_file_on_disk_is_another_already(serve: Serve, rehearse: Rehearse, tmp_path: Path) -> None:
    server = serve()
    fresh = tmp_path / "fresh"
    fresh.write_bytes(Path("/bin/true").read_bytes())
    fresh.chmod(0o755)
    fresh.replace(tmp_path / "server")
    code, results = rehearse(server, {"answer": 2})
    assert (code, results[0]["stand_in"]["processes"]) == (0, 2), results
    assert server.answer() == "2"
    assert (tmp_path / "server").read_bytes() == Path("/bin/true").read_bytes()


def test_a_library_that_was_replaced_on_disk(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """An upgrade has run: the server maps the old library, a new process would map the new one."""
    library, source = tmp_path / "libanswer.so", tmp_path / "answer.c"
    source.write_text("int answer(void) { return NUMBER; }")
    compile_target(source, library, "-shared", "-fPIC", "-DNUMBER=1")
    program = compile_target(SOURCE, tmp_path / "server", "-DFROM_LIBRARY", str(library), f"-Wl,-rpath,{tmp_path}")
    (tmp_path / "h.hotpatch").write_bytes(encode(make_hotpatch(library, {"answer": 2})))
    server = Server(program)
    try:
        compile_target(source, tmp_path / "fresh.so", "-shared", "-fPIC", "-DNUMBER=3")
        (tmp_path / "fresh.so").replace(library)
        words = ["apply", str(tmp_path / "h.hotpatch"), "--rehearse", "--rehearse-seconds", "0.2"]
        named = [word for pid in server.pids for word in ("--pid", str(pid))]
        check = ["--rehearse-command", f"{server.command} | grep -q '[12]'"]
        assert run([*words, *named, *check]) == 0, capfd.readouterr()
        assert server.answer() == "2"
    finally:
        server.process.kill()
        server.process.wait()


def test_arguments_that_were_written_over_have_to_be_given(serve: Serve, rehearse: Rehearse) -> None:
    server = serve("titled")
    code, results = rehearse(server, {"answer": 2})
    assert (code, codes(results)) == (4, {"arguments-unknown"})
    assert server.untouched()
    code, results = rehearse(server, {"answer": 2}, "--rehearse-start", f"server {server.port}")
    assert code == 0, results
    assert server.answer() == "2"


def test_nothing_stays_when_hotmend_is_killed(serve: Serve, compiled: Path, tmp_path: Path) -> None:
    server = serve()
    hotpatch = make_hotpatch(compiled, {"answer": 2})
    (tmp_path / "h.hotpatch").write_bytes(encode(hotpatch))
    words = [
        "apply",
        str(tmp_path / "h.hotpatch"),
        "--rehearse",
        "--rehearse-seconds",
        "60",
        "--pid",
        str(server.pids[0]),
    ]
    mounts, files = mounts_but_of_tests(tmp_path), sorted(os.listdir(tmp_path))

    def stand_ins() -> list[int]:
        return [p.pid for p in processes_mapping({hotpatch.old_build_id}) if p.pid not in server.pids]

    def inmates(cell: str) -> list[int]:
        return [pid for pid in procfs.list_processes() if procfs.namespace(pid, "pid") == cell]

    hotmend = subprocess.Popen([sys.executable, "-m", "hotmend", *words])
    try:
        wait_until(
            lambda: len(stand_ins()) == 2 and all(map(process_status, stand_ins())), "the stand-in is changed", 60
        )
        cell = procfs.namespace(stand_ins()[0], "pid")
        assert len(inmates(cell)) == 3
    finally:
        hotmend.send_signal(signal.SIGKILL)
        hotmend.wait()
    wait_until(lambda: not stand_ins() and not inmates(cell), "everything of the stand-in is gone", 20)
    assert mounts_but_of_tests(tmp_path) == mounts
    assert sorted(os.listdir(tmp_path)) == files
    assert server.untouched()


def test_a_stand_in_reaches_neither_network_nor_sockets_nor_processes(
    serve: Serve, rehearse: Rehearse, tmp_path: Path
) -> None:
    server = serve()
    with socket.socket() as outside, socket.socket(socket.AF_UNIX) as path:
        outside.bind(("127.0.0.1", 0))
        path.bind(str(tmp_path / "socket"))
        attempts = [
            f"bash -c ': < /dev/tcp/127.0.0.1/{outside.getsockname()[1]}'",
            f"kill -0 {os.getpid()}",
            f"{sys.executable} -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"{tmp_path}/socket\")'",
            "cat /proc/sys/kernel/panic > /proc/sys/kernel/panic",
        ]
        for listener in (outside, path):
            listener.listen()
        for attempt in attempts:
            assert subprocess.run(attempt, shell=True, check=False).returncode == 0, attempt
        command = " && ".join(f"! {{ {attempt}; }} 2>/dev/null" for attempt in attempts)
        code, results = rehearse(server, {"answer": 2}, "--rehearse-command", f"{command} && touch {tmp_path}/made")
        assert code == 0, results
    assert not (tmp_path / "made").exists()


def test_no_process_is_nothing_to_do(compiled: Path, tmp_path: Path) -> None:
    (tmp_path / "h.hotpatch").write_bytes(encode(make_hotpatch(compiled, {"answer": 2})))
    assert run(["apply", str(tmp_path / "h.hotpatch"), "--rehearse"]) == 3
    assert run(["apply", str(tmp_path / "h.hotpatch"), "--rehearse-seconds", "1"]) == 2
