"""The budget of a stop is kept while entries are written, and what is reported is what was done."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from hotmend.linux.memory import ProcessMemory
from hotmend.linux.stop import Stopped, Stopper
from hotmend.live import transaction
from hotmend.live.driver import Options, apply, revert
from hotmend.live.machine import State, Step
from hotmend.live.registry import process_status
from hotmend.live.transaction import Transaction
from hotmend.model.hotpatch import Hotpatch
from tests.live.conftest import OWN_BUILD_ID, Target
from tests.live.handmade import compile_target, make_hotpatch

Start = Callable[..., Target]
FUNCTIONS = 60
_BUDGET_SECONDS = 1000.0
"""On the clock of the test, on which a write takes `_WRITE_SECONDS` and all else next to nothing."""
_WRITE_SECONDS = 150.0
_WRITES_MAX = 7


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program of many small functions, which says the sum of their numbers."""
    folder = tmp_path_factory.mktemp("many")
    names = [f"f{i}" for i in range(FUNCTIONS)]
    functions = "".join(f"int {name}(void) {{ return 1; }}\n" for name in names)
    total = "+".join(f"{name}()" for name in names)
    answer = f'printf("%d\\n", {total}); fflush(stdout);'
    main = f'int main(void) {{ char c; puts("ready"); fflush(stdout); while (read(0, &c, 1) == 1) {{ {answer} }} }}'
    (folder / "many.c").write_text(f"#include <stdio.h>\n#include <unistd.h>\n{functions}{main}\n")
    return compile_target(folder / "many.c", folder / "many", OWN_BUILD_ID, "-falign-functions=16")


def hotpatch_of(program: Path, count: int, answer: int = 2) -> Hotpatch:
    return make_hotpatch(program, {f"f{i}": answer for i in range(count)})


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many writes each stop made. A stop's clock goes on by each write alone, and begins anew with each stop."""
    made: list[int] = []
    ahead = [0.0]
    real_stop, real_release, real_write = Stopper.stop, Stopper.release, ProcessMemory.write
    stopped = [False]

    def stop(self: Stopper, budget: float, only: int | None = None) -> Stopped:
        result = real_stop(self, budget, only)
        stopped[0] = True
        made.append(0)
        return result

    def release(self: Stopper, held: Stopped) -> float:
        stopped[0], ahead[0] = False, 0.0
        return real_release(self, held)

    def write(self: ProcessMemory, address: int, content: bytes) -> None:
        if stopped[0]:
            made[-1] += 1
            ahead[0] += _WRITE_SECONDS
        real_write(self, address, content)

    monkeypatch.setattr(Stopper, "stop", stop)
    monkeypatch.setattr(Stopper, "release", release)
    monkeypatch.setattr(ProcessMemory, "write", write)
    clock = SimpleNamespace(perf_counter=lambda: time.perf_counter() + ahead[0])
    monkeypatch.setattr(transaction, "time", clock)
    return made


@pytest.mark.parametrize("count", [FUNCTIONS, transaction.TOGETHER_MAX])
def test_budget_is_kept_while_writing(many: Path, start: Start, writes: list[int], count: int) -> None:
    """Each stop leaves to the next one what it has no time for, one write at most beyond it; all of it is done."""
    target, hotpatch = start(many), hotpatch_of(many, count)
    options = Options(max_pause_us=int(_BUDGET_SECONDS * 1e6))
    assert [r.state for r in apply([hotpatch], [target.pid], options)] == ["applied"]
    assert target.ask("a") == str(FUNCTIONS + count)
    assert [r.state for r in revert(None, [target.pid], options)] == ["reverted"]
    assert target.ask("a") == str(FUNCTIONS)
    assert sum(writes) >= 4 * count
    assert max(writes) <= _WRITES_MAX, writes


def test_a_budget_for_no_write(many: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stops in which there is never time to write: refused at the deadline, with the old code."""
    target = start(many)
    monkeypatch.setattr(Transaction, "_is_time_up", lambda _: True)
    for count in (FUNCTIONS, transaction.TOGETHER_MAX):
        (result,) = apply([hotpatch_of(many, count)], [target.pid], Options(deadline_seconds=0.5, max_pause_us=50_000))
        assert [r.code for r in result.reasons] == ["did-not-stop"]
        assert "no time left to write" in result.reasons[0].sentence
        assert target.ask("a") == str(FUNCTIONS)


def test_what_came_before_is_reported_too(many: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repair within an apply: its stops are counted, and its pause too."""
    target = start(many)
    with monkeypatch.context() as patched:

        def dies(self: Transaction, _: object) -> None:
            self.run(Step.STAGE)
            raise KeyboardInterrupt

        patched.setattr(Transaction, "walk", dies)
        with pytest.raises(KeyboardInterrupt):
            apply([hotpatch_of(many, FUNCTIONS)], [target.pid], Options())
    assert [s.state for s in process_status(target.pid)] == [State.STAGED]
    made: list[float] = []
    real_release = Stopper.release

    def release(self: Stopper, held: Stopped) -> float:
        made.append(real_release(self, held))
        return made[-1]

    whole: list[int] = []
    real_attempt = Transaction._attempt

    def attempt(self: Transaction, *arguments: object, turning: bool) -> float | None:
        whole.append(1)
        return real_attempt(self, *arguments, turning=turning)  # type: ignore[arg-type]

    monkeypatch.setattr(Stopper, "release", release)
    monkeypatch.setattr(Transaction, "_attempt", attempt)
    (result,) = apply([hotpatch_of(many, 2, 3)], [target.pid], Options())
    assert result.state == "applied"
    assert result.attempts == len(whole) > 3
    assert result.pause_us >= max(made) * 1e6 - 0.1
