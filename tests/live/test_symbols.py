"""New code is first class: gdb, perf, eu-stack and our own unwinder see through it, alive and in a core file."""

from __future__ import annotations

import hashlib
import os
import resource
import secrets
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hotmend.diff.options import Options as Comparison
from hotmend.diff.pipeline import compare
from hotmend.image.elf import read_image
from hotmend.linux import procfs
from hotmend.linux.memory import ProcessMemory
from hotmend.linux.process import process_images
from hotmend.linux.stop import Stopper
from hotmend.live.audit import read_audit
from hotmend.live.driver import Options, apply, revert
from hotmend.live.gate import HeaderRecord, find_shadows
from hotmend.live.symbols import unwinder_of
from hotmend.model.hotpatch import Hotpatch
from tests.live.conftest import Target, comes_true
from tests.scenarios.engine import run_hotmend
from tests.servers.process import cpu_seconds

Start = Callable[..., Target]
SOURCE = Path(__file__).with_name("firstclass.c")
PATIENT = Options(deadline_seconds=20.0, max_pause_us=50_000)
QUICK = Options(deadline_seconds=0.3, max_pause_us=50_000)
FLAGS = ("-O2", "-g", "-fno-ipa-icf", "-fPIE", "-pie")


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Old and new build, with names; beside each a stripped one (`.stripped`)."""
    folder, made = tmp_path_factory.mktemp("firstclass"), []
    for version in (1, 2):
        program = folder / f"program{version}"
        tag = f"-Wl,--build-id=0x{secrets.token_hex(20)}"
        subprocess.run(["gcc", *FLAGS, f"-DVERSION={version}", tag, "-o", program, SOURCE], check=True)
        subprocess.run(["strip", "-o", f"{program}.stripped", program], check=True)
        made.append(program)
    return made[0], made[1]


def stripped(program: Path) -> Path:
    """The same without names."""
    return program.with_name(program.name + ".stripped")


@pytest.fixture(scope="module")
def hotpatch(builds: tuple[Path, Path]) -> Hotpatch:
    """Made from the builds with names; both pairs have the same build-ids."""
    found = compare(read_image(builds[0]), read_image(builds[1]), options=Comparison()).hotpatch
    assert found is not None
    assert [f.name for f in found.functions] == ["middle"]
    return found


@pytest.fixture
def target(builds: tuple[Path, Path], hotpatch: Hotpatch, start: Start, tmp_path: Path) -> Target:
    """Patched; a core file of it goes to `tmp_path`."""
    running = start(stripped(builds[0]), str(tmp_path))
    assert running.ask("a") == "12"
    (result,) = apply([hotpatch], [running.pid], PATIENT)
    assert result.state == "applied", result
    assert running.ask("a") == "16"
    return running


def shadow(pid: int) -> HeaderRecord:
    """Its one shadow."""
    with ProcessMemory(pid) as memory:
        (found,) = find_shadows(memory, procfs.read_maps(pid))
    return found.record


def hold(target: Target) -> None:
    """Have it wait below the new code."""
    assert target.ask("w") == "inside"
    assert comes_true(lambda: procfs.read_stat(target.pid).state == "S")


def gdb(*arguments: str) -> str:
    """What gdb prints."""
    return subprocess.run(["gdb", "-nx", "-q", "-batch", *arguments], capture_output=True, text=True, check=True).stdout


def test_our_unwinder_goes_through_new_code(target: Target) -> None:
    hold(target)
    pid, (function,) = target.pid, shadow(target.pid).functions
    with ProcessMemory(pid) as memory:
        unwinder = unwinder_of(memory, process_images(pid).images, procfs.read_maps(pid))
        stopper = Stopper(pid)
        stopped = stopper.stop(1.0)
        try:
            frames = unwinder.frames(pid)
        finally:
            stopper.release(stopped)
            unwinder.close()
    assert frames is not None, "it stopped in the middle"
    assert [pc for pc in frames if function.address < pc <= function.address + function.size]
    assert len(frames) >= 7


def test_a_revert_names_the_new_function_and_waits_for_it(target: Target) -> None:
    hold(target)
    (result,) = revert(None, [target.pid], QUICK)
    assert [(r.code, r.subjects) for r in result.reasons] == [("function-active", (f"middle in thread {target.pid}",))]
    assert target.ask("x") == "16"
    (result,) = revert(None, [target.pid], PATIENT)
    assert result.state == "reverted", result
    assert target.ask("a") == "12"


def test_gdb_shows_names_and_lines(target: Target, builds: tuple[Path, Path], tmp_path: Path) -> None:
    hold(target)
    said = run_hotmend("symbols", str(target.pid), "-o", str(tmp_path))
    assert said.code == 0, said.log
    script = str(said.objects[0]["gdb_script"])
    trace = gdb("-p", str(target.pid), "-x", script, "-ex", "bt")
    assert " in middle ()" in trace
    assert "__libc_start_main" in trace
    bias = shadow(target.pid).shadow_bias
    assert f"add-symbol-file DEBUG-FILE -o {bias:#x}" in Path(script).read_text()
    trace = gdb("-p", str(target.pid), "-ex", f"add-symbol-file {builds[1]} -o {bias:#x}", "-ex", "bt")
    assert "middle (how=" in trace
    assert "firstclass.c:" in trace


def test_perf_shows_names(target: Target, tmp_path: Path) -> None:
    """perf reads the list in /tmp of the process; it is ours to take away again."""
    said = run_hotmend("symbols", str(target.pid), "-o", "/tmp")
    names = [Path(str(said.objects[0][key])) for key in ("perf_map", "gdb_script")]
    names += [Path(str(entry["file"])) for entry in said.objects[0]["files"]]  # type: ignore[attr-defined]
    try:
        data = str(tmp_path / "perf.data")
        before = cpu_seconds(target.pid)
        target.send("s")
        assert comes_true(lambda: cpu_seconds(target.pid) > before)
        command = ["perf", "record", "-q", "-e", "cpu-clock", "-o", data, "-p", str(target.pid), "--", "sleep", "0.3"]
        subprocess.run(command, check=True)
        printed = subprocess.run(["perf", "report", "--stdio", "-i", data], capture_output=True, text=True, check=True)
    finally:
        for name in names:
            name.unlink()
    assert "middle" in printed.stdout


def test_a_core_file_can_be_read(target: Target, builds: tuple[Path, Path], tmp_path: Path) -> None:
    """eu-stack by itself, gdb with what `symbols --core` writes: through new code to the end of the stack."""
    resource.prlimit(target.pid, resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    core = tmp_path / "core.firstclass"
    target.send("c")
    target.process.wait(30)
    (found,) = [name for name in os.listdir(tmp_path) if name.startswith("core")]
    (tmp_path / found).rename(core)
    printed = subprocess.run(
        ["eu-stack", f"--core={core}", "-e", stripped(builds[0])], capture_output=True, text=True, check=True
    ).stdout
    assert " middle\n" in printed
    assert "__libc_start_main" in printed
    said = run_hotmend("symbols", "--core", str(core), "-o", str(tmp_path))
    assert said.code == 0, said.log
    trace = gdb(str(stripped(builds[0])), str(core), "-x", str(said.objects[0]["gdb_script"]), "-ex", "bt")
    assert " in middle ()" in trace
    assert "__libc_start_main" in trace


def test_the_audit_record_has_the_change_of_the_linkers_list(
    builds: tuple[Path, Path], hotpatch: Hotpatch, start: Start, tmp_path: Path
) -> None:
    running, file = start(stripped(builds[0])), tmp_path / "audit.jsonl"
    options = replace(PATIENT, audit=str(file))
    assert [r.state for r in apply([hotpatch], [running.pid], options)] == ["applied"]
    assert [r.state for r in revert(None, [running.pid], options)] == ["reverted"]
    frames = shadow(running.pid).frames
    assert frames is not None
    with ProcessMemory(running.pid) as memory:
        now = hashlib.sha256(memory.read(frames.words, 24)).hexdigest()
    said = [record.list_sha256 for record in read_audit(file).records]
    assert said[1:] == [now] * 3
    assert said[0] not in ("", now)


def test_nothing_to_say_without_a_hotpatch(builds: tuple[Path, Path], start: Start, tmp_path: Path) -> None:
    running = start(stripped(builds[0]))
    assert run_hotmend("symbols", str(running.pid), "-o", str(tmp_path)).code == 3
    assert os.listdir(tmp_path) == []
