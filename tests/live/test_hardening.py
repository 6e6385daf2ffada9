"""Where processes really live, and what they do meanwhile: each works, or is refused with nothing changed."""

from __future__ import annotations

import os
import random
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hotmend.linux import procfs
from hotmend.linux.process import processes_mapping
from hotmend.live.driver import Options, ProcessResult, apply, revert
from hotmend.live.registry import process_status
from hotmend.model.hotpatch import Hotpatch
from tests.live.conftest import Target, comes_true
from tests.live.handmade import compile_target, make_hotpatch
from tests.servers.process import children_list

Start = Callable[..., Target]
SOURCE = Path(__file__).with_name("hostile.c")
PATIENT = Options(deadline_seconds=30.0, max_pause_us=50_000)
QUICK = Options(deadline_seconds=3.0, max_pause_us=50_000)
"""Threads that never wait need a processor to stop on, and the tests may share theirs with anything."""

TRIES = 10


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, with a build-id of this run's own."""
    flag = f"-Wl,--build-id=0x{secrets.token_hex(20)}"
    return compile_target(SOURCE, tmp_path_factory.mktemp("hostile") / "hostile", flag)


def running(hotpatch: Hotpatch, started: Target) -> int:
    """Return the pid of the one process below `started` that runs the old build, wherever it lives."""
    below = [started.pid]
    for pid in below:
        below += children_list(pid)
    (found,) = [process.pid for process in processes_mapping({hotpatch.old_build_id}) if process.pid in below]
    return found


def there_and_back(target: Target, hotpatch: Hotpatch, pid: int) -> None:
    """Apply and revert, which must work."""
    (result,) = apply([hotpatch], [pid], PATIENT)
    assert result.state == "applied", (result, target.ended())
    assert target.ask("a") == "2 2", target.ended()
    (result,) = revert(None, [pid], PATIENT)
    assert result.state == "reverted", (result, target.ended())
    assert target.ask("a") == "1 1", target.ended()


def refused(target: Target, hotpatch: Hotpatch, code: str) -> ProcessResult:
    """Apply, which must be refused with nothing changed."""
    (result,) = apply([hotpatch], [target.pid], QUICK)
    assert (result.state, [r.code for r in result.reasons]) == ("refused", [code]), result
    assert process_status(target.pid) == []
    return result


def other_links(pid: int, *names: str) -> set[str]:
    """Return which links of a process in /proc lead elsewhere than our own."""
    return {name for name in names if Path(f"/proc/{pid}/{name}").readlink() != Path(f"/proc/self/{name}").readlink()}


def test_threads_without_end(hostile: Path, start: Start) -> None:
    target, hotpatch = start(hostile, "churn", "2"), make_hotpatch(hostile, {"first": 2, "second": 2})
    seen = {target.pid, *procfs.list_threads(target.pid)}
    for _ in range(TRIES):
        there_and_back(target, hotpatch, target.pid)
    assert comes_true(lambda: not procfs.list_threads(target.pid) <= seen), "no thread was ever created"


def test_threads_that_allocate_without_end(hostile: Path, start: Start) -> None:
    """The short form: such a target leaves the patcher little of the processors. `python -m bench --only hostile`."""
    target, hotpatch = start(hostile, "malloc", "4"), make_hotpatch(hostile, {"first": 2, "second": 2})
    assert len(procfs.list_threads(target.pid)) == 5
    for _ in range(2):
        there_and_back(target, hotpatch, target.pid)


