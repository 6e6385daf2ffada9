"""A census of real processes: in mount and process namespaces of their own, under another root, with files replaced."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotmend.agent.census.assessment import RunningProcess, take_assessment
from hotmend.agent.census.code_state import CodeState
from hotmend.agent.census.owners import OwnerKind
from hotmend.linux.census import SeenProcess, take_census
from hotmend.linux.process import processes_mapping
from tests.live.handmade import compile_target

pytestmark = pytest.mark.live
SOURCE = Path(__file__).parents[2] / "bench/crowd.c"


@pytest.fixture
def folder() -> Iterator[Path]:
    """One where files are not taken for those that programs make for themselves."""
    with tempfile.TemporaryDirectory(dir="/srv", prefix="hotmend-") as name:
        yield Path(name)


@pytest.fixture
def programs(folder: Path) -> tuple[Path, Path]:
    """The same program, built twice."""
    first, second = (
        compile_target(SOURCE, folder / name, f"-Wl,--build-id=0x{secrets.token_hex(20)}", "-static")
        for name in ("old", "new")
    )
    return first, second


class Running:
    """Processes that a test started, ended with it."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[bytes]] = []

    def __call__(self, *command: str) -> SeenProcess:
        """Start a command that ends up as the program; return it as a census sees it."""
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return self.seen()

    def seen(self) -> SeenProcess:
        """Return the process that the last command became: itself, or its child."""
        pid = self.started[-1].pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        wanted = int(children[-1]) if children else pid
        return next(process for process in take_census().processes if process.pid == wanted)


@pytest.fixture
def running() -> Iterator[Running]:
    found = Running()
    yield found
    for process in found.started:
        process.kill()
        process.communicate()


def assessed(pid: int) -> RunningProcess:
    return next(process for process in take_assessment().processes if process.pid == pid)


def state(pid: int) -> CodeState:
    (image,) = assessed(pid).images
    return image.state


def test_it_sees_what_looking_at_one_after_another_sees(programs: tuple[Path, Path], running: Running) -> None:
    running(str(programs[0]), "1")
    one = {(p.pid, i.path, i.build_id, i.bias) for p in processes_mapping() for i in p.images}
    both = {(p.pid, i.path, i.build_id, i.bias) for p in take_census().processes for i in p.images}
    pid = running.started[-1].pid
    assert {each for each in one if each[0] in (pid, os.getpid())} == {e for e in both if e[0] in (pid, os.getpid())}
    assert len({each for each in both if each[0] == os.getpid()}) > 10


def test_a_file_that_is_replaced_and_one_that_is_taken_away(programs: tuple[Path, Path], running: Running) -> None:
    old, new = programs
    pid = running(str(old), "1").pid
    assert state(pid) is CodeState.CURRENT
    new.replace(old)
    assert state(pid) is CodeState.OLD
    old.unlink()
    assert state(pid) is CodeState.REMOVED


def test_the_same_path_is_another_file_in_another_mount_namespace(
    programs: tuple[Path, Path], running: Running, folder: Path
) -> None:
    """Outside nothing has changed; in there the new build stands at the path that the old one was started from."""
    old, new = programs
    outside = running(str(old), "1")
    ready = folder / "ready"
    os.mkfifo(ready)
    # Not before the program runs: one that is executed after the mount is the new build.
    script = f"exec 3<&0; {old} 1 <&3 >{ready} & read said <{ready}; mount --bind {new} {old}; echo $said; wait"
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script]
    running(*command)
    pid = next(
        p.pid for p in take_census().processes if p.pid != outside.pid and {i.path for i in p.images} == {str(old)}
    )
    inside = next(process for process in take_census().processes if process.pid == pid)
    assert inside.namespaces == (False, False)
    assert (state(outside.pid), assessed(outside.pid).owner.kind is OwnerKind.CONTAINER) == (CodeState.CURRENT, False)
    assert state(inside.pid) is CodeState.OLD
    (image,) = inside.images
    assert image.disk_build_id != image.build_id != ""


def test_a_process_that_gave_itself_another_root(programs: tuple[Path, Path], running: Running, folder: Path) -> None:
    """As servers do that call chroot: its own file is not below the root that it sees."""
    jail = folder / "jail"
    jail.mkdir()
    shutil.copy(programs[0], jail / "program")
    pid = running("chroot", str(jail), "/program", "1").pid
    assert state(pid) is CodeState.CURRENT
    shutil.copy(programs[1], jail / "next")
    (jail / "next").replace(jail / "program")
    assert state(pid) is CodeState.OLD


def test_a_program_that_is_a_mount_of_its_own_loses_its_name_and_is_found(
    programs: tuple[Path, Path], running: Running
) -> None:
    """As the service manager's ExecPaths= makes them: once the file is replaced outside, the mount is gone."""
    old, new = programs
    seen = running("unshare", "--mount", "sh", "-c", f"mount --bind {old} {old} && exec {old} 1")
    new.replace(old)
    maps = Path(f"/proc/{seen.pid}/maps").read_text()
    assert str(old) not in maps
    (image,) = running.seen().images
    assert (image.path, image.deleted, image.disk_path) == (str(old), True, str(old))
    assert image.disk_build_id not in (None, image.build_id)
    assert state(seen.pid) is CodeState.OLD
