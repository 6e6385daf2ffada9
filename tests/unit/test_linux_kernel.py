"""The kernel interface: parsers on text, and readings of this very process compared with what is known of it."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotmend.cli.main import run
from hotmend.linux import procfs, remote, sys
from hotmend.linux.census import take_census
from hotmend.linux.memory import ProcessMemory
from hotmend.linux.private_root import parse_mountinfo
from hotmend.linux.process import (
    MappedImage,
    file_build_id,
    parse_build_id,
    process_images,
    processes_mapping,
    processes_running,
)
from hotmend.linux.sys import Registers
from hotmend.linux.window import restarted
from hotmend.live.work import Options, ProcessResult, Work
from hotmend.model.addresses import PAGE_BYTES
from hotmend.model.errors import KernelError

ZERO = Registers(*([0] * 27))


def test_parse_maps() -> None:
    text = (
        "00400000-00452000 r-xp 00001000 08:02 173521 /usr/bin/a b (deleted)\n"
        "7ffc1000-7ffc2000 rw-p 00000000 00:00 0 [stack]\n"
        "7ffd1000-7ffd2000 ---p 00000000 00:00 0 \n"
    )
    first, stack, last = procfs.parse_maps(text)
    assert (first.start, first.end, first.offset, first.inode) == (0x400000, 0x452000, 0x1000, 173521)
    assert first.path == "/usr/bin/a b (deleted)"
    assert (first.executable, first.private_writable) == (True, False)
    assert (stack.private_writable, stack.anonymous) == (True, False)
    assert (last.anonymous, last.readable) == (True, False)
    maps = (first, stack, last)
    assert procfs.find_mapping(maps, 0x452000) is None
    assert procfs.find_mapping(maps, 0x7FFC1FFF) is stack
    assert procfs.find_mapping((), 1) is None
    assert procfs.parse_maps("") == ()


def test_names_may_hold_what_python_takes_for_the_end_of_a_line() -> None:
    name = "/tmp/\r\v\f\x1c\x1d\x1e\x85\u2028\u2029b"
    row = f"00400000-00452000 r-xp 00001000 08:02 173521 {name}\n"
    assert [m.path for m in procfs.parse_maps(2 * row)] == [name, name]
    mounts = f"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n23 22 0:5 / {name} rw - fuse x rw\n"
    assert [m.point for m in parse_mountinfo(mounts)] == ["/", name]


def test_a_file_name_of_one_process_does_not_stop_the_look_at_all(tmp_path: Path) -> None:
    name = tmp_path / "a\r\fb"
    name.write_bytes(bytes(PAGE_BYTES))
    map_it = "import mmap, sys; f = open(sys.argv[1], 'rb'); m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)"
    wait = "print(flush=True); sys.stdin.read()"
    child = subprocess.Popen(
        ["python3", "-c", f"{map_it}; {wait}", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        child.stdout.readline()
        assert str(name) in {m.path for m in procfs.read_maps(child.pid)}
        assert child.pid in {process.pid for process in processes_mapping()}
    finally:
        child.communicate()


def test_names_that_others_choose_can_be_kept_and_do_nothing_on_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of bytes that are no UTF-8 no JSON can be made: one process ended the listing of all, and a run's record."""
    program = tmp_path / os.fsdecode(b"a\xff\x1b[2Jz")
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen([program, "600"]) as child:
        try:
            _has_mapped(child.pid)
            (seen,) = (process for process in take_census().processes if process.pid == child.pid)
            with ProcessMemory(child.pid) as memory:
                images = process_images(child.pid, memory)
            assert (procfs.read_stat(child.pid).comm, images.comm, seen.comm) == (r"a\xff\x1b[2Jz",) * 3
            name = f"{tmp_path}/" + r"a\xff\x1b[2Jz"
            assert [image.path for image in images.images].count(name) == 1
            assert {(image.path, image.disk_path) for image in seen.images} >= {(name, name)}
            assert images.images[0].disk_build_id == images.images[0].build_id  # the file was found by its real name
            for words in (), ("--json",):
                assert run(["ps", "--pid", str(child.pid), *words]) == 0
                assert r"a\xff\x1b[2Jz" in capsys.readouterr().out.replace("\\\\", "\\")
        finally:
            child.kill()