def any_child(pid: int) -> bool:
    """Tell whether a thread of a process has a child at this moment."""
    return any(file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/children"))


@pytest.mark.parametrize("mode", ["small", "vfork", "spawn", "handler", "deny", "privileges"])
def test_ways_to_live(hostile: Path, start: Start, mode: str) -> None:
    """Threads on small stacks, vfork and posix_spawn without end, in a handler, PR_SET_MDWE, no new privileges."""
    target, hotpatch = start(hostile, mode, "2"), make_hotpatch(hostile, {"first": 2, "second": 2})
    there_and_back(target, hotpatch, target.pid)
    if mode in ("vfork", "spawn"):
        assert comes_true(lambda: any_child(target.pid)), "no child was ever born"
    elif mode == "privileges":
        assert "NoNewPrivs:\t1" in Path(f"/proc/{target.pid}/status").read_text()
    elif mode == "deny":
        assert target.ask("x") == "denied", "PR_SET_MDWE is not in force"
    else:
        assert len(procfs.list_threads(target.pid)) == 3


def test_leader_that_has_ended(hostile: Path, start: Start) -> None:
    target, hotpatch = start(hostile, "zombie", "2"), make_hotpatch(hostile, {"first": 2, "second": 2})
    assert comes_true(lambda: procfs.read_stat(target.pid).state == "Z")
    (result,) = apply([hotpatch], [target.pid], QUICK)
    assert (result.state, [r.code for r in result.reasons]) == ("refused", ["leader-ended"])
    assert target.ask("a") == "1 1"


def test_leader_that_ends_meanwhile(hostile: Path, start: Start) -> None:
    """It is no process that has ended: a thread is in the function, and stays."""
    target, hotpatch = start(hostile, "leaving", "1"), make_hotpatch(hostile, {"first": 2, "stays": 2})

    def leave() -> None:
        time.sleep(0.5)
        target.send("e")

    with ThreadPoolExecutor() as beside:
        beside.submit(leave)
        (result,) = apply([hotpatch], [target.pid], QUICK)
    assert (result.state, [r.code for r in result.reasons]) == ("refused", ["leader-ended"])
    assert target.ask("a") == "leaving"
    assert target.read() == "1 1"


def test_for_ever_inside(hostile: Path, start: Start) -> None:
    """Refused with the thread named; between the tries the others ran, as they saw themselves."""
    target, hotpatch = start(hostile, "inside", "1"), make_hotpatch(hostile, {"first": 2, "stays": 2})
    target.ask("g")
    result = refused(target, hotpatch, "function-active")
    longest = int(target.ask("g"))
    (tid,) = [int(text.rsplit(" ", 1)[1]) for text in result.reasons[0].subjects]
    assert tid in procfs.list_threads(target.pid)
    assert result.attempts > 1
    assert longest < QUICK.deadline_seconds * 1e6 / 2, "the others were held over several tries"


def test_for_ever_in_a_handler(hostile: Path, start: Start) -> None:
    """Each on an alternate stack of its own, inside a function that changes: they are found there, and named."""
    target, hotpatch = start(hostile, "handler", "3"), make_hotpatch(hostile, {"first": 2, "stays": 2})
    found = {int(text.rsplit(" ", 1)[1]) for text in refused(target, hotpatch, "function-active").reasons[0].subjects}
    assert found == procfs.list_threads(target.pid) - {target.pid}


def test_a_thread_that_waits_in_vfork(hostile: Path, start: Start) -> None:
    """It cannot stop before its child is gone: refused with its name, and the others ran on meanwhile."""
    target, hotpatch = start(hostile, "spinning", "1"), make_hotpatch(hostile, {"first": 2, "second": 2})
    tid = target.ask("v")
    target.ask("g")
    (result,) = apply([hotpatch], [target.pid], QUICK)
    longest = int(target.ask("g"))
    assert procfs.read_status(target.pid, int(tid)).tracer == 0, "somebody still traces it"
    assert (result.state, [r.code for r in result.reasons]) == ("refused", ["did-not-stop"]), result
    assert f"{tid} (waits in vfork" in result.reasons[0].sentence
    assert result.attempts > 1
    assert longest < QUICK.deadline_seconds * 1e6 / 2, "the others were held over several tries"
    assert (target.ask("a"), target.ask("w")) == ("1 1", "ended")
    there_and_back(target, hotpatch, target.pid)


def test_dying(hostile: Path, start: Start) -> None:
    """Killed at any moment of an apply, it is gone, and nobody waits for it."""
    seed = random.SystemRandom().randrange(1 << 32)
    chance, hotpatch = random.Random(seed), make_hotpatch(hostile, {"first": 2, "second": 2})
    states = set()
    for _ in range(20):
        target = start(hostile, "malloc", "4")
        # Not by `Popen.kill`, which asks for the exit status first: our own thread is the tracer that waits for it.
        killer = threading.Timer(chance.uniform(0.0, 0.3), os.kill, (target.pid, signal.SIGKILL))
        killer.start()
        (result,) = apply([hotpatch], [target.pid], PATIENT)
        killer.join()
        assert result.state in ("applied", "gone"), (seed, result)
        states.add(result.state)
        target.process.wait(10)  # whatever it says: its tracer, who is this very process, may have taken the status
    assert "gone" in states, seed


def test_another_namespace(hostile: Path, start: Start) -> None:
    hotpatch = make_hotpatch(hostile, {"first": 2, "second": 2})
    tool = Path(shutil.which("unshare") or "unshare")
    target = start(tool, "-m", "-p", "-U", "-r", "-f", "--kill-child", str(hostile), "idle", "1")
    pid = running(hotpatch, target)
    assert other_links(pid, "ns/mnt", "ns/pid", "ns/user") == {"ns/mnt", "ns/pid", "ns/user"}
    there_and_back(target, hotpatch, pid)


def test_chroot(hostile: Path, start: Start, tmp_path: Path) -> None:
    listing = subprocess.run(["ldd", hostile], capture_output=True, text=True, check=True).stdout
    for library in {word for word in listing.split() if word.startswith("/")} | {str(hostile)}:
        place = tmp_path / library.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, place)
    hotpatch = make_hotpatch(hostile, {"first": 2, "second": 2})
    target = start(Path(shutil.which("chroot") or "/usr/sbin/chroot"), str(tmp_path), str(hostile), "idle", "1")
    assert Path(f"/proc/{target.pid}/root").readlink() == tmp_path
    there_and_back(target, hotpatch, target.pid)


