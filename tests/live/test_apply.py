"""Old answer, new answer, old answer; and what must refuse, with its reason."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hotmend.linux import procfs
from hotmend.live import change
from hotmend.live.driver import Options, ProcessResult, apply, revert
from hotmend.live.gate import hotpatch_id
from hotmend.live.machine import State
from hotmend.live.registry import process_status
from hotmend.model.hotpatch import Hotpatch
from tests.live.conftest import OWN_BUILD_ID, Target, comes_true, end, leaves_after
from tests.live.handmade import compile_target, make_hotpatch

Start = Callable[..., Target]
ANSWERS = {"first": 2, "second": 2, "slow": 2, "high": 2}
QUICK = Options(deadline_seconds=0.2, max_pause_us=50_000)


def one(results: list[ProcessResult]) -> ProcessResult:
    """Return the only result."""
    assert len(results) == 1
    return results[0]


def codes(result: ProcessResult) -> list[str]:
    """Return the codes of the reasons."""
    return [reason.code for reason in result.reasons]


def applied(hotpatch: Hotpatch, target: Target) -> ProcessResult:
    """Apply, which must succeed."""
    result = one(apply([hotpatch], [target.pid], Options()))
    assert result.state == "applied", result
    return result


@pytest.mark.parametrize("threads", ["0", "64"])
def test_old_new_old(program: Path, start: Start, threads: str) -> None:
    target, hotpatch = start(program, threads), make_hotpatch(program, ANSWERS)
    assert target.ask("a") == "1 1 1"
    assert process_status(target.pid) == []
    result = applied(hotpatch, target)
    assert result.threads == int(threads) + 1
    assert result.redirected == 4
    assert target.ask("a") == "2 2 2"
    (status,) = process_status(target.pid)
    assert status.state is State.SETTLED
    assert status.id == hotpatch_id(hotpatch)
    assert status.cves == ("CVE-2026-0001",)
    assert [f.live for f in status.functions] == [True] * 4
    assert one(apply([hotpatch], [target.pid], Options())).state == "unchanged"
    assert one(revert(None, [target.pid], Options())).state == "reverted"
    assert target.ask("a") == "1 1 1"
    assert process_status(target.pid)[0].state is State.PLACED
    assert one(revert(None, [target.pid], Options())).state == "unchanged"


def test_many_functions(tmp_path: Path, start: Start) -> None:
    """500 of them: staged in many short stops, switched in one, and back."""
    names = [f"f{n}" for n in range(500)]
    bodies = "\n".join(f"int {name}(void) {{ return 1; }}" for name in names)
    calls = " + ".join(f"{name}()" for name in names)
    source = tmp_path / "many.c"
    source.write_text(
        "#include <stdio.h>\n#include <unistd.h>\n" + bodies + '\nint main(void) { char c; alarm(300); puts("ready");'
        f' fflush(stdout); while (read(0, &c, 1) == 1) {{ printf("%d\\n", {calls}); fflush(stdout); }} return 0; }}'
    )
    program = compile_target(source, tmp_path / "many", "-falign-functions=16", OWN_BUILD_ID)
    target, hotpatch = start(program), make_hotpatch(program, dict.fromkeys(names, 2))
    assert target.ask("a") == "500"
    assert applied(hotpatch, target).attempts > 5
    assert target.ask("a") == "1000"
    assert one(revert(None, [target.pid], Options())).state == "reverted"
    assert target.ask("a") == "500"


def test_fixed_address(fixed_program: Path, start: Start) -> None:
    target, hotpatch = start(fixed_program), make_hotpatch(fixed_program, ANSWERS)
    result = applied(hotpatch, target)
    assert result.shadows[0].end < 1 << 31
    assert target.ask("a") == "2 2 2"


def test_all_processes_that_map_the_build(program: Path, start: Start) -> None:
    targets, hotpatch = [start(program), start(program)], make_hotpatch(program, ANSWERS)
    results = apply([hotpatch], None, Options())
    assert {r.pid for r in results} == {t.pid for t in targets}
    assert [t.ask("a") for t in targets] == ["2 2 2"] * 2
    reverted = revert([hotpatch_id(hotpatch)], None, Options())
    assert {r.pid for r in reverted if r.state == "reverted"} == {t.pid for t in targets}


def test_deleted_file(program: Path, start: Start, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(program.read_bytes())
    copy.chmod(0o755)
    target, hotpatch = start(copy), make_hotpatch(copy, ANSWERS)
    copy.unlink()
    applied(hotpatch, target)
    assert target.ask("a") == "2 2 2"


def test_same_shadow_again(program: Path, start: Start) -> None:
    target, hotpatch = start(program), make_hotpatch(program, ANSWERS)
    first = applied(hotpatch, target)
    maps = len(Path(f"/proc/{target.pid}/maps").read_text().splitlines())
    for _ in range(20):
        assert one(revert(None, [target.pid], Options())).state == "reverted"
        assert applied(hotpatch, target).shadows == first.shadows
    assert len(Path(f"/proc/{target.pid}/maps").read_text().splitlines()) == maps


@pytest.mark.parametrize(("command", "name"), [("s", "slow"), ("h", "high")])
def test_active_function(program: Path, start: Start, monkeypatch: pytest.MonkeyPatch, command: str, name: str) -> None:
    """Also with the frame more than 64 KiB up the stack."""
    target, hotpatch = start(program), make_hotpatch(program, ANSWERS)
    assert target.ask(command) == "inside"
    result = one(apply([hotpatch], [target.pid], QUICK))
    assert result.state == "refused"
    assert codes(result) == ["function-active"]
    assert name in result.reasons[0].sentence
    assert str(target.pid) in result.reasons[0].sentence
    leaves_after(3, target, monkeypatch)
    assert applied(hotpatch, target).attempts > 3
    assert target.read() == "1"
    assert target.ask(command) == "2"


def test_handler_on_the_alternate_stack(program: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    target, hotpatch = start(program), make_hotpatch(program, ANSWERS)
    os.kill(target.pid, signal.SIGUSR1)
    assert target.read() == "inside"
    assert codes(one(apply([hotpatch], [target.pid], QUICK))) == ["function-active"]
    leaves_after(3, target, monkeypatch)
    applied(hotpatch, target)
    assert target.ask("a") == "2 2 2"


def test_coroutine(program: Path, start: Start) -> None:
    """Refused while one is suspended in the function; one that has ended leaves its stack behind and is known to."""
    target, hotpatch = start(program), make_hotpatch(program, {"paused": 2})
    assert target.ask("y") == "suspended"
    assert codes(one(apply([hotpatch], [target.pid], QUICK))) == ["coroutine-suspected"]
    assert target.ask("e") == "ended"
    assert target.ask("y") == "suspended"
    assert codes(one(apply([hotpatch], [target.pid], QUICK))) == ["coroutine-suspected"]
    assert target.ask("e") == "ended"
    applied(hotpatch, target)


def test_coroutine_between_the_look_and_the_switch(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It suspends in the function after the look: refused, by what the stop finds on the stack that the look saw."""
    path = compile_target(Path(__file__).with_name("coroutine.c"), tmp_path / "coroutine", OWN_BUILD_ID)
    target, hotpatch = start(path), make_hotpatch(path, {"paused": 2})
    assert (target.ask("y"), target.ask("e")) == ("suspended", "ended")
    real, patient = change._refuse_suspended, Options(deadline_seconds=1.0, max_pause_us=100_000)

    def look(*arguments: Any) -> None:
        real(*arguments)
        assert target.ask("y") == "suspended"

    with monkeypatch.context() as patched:
        patched.setattr(change, "_refuse_suspended", look)
        assert codes(one(apply([hotpatch], [target.pid], patient))) == ["coroutine-suspected"]
    assert target.ask("e") == "ended"
    assert one(apply([hotpatch], [target.pid], patient)).state == "applied"
    assert target.ask("a") == "2"


