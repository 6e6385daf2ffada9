"""The filter machine against the kernel: what it computes is what the kernel answers, number for number."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotmend.linux.seccomp import INSTRUCTION, Action, CallData, FilterError, answer

_ASKED = 0x3E7
"""A number no system call has: whatever a filter lets pass fails with ENOSYS and harms nobody."""

_ENOSYS, _SIGSYS = 38, 31
_LOAD, _LOAD_LENGTH, _RETURN, _RETURN_A = 0x20, 0x80, 0x06, 0x16
_ALU_K, _ALU_X = 0x04, 0x0C
_OPERATIONS = [0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0xA0]
_JUMPS = [0x15, 0x25, 0x35, 0x45, 0x1D, 0x2D, 0x3D, 0x4D]
_NUMBERS = st.one_of(st.integers(0, 0xFFFFFFFF), st.integers(0, 40), st.sampled_from([0x80000000, 0xFFFFFFFF, 1 << 31]))


def code(operation: int, k: int = 0, jump_true: int = 0, jump_false: int = 0) -> bytes:
    """Return one instruction."""
    return INSTRUCTION.pack(operation, jump_true, jump_false, k)


@st.composite
def _step(draw: st.DrawFn, left: int) -> bytes:
    """Draw one instruction that has `left` more behind it."""
    kind = draw(st.integers(0, 9))
    operation, k = draw(st.sampled_from(_OPERATIONS)), draw(_NUMBERS)
    if kind <= 1:
        return code(_LOAD, 4 * draw(st.integers(0, 15)))
    if kind == 2:
        return code(_ALU_X | operation)
    if kind <= 4:
        k = k % 32 if operation in (0x60, 0x70) else max(k, 1) if operation == 0x30 else k
        return code(_ALU_K | operation, k)
    if kind == 5:
        hops = st.integers(0, left)
        return code(draw(st.sampled_from(_JUMPS)), k, draw(hops), draw(hops))
    if kind == 6:
        return code(0x05, draw(st.integers(0, left)))
    if kind == 7:
        return code(draw(st.sampled_from([0x02, 0x03, 0x60, 0x61])), draw(st.integers(0, 15)))
    simple = [code(0x07), code(0x87), code(0x84), code(_LOAD_LENGTH), code(0x81), code(0x00, k), code(0x01, k)]
    return draw(st.sampled_from(simple))


@st.composite
def _computing(draw: st.DrawFn) -> bytes:
    """Draw a filter that computes something and answers it as an error number."""
    count = draw(st.integers(1, 30))
    slots = b"".join(code(0x02, slot) for slot in range(16))  # the kernel wants every slot written before it is read
    guard = code(_LOAD, 0) + code(0x15, _ASKED, 1, 0) + code(_RETURN, Action.ALLOW)
    body = b"".join(draw(_step(count - index - 1)) for index in range(count))
    fold = code(0x54, 0xFFF) + code(0x44, int(Action.ERRNO)) + code(_RETURN_A)
    return guard + slots + body + fold


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oracle]:
    """The kernel, asked by a small program."""
    program = tmp_path_factory.mktemp("oracle") / "oracle"
    source = Path(__file__).with_name("filter_oracle.c")
    subprocess.run(["gcc", "-O1", "-no-pie", "-o", str(program), str(source)], check=True)
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        yield Oracle(process)
        assert process.stdin is not None
        process.stdin.close()


class Oracle:
    """Asks the kernel."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.input, self.output = process.stdin, process.stdout
        self.behind = int(self.output.readline(), 16)

    def ask(self, filters: list[bytes], arguments: tuple[int, ...]) -> str:
        """Return what became of the call; the filters are given newest first."""
        words = [f"{number:x}" for number in (_ASKED, *arguments)]
        self.input.write(" ".join([*words, *(text.hex() for text in reversed(filters))]) + "\n")
        return self.output.readline().strip()

    def data(self, arguments: tuple[int, ...]) -> CallData:
        """Return the same call as the filters see it."""
        return CallData(_ASKED, arguments, self.behind)


ARGUMENTS = st.tuples(*[st.one_of(st.integers(0, (1 << 64) - 1), st.integers(0, 8))] * 6)


@given(filters=st.lists(_computing(), min_size=1, max_size=2), arguments=ARGUMENTS)
@settings(max_examples=400, deadline=None)
def test_the_machine_computes_what_the_kernel_computes(
    oracle: Oracle, filters: list[bytes], arguments: tuple[int, ...]
) -> None:
    said = answer(filters, oracle.data(arguments))
    became = oracle.ask(filters, arguments)
    if said.action is Action.KILL_THREAD:  # a division by zero: the only thread dies
        assert became == f"signal {_SIGSYS}"
    else:
        assert said.action is Action.ERRNO
        assert became == (f"errno {said.value}" if said.value else "result 0")


_BECOMES = {
    Action.KILL_PROCESS: f"signal {_SIGSYS}",
    Action.KILL_THREAD: f"signal {_SIGSYS}",
    Action.TRAP: f"signal {_SIGSYS}",
    Action.ERRNO: "errno 5",
    Action.TRACE: f"errno {_ENOSYS}",  # without a tracer
    Action.USER_NOTIF: f"errno {_ENOSYS}",  # without a listener
    Action.LOG: f"errno {_ENOSYS}",
    Action.ALLOW: f"errno {_ENOSYS}",
}


def _constant(action: int) -> bytes:
    """Return a filter that answers one thing to the call that is asked about."""
    body = code(_LOAD, 0) + code(0x15, _ASKED, 1, 0) + code(_RETURN, int(Action.ALLOW))
    return body + code(_RETURN, action & 0xFFFFFFFF)


@given(st.lists(st.sampled_from(list(Action)), min_size=1, max_size=4))
@settings(max_examples=120, deadline=None)
def test_the_strictest_of_several_filters_wins(oracle: Oracle, actions: list[Action]) -> None:
    filters = [_constant(action | 5 if action is Action.ERRNO else action) for action in actions]
    said = answer(filters, oracle.data((0,) * 6))
    assert oracle.ask(filters, (0,) * 6) == _BECOMES[said.action]
    assert said.passes == (said.action in (Action.ALLOW, Action.LOG))


@given(st.integers(0, 0xFFFF))
@settings(max_examples=40, deadline=None)
def test_an_action_nobody_knows_kills(oracle: Oracle, number: int) -> None:
    action = number << 16
    said = answer([_constant(action)], oracle.data((0,) * 6))
    assert oracle.ask([_constant(action)], (0,) * 6) == _BECOMES[said.action].replace("errno 5", "result 0")


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_an_error(program: bytes) -> None:
    try:
        answer([program], CallData(9, (0,) * 6, 0))
    except FilterError:
        return