OVERLAY = """set -e; cd "$1"; mkdir under; cp "$2" under/program; mount -t tmpfs none room; mkdir room/up room/work
mount -t overlay none -o lowerdir=under,upperdir=room/up,workdir=room/work over; exec over/program idle 1"""


def test_overlay(hostile: Path, start: Start, tmp_path: Path) -> None:
    for name in ("room", "over"):
        (tmp_path / name).mkdir()
    hotpatch = make_hotpatch(hostile, {"first": 2, "second": 2})
    tool = Path(shutil.which("unshare") or "unshare")
    target = start(tool, "-m", "sh", "-c", OVERLAY, "sh", str(tmp_path), str(hostile))
    assert other_links(target.pid, "ns/mnt") == {"ns/mnt"}
    assert " - overlay " in Path(f"/proc/{target.pid}/mountinfo").read_text()
    there_and_back(target, hotpatch, target.pid)


def test_no_room_in_the_control_group(hostile: Path, start: Start) -> None:
    """The kernel would kill it for the pages that we write."""
    parent, kept = Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"
    used = "memory.usage_in_bytes"
    if not parent.is_dir():
        parent, kept, used = Path("/sys/fs/cgroup"), "memory.max", "memory.current"
        if "memory" not in (parent / "cgroup.subtree_control").read_text().split():
            pytest.skip("no memory controller for groups")
    group, hotpatch = parent / f"hotmend-{os.getpid()}", make_hotpatch(hostile, {"first": 2, "second": 2})
    group.mkdir()
    target = None
    try:
        joins = "echo $$ > $0/cgroup.procs; exec $1 idle 1"
        target = start(Path("/bin/sh"), "-c", joins, str(group), str(hostile))
        (group / kept).write_text(str(int((group / used).read_text()) + (64 << 10)))
        assert str(group) in refused(target, hotpatch, "memory-limit").reasons[0].sentence
        assert target.ask("a") == "1 1"
        (group / kept).write_text("64M")
        there_and_back(target, hotpatch, target.pid)
    finally:
        if target is not None:
            target.process.kill()
            target.process.wait()
        assert comes_true(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


def test_no_address_space_left(hostile: Path, start: Start) -> None:
    target, hotpatch = start(hostile, "idle", "1"), make_hotpatch(hostile, {"first": 2, "second": 2})
    resource.prlimit(target.pid, resource.RLIMIT_AS, (4096, resource.RLIM_INFINITY))
    refused(target, hotpatch, "address-space-limit")
    assert target.ask("a") == "1 1"
    resource.prlimit(target.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    there_and_back(target, hotpatch, target.pid)


def test_no_room_for_data_left(hostile: Path, start: Start) -> None:
    """RLIMIT_DATA lets the shadow be mapped, but not made writable where it has to be: seen before it is mapped."""
    target, hotpatch = start(hostile, "idle", "1"), make_hotpatch(hostile, {"first": 2, "second": 2})
    before = procfs.read_maps(target.pid)
    resource.prlimit(target.pid, resource.RLIMIT_DATA, (4096, resource.RLIM_INFINITY))
    assert "RLIMIT_DATA" in refused(target, hotpatch, "address-space-limit").reasons[0].sentence
    assert procfs.read_maps(target.pid) == before
    resource.prlimit(target.pid, resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    there_and_back(target, hotpatch, target.pid)


def test_no_memory_may_be_locked(hostile: Path, start: Start) -> None:
    """All its memory is locked, future memory too, and there is a limit to that: seen before anything is mapped."""
    target, hotpatch = start(hostile, "locked", "0"), make_hotpatch(hostile, {"first": 2, "second": 2})
    before = procfs.read_maps(target.pid)
    assert "RLIMIT_MEMLOCK" in refused(target, hotpatch, "address-space-limit").reasons[0].sentence
    assert procfs.read_maps(target.pid) == before
    assert target.ask("l") == "raised"
    there_and_back(target, hotpatch, target.pid)


def test_no_mappings_left(hostile: Path, start: Start) -> None:
    target, hotpatch = start(hostile, "idle", "1"), make_hotpatch(hostile, {"first": 2, "second": 2})
    assert target.ask("m") == "taken"
    assert "vm.max_map_count" in refused(target, hotpatch, "address-space-limit").reasons[0].sentence
    assert target.ask("a") == "1 1"


READ_ONLY = """set -e; mount --make-rprivate /; mount --rbind / "$1"; mount -o remount,bind,ro "$1"
chroot "$1" /usr/bin/touch /x 2>/dev/null && exit 9
exec chroot "$1" "$2" idle 1"""


def test_read_only_file_system(hostile: Path, start: Start, tmp_path: Path) -> None:
    """As `ProtectSystem=strict` has it: in a mount namespace where nothing of the system can be written."""
    (tmp_path / "root").mkdir()
    hotpatch = make_hotpatch(hostile, {"first": 2, "second": 2})
    tool = Path(shutil.which("unshare") or "unshare")
    target = start(tool, "-m", "sh", "-c", READ_ONLY, "sh", str(tmp_path / "root"), str(hostile))
    (root,) = [w for w in map(str.split, Path(f"/proc/{target.pid}/mountinfo").read_text().splitlines()) if w[4] == "/"]
    assert "ro" in root[5].split(",")
    there_and_back(target, hotpatch, target.pid)


PATCHER = """
import errno, sys
from pathlib import Path
from hotmend.linux import sys as kernel
from hotmend.linux.seccomp import Action
from hotmend.live.driver import Options, apply, revert
from tests.live.filters import Rule, make_filter
from tests.live.handmade import make_hotpatch
pid, program = int(sys.argv[1]), Path(sys.argv[2])
hotpatch = make_hotpatch(program, {"first": 2, "second": 2})
kernel.confine_self(make_filter(Rule(18, Action.ERRNO | errno.EIO)))  # pwrite64
word = sys.stdin.readline()
options = Options(deadline_seconds=30.0, max_pause_us=50_000)
while word:
    results = apply([hotpatch], [pid], options) if word.strip() == "apply" else revert(None, [pid], options)
    print(results[0].state, *(r.sentence for r in results[0].reasons), flush=True)
    word = sys.stdin.readline()
"""


def test_memory_that_only_a_tracer_may_write(hostile: Path, start: Start) -> None:
    """As `proc_mem.force_override=never` has it, and worse: to this patcher every pwrite fails with EIO."""
    target = start(hostile, "idle", "2")
    root = Path(__file__).parents[2]
    patcher = subprocess.Popen(
        [sys.executable, "-c", PATCHER, str(target.pid), str(hostile)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": f"{root}:{root / 'src'}"},
    )
    assert patcher.stdin is not None
    assert patcher.stdout is not None
    with patcher:
        for _ in range(3):
            for word, state, answer in (("apply", "applied", "2 2"), ("revert", "reverted", "1 1")):
                patcher.stdin.write(f"{word}\n")
                patcher.stdin.flush()
                assert patcher.stdout.readline().strip() == state
                assert target.ask("a") == answer
        patcher.stdin.close()


TRACERS = {"strace": ("strace", "-o", os.devnull, "-p"), "gdb": ("gdb", "-nx", "-q", "-p")}


@pytest.mark.parametrize("name", TRACERS)
@pytest.mark.parametrize("leader", [True, False])
def test_traced_by_another(hostile: Path, start: Start, name: str, leader: bool) -> None:
    """By either, its first thread or another one alone (gdb takes all); without the tracer all is well."""
    target, hotpatch = start(hostile, "idle", "1"), make_hotpatch(hostile, {"first": 2, "second": 2})
    (other,) = procfs.list_threads(target.pid) - {target.pid}
    tid = target.pid if leader else other
    with subprocess.Popen(
        [*TRACERS[name], str(tid)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as tracer:
        try:
            assert comes_true(lambda: bool(procfs.read_status(target.pid, tid).tracer))
            assert name in refused(target, hotpatch, "traced").reasons[0].sentence
        finally:
            if name == "strace":  # gdb ends with what it is told; killed while it begins, it leaves threads stopped
                tracer.terminate()
    there_and_back(target, hotpatch, target.pid)


FREEZERS = {"cgroup": ("freezer.state", "FROZEN", "THAWED"), "cgroup2": ("cgroup.freeze", "1", "0")}
"""By type of file system: the file to write to, and what."""


@pytest.mark.parametrize("kind", FREEZERS)
def test_frozen_by_a_control_group(hostile: Path, start: Start, tmp_path: Path, kind: str) -> None:
    """Refused at once; thawed, it answers as before and can be patched."""
    file, freeze, thaw = FREEZERS[kind]
    options = ["-o", "freezer"] if kind == "cgroup" else []
    mounted = subprocess.run(["mount", "-t", kind, *options, "none", tmp_path], capture_output=True, check=False)
    assert mounted.returncode == 0, mounted.stderr
    group = tmp_path / f"hotmend-{os.getpid()}"
    try:
        group.mkdir()
        target, hotpatch = start(hostile, "idle", "2"), make_hotpatch(hostile, {"first": 2, "second": 2})
        (group / "cgroup.procs").write_text(str(target.pid))
        (group / file).write_text(freeze)
        assert comes_true(lambda: procfs.is_frozen(target.pid))
        refused(target, hotpatch, "frozen")
        (group / file).write_text(thaw)
        assert target.ask("a") == "1 1"
        there_and_back(target, hotpatch, target.pid)
        (tmp_path / "cgroup.procs").write_text(str(target.pid))
        group.rmdir()
    finally:
        subprocess.run(["umount", tmp_path], check=True)