def test_child_of_another_thread(program: Path, start: Start) -> None:
    """Its only thread stands on the stack of the thread that forked."""
    target, hotpatch = start(program), make_hotpatch(program, ANSWERS)
    child = int(target.ask("F"))
    try:
        assert one(apply([hotpatch], [child], Options())).state == "applied"
    finally:
        end(child)


def test_fork_after_apply(program: Path, start: Start) -> None:
    target, hotpatch = start(program), make_hotpatch(program, ANSWERS)
    applied(hotpatch, target)
    assert target.ask("f") == "2 2"


def test_alternate_stack_stays(program: Path, start: Start) -> None:
    target, hotpatch = start(program), make_hotpatch(program, ANSWERS)
    before = target.ask("k")
    applied(hotpatch, target)
    assert target.ask("k") == before == "1 0 65536"


def test_dry_run_writes_nothing(program: Path, start: Start) -> None:
    target, hotpatch = start(program), make_hotpatch(program, ANSWERS)
    assert one(apply([hotpatch], [target.pid], Options(dry_run=True))).state == "would-apply"
    assert process_status(target.pid) == []
    applied(hotpatch, target)
    assert one(revert(None, [target.pid], Options(dry_run=True))).state == "would-revert"
    assert target.ask("a") == "2 2 2"