@given(st.binary(max_size=40))
def test_legible(name: bytes) -> None:
    text = procfs.legible(name.decode("utf-8", "surrogateescape"))
    assert text.isprintable()
    assert text.encode().decode() == text
    assert procfs.legible(text) == text


@pytest.mark.parametrize("read", [procfs.read_maps, procfs.read_stat, procfs.read_status])
def test_a_text_that_nobody_knows_is_of_that_process_alone(
    read: Callable[[int], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(procfs, "read_text", lambda pid, name, limit: "what\nSeccomp:\tis\nthis?")
    with pytest.raises(KernelError, match=rf"/proc/{os.getpid()}/\w+ is not as hotmend knows it"):
        read(os.getpid())


def test_of_many_the_one_that_cannot_be_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: str) -> tuple[procfs.Mapping, ...]:
        raise ValueError("what is this?")

    def look() -> ProcessResult:
        procfs.read_maps(os.getpid())
        return work.result("unchanged")

    monkeypatch.setattr(procfs, "parse_maps", unknown)
    work = Work(os.getpid(), Options())
    result = work.guarded(look)
    assert (result.state, [reason.code for reason in result.reasons]) == ("refused", ["kernel-error"])


def test_parse_stat_with_a_hostile_name() -> None:
    stat = procfs.parse_stat("12 (a) R (b) S 7 " + " ".join(str(i) for i in range(5, 40)))
    assert (stat.comm, stat.state, stat.ppid, stat.start_time_ticks) == ("a) R (b", "S", 7, 22)


def test_parse_status() -> None:
    status = procfs.parse_status(
        "Name:\tSeccomp:\t0\nState:\tS (sleeping)\n"
        "TracerPid:\t5\nSeccomp:\t2\nSigPnd:\t0000000000000003\nShdPnd:\t0\nSigBlk:\t01\nx86_Thread_features:\tshstk \n"
    )
    assert status.state == "S"
    assert (status.tracer, status.seccomp, status.shadow_stack, status.pending) == (5, 2, True, 2)


def test_build_id_note() -> None:
    other = (4).to_bytes(4, "little") + (4).to_bytes(4, "little") + (1).to_bytes(4, "little") + b"GNU\0abcd"
    note = (4).to_bytes(4, "little") + (3).to_bytes(4, "little") + (3).to_bytes(4, "little") + b"GNU\0\x01\x02\x03"
    assert parse_build_id(other + note) == "010203"
    assert parse_build_id(other) == ""
    assert parse_build_id(b"\xff" * 40) == ""


def test_own_memory() -> None:
    content = ctypes.create_string_buffer(b"hotmend" * 1000)
    address = ctypes.addressof(content)
    with ProcessMemory(os.getpid(), writable=True) as memory:
        assert memory.read(address, 7000) == b"hotmend" * 1000
        assert memory.read_many([(address, 7), (address + 7, 7)]) == b"hotmend" * 2
        many = memory.read_many([(address + 7 * (i % 1000), 7) for i in range(2500)])
        assert many == b"hotmend" * 2500
        memory.write_checked(address, b"HOT")
        assert memory.try_read(0, 8) is None
        assert memory.try_read(2**64 - 8, 8) is None
        assert memory.try_read(-8, 8) is None
    assert content.raw.startswith(b"HOTmend")


def test_own_images() -> None:
    process = process_images(os.getpid())
    libc = next(image for image in process.images if image.path.endswith("libc.so.6"))
    notes = subprocess.run(["readelf", "-n", libc.path], capture_output=True, text=True, check=True).stdout
    assert f"Build ID: {libc.build_id}" in notes
    assert libc.disk_build_id == libc.build_id
    assert not libc.outdated
    assert not libc.deleted
    here = [p for p in processes_mapping({libc.build_id}) if p.pid == os.getpid()]
    assert os.getpid() in processes_running({libc.build_id})
    assert processes_running({"none"}) == []
    assert len(here) == 1
    assert here[0].images == (libc,)
    assert here[0].start_time_ticks == procfs.read_stat(os.getpid()).start_time_ticks


def _has_mapped(pid: int) -> None:
    """Wait until a process that was just begun has its own program and its libraries: `Popen` comes back earlier."""
    while not any(image.path.endswith("/libc.so.6") for image in process_images(pid).images):
        time.sleep(0.001)


def test_replaced_and_deleted_files(tmp_path: Path) -> None:
    program = tmp_path / "program"
    shutil.copy("/bin/sleep", program)
    child = subprocess.Popen([program, "30"])
    try:
        _has_mapped(child.pid)

        def image() -> MappedImage:
            return next(i for i in process_images(child.pid).images if i.path == str(program))

        before = image()
        assert before.build_id
        assert (before.outdated, before.deleted) == (False, False)
        program.unlink()
        gone = image()
        assert (gone.build_id, gone.deleted, gone.disk_build_id) == (before.build_id, True, None)
        shutil.copy("/bin/cat", program)
        assert image().outdated
    finally:
        child.kill()
        child.wait()


def test_who_maps_a_file_for_reading_has_not_loaded_it_twice(tmp_path: Path) -> None:
    library = tmp_path / "libown.so"
    command = ["gcc", "-shared", "-fPIC", "-Wl,--build-id", "-x", "c", "-", "-o", str(library)]
    subprocess.run(command, input=b"int f(void) { return 1; }", check=True)
    loaded = ctypes.CDLL(str(library))
    (one,) = [i for i in process_images(os.getpid()).images if i.path == str(library)]
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as read:
        assert read[:4] == b"\x7fELF"
        assert [i for i in process_images(os.getpid()).images if i.path == str(library)] == [one]
        own = next(process for process in take_census().processes if process.pid == os.getpid())
        assert [image.bias for image in own.images if image.path == str(library)] == [one.bias]
    assert loaded.f() == 1


def test_a_link_leads_nowhere_out_of_the_root_it_is_in(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    shutil.copy("/bin/cat", tmp_path / "bin/sleep")
    for name, target in {"absolute": "/bin/sleep", "above": 9 * "../" + "bin/sleep", "own": "bin/sleep"}.items():
        (tmp_path / name).symlink_to(target)
        assert file_build_id(Path("/", name), tmp_path) == file_build_id(Path("/bin/cat")), name
    (tmp_path / "magic").symlink_to(f"/proc/{os.getpid()}/root/bin/sleep")
    (tmp_path / "none").symlink_to("/bin/true")
    for name in ("magic", "none", "missing"):
        assert file_build_id(Path("/", name), tmp_path) is None, name
    assert file_build_id(Path("/bin/sleep")) not in (None, file_build_id(Path("/bin/cat")))


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to("pipe")
    writer = subprocess.Popen(["sh", "-c", ': >"$1"', "sh", pipe])
    time.sleep(0.1)  # until it waits for a reader
    try:
        for path, root in ((pipe, Path("/")), (tmp_path / "link", Path("/")), (Path("/link"), tmp_path)):
            assert file_build_id(path, root) is None
        with pytest.raises(subprocess.TimeoutExpired):
            writer.wait(0.2)
    finally:
        writer.kill()
        writer.wait()


def test_interrupted_calls_restart() -> None:
    eintr = (1 << 64) - 4
    waiting = ZERO._replace(rax=eintr, orig_rax=232)
    changed = restarted(waiting)
    assert changed is not None
    assert sys.signed(changed.rax) == -514
    assert restarted(waiting._replace(orig_rax=3)) is None, "close must not be made twice"
    assert restarted(waiting._replace(orig_rax=(1 << 64) - 1)) is None
    assert restarted(waiting._replace(rax=1)) is None


@pytest.mark.parametrize(
    ("call", "may"),
    [
        ({"orig_rax": 285, "rsi": 0}, True),
        ({"orig_rax": 285, "rsi": (1 << 32) | 0x13}, True),  # the upper half is nobody's
        ({"orig_rax": 285, "rsi": 0x08}, False),  # FALLOC_FL_COLLAPSE_RANGE
        ({"orig_rax": 285, "rsi": 0x20}, False),  # FALLOC_FL_INSERT_RANGE
        ({"orig_rax": 16, "rsi": 0x5409, "rdx": 1}, True),  # tcdrain
        ({"orig_rax": 16, "rsi": 0x5409, "rdx": 0}, False),  # tcsendbreak
        ({"orig_rax": 16, "rsi": 0x541B, "rdx": 1}, False),
    ],
)
def test_calls_that_restart_with_some_arguments(call: dict[str, int], may: bool) -> None:
    assert (restarted(ZERO._replace(rax=(1 << 64) - 4, **call)) is not None) == may


def test_resume_registers() -> None:
    def at(result: int, number: int, **more: int) -> Registers:
        return ZERO._replace(rax=result % 2**64, orig_rax=number % 2**64, rip=100, **more)

    for result in (-512, -513, -514):
        back = remote.resume_registers(at(result, 0), reluctant=False)
        assert back is not None
        assert (back.rip, back.rax) == (98, 0)
    running = at(-512, -1)
    assert remote.resume_registers(running, reluctant=False) is running
    assert remote.resume_registers(at(-516, 35), reluctant=False) is None
    assert remote.resume_registers(at(-516, 35), reluctant=True) is not None
    assert remote.resume_registers(at(-516, 1000), reluctant=True) is None
    forever = at(-516, 7, rdx=0xFFFFFFFF)
    assert remote.resume_registers(forever, reluctant=False) is not None
    done = at(-4, 3)
    assert remote.resume_registers(done, reluctant=False) is done


GADGETS = remote.Gadgets(0x9ABC, 0x5678)


def test_frames_of_further_calls() -> None:
    """Each frame makes one call, and has the thread return to the next one; the last one is where it was."""
    registers = ZERO._replace(rsp=0x7000_0000_1238, rip=0x1234, cs=0x33, ss=0x2B, r8=8, rdi=1)
    calls = [remote.Call(10, (0x4000, 0x1000, 1)), remote.Call(9, (1, 2, 3, 4, -1, 6))]
    _, last = remote.build_frames(registers, 0xABCD, bytes(2696), GADGETS)
    start, content = remote.build_frames(registers, 0xABCD, bytes(2696), GADGETS, calls)
    assert content.endswith(last)

    def word(at: int) -> int:
        return int.from_bytes(content[at - start :][:8], "little")

    floating, seen = word(start + 8 + 224), []
    for _ in calls:
        assert (word(start), word(start + 8 + 168)) == (GADGETS.restorer, GADGETS.syscall_ret)
        assert (word(start + 8 + 224), word(start + 8 + 296)) == (floating, (1 << 64) - 1)
        rdi, rsi, rdx, rax = (word(start + 8 + 40 + 8 * n) for n in (8, 9, 12, 13))
        seen.append((rax, rdi, rsi, rdx))
        following = word(start + 8 + 160)
        assert following > start
        content, start = content[following - start :], following
    assert seen == [(10, 0x4000, 0x1000, 1), (9, 1, 2, 3)]
    assert content == last


def test_frame_layout() -> None:
    xsave = bytearray(2696)
    xsave[464:472] = (0xE7).to_bytes(8, "little")
    registers = ZERO._replace(rsp=0x7000_0000_1238, rip=0x1234, cs=0x33, ss=0x2B)
    start, frame = remote.build_frames(registers, 0xABCD, bytes(xsave), GADGETS)
    assert start + len(frame) <= registers.rsp - 128
    assert frame[:8] == (0x5678).to_bytes(8, "little")
    context = frame[8:]
    assert int.from_bytes(context[160:168], "little") == registers.rsp
    assert int.from_bytes(context[168:176], "little") == registers.rip
    assert int.from_bytes(context[24:28], "little") == 5, "invalid ss_flags"
    floating = int.from_bytes(context[224:232], "little")
    assert floating % 64 == 0
    assert int.from_bytes(context[296:304], "little") == 0xABCD
    area = frame[floating - start :]
    assert area[464:468] == (0x46505853).to_bytes(4, "little")
    assert area[-4:] == (0x46505845).to_bytes(4, "little")
    assert len(area) == 2700