def test_code_in_memory_differs(program: Path, start: Start) -> None:
    target, hotpatch = start(program), make_hotpatch(program, ANSWERS)
    changed = replace(hotpatch.replaced[0], sha256="0" * 64)
    wrong = replace(hotpatch, replaced=(changed, *hotpatch.replaced[1:]))
    result = one(apply([wrong], [target.pid], QUICK))
    assert (result.state, codes(result)) == ("refused", ["code-differs"])


def test_missing_and_present_import(program: Path, start: Start) -> None:
    target = start(program)
    wrong = make_hotpatch(program, {"first": "import:no_such_function"})
    assert codes(one(apply([wrong], [target.pid], QUICK))) == ["import-missing"]
    applied(make_hotpatch(program, {"first": "import:getpid"}), target)
    assert target.ask("a") == f"{target.pid} 1 {target.pid}"


def test_another_hotpatch_is_on(program: Path, start: Start) -> None:
    """It takes over where that is possible; after a revert it is on by itself, in a shadow of its own."""
    target = start(program)
    applied(make_hotpatch(program, ANSWERS), target)
    other = make_hotpatch(program, {"first": 3})
    untold = replace(other, variables=None)
    assert codes(one(apply([untold], [target.pid], QUICK))) == ["added-variable-unknown"]
    applied(other, target)
    assert target.ask("a") == "3 1 3"
    assert one(revert(None, [target.pid], Options())).state == "reverted"
    assert target.ask("a") == "1 1 1"
    applied(other, target)
    assert target.ask("a") == "3 1 3"
    assert [s.state for s in process_status(target.pid)].count(State.PLACED) == 2
    assert [s.active for s in process_status(target.pid)].count(True) == 1
    assert one(apply([other], [target.pid], Options())).state == "unchanged"
    assert one(revert(None, [target.pid], Options())).state == "reverted"
    assert target.ask("a") == "1 1 1"


def test_job_control(program: Path, start: Start) -> None:
    target, hotpatch = start(program), make_hotpatch(program, ANSWERS)
    os.kill(target.pid, signal.SIGSTOP)
    assert comes_true(lambda: procfs.read_stat(target.pid).state == "T")
    assert codes(one(apply([hotpatch], [target.pid], QUICK))) == ["stopped-by-job-control"]
    os.kill(target.pid, signal.SIGCONT)
    applied(hotpatch, target)


def test_gone_and_not_mapped(program: Path, start: Start) -> None:
    target, hotpatch = start(program), make_hotpatch(program, ANSWERS)
    assert codes(one(apply([hotpatch], [os.getpid()], QUICK))) == ["not-mapped"]
    target.close()
    assert one(apply([hotpatch], [target.pid], QUICK)).state == "gone"
