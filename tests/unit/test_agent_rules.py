"""The agent's rules and files: configuration, hold, never, quarantine, history, probes, crashes."""

from __future__ import annotations

import http.server
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotmend.agent.census.never import DEFAULT_COMMANDS, DEFAULT_UNITS, Never
from hotmend.agent.configuration import Configuration, parse_configuration, read_configuration
from hotmend.agent.health.crashes import (
    Trap,
    crash_of_changed,
    crash_text,
    in_new_code,
    parse_record,
    read_traps,
)
from hotmend.agent.health.ended import ended_together
from hotmend.agent.health.events import Hook, run_hooks
from hotmend.agent.health.probes import (
    AnyProbe,
    CommandProbe,
    HttpProbe,
    LogProbe,
    TcpProbe,
    UnhealthyError,
    UnitProbe,
    begin,
    unhealthy,
)
from hotmend.agent.machine import alone
from hotmend.agent.pace import pace
from hotmend.agent.paths import Places
from hotmend.agent.record.history import (
    Action,
    AgentBegan,
    AnyEvent,
    Assessed,
    ChangedProcess,
    History,
    Lost,
    Quarantined,
    Read,
    RunBegan,
    RunEnded,
    RunState,
    Seen,
    decode,
    last_actions,
    unfinished,
    unless_the_same,
)
from hotmend.agent.record.hold import Hold, begin_hold, end_hold, read_hold
from hotmend.agent.record.quarantine import Entry, put_in, read_quarantine, take_out, write_quarantine
from hotmend.agent.run import worst
from hotmend.linux.procfs import read_stat
from hotmend.model.errors import HotmendError, InputError
from hotmend.servicing.actions import State

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


# --- configuration ----------------------------------------------------------------------------------------


def test_nothing_said_is_observing_first_and_then_only_telling(tmp_path: Path) -> None:
    found = read_configuration(tmp_path / "missing.toml")
    assert found == Configuration()
    assert found.effective_mode(None, NOW) == "observe"
    assert found.effective_mode(NOW - timedelta(days=6, hours=23), NOW) == "observe"
    assert found.effective_mode(NOW - timedelta(days=7), NOW) == "notify"


@pytest.mark.parametrize("mode", ["observe", "notify", "download", "automatic"])
def test_no_mode_is_in_force_before_the_days_of_observing_are_over(mode: str) -> None:
    found = parse_configuration(f'mode = "{mode}"\nobserve_days = 3', "here")
    assert found.effective_mode(NOW - timedelta(days=2), NOW) == "observe"
    assert found.effective_mode(NOW - timedelta(days=3), NOW) == mode
    at_once = parse_configuration(f'mode = "{mode}"\nobserve_days = 0', "here")
    assert at_once.effective_mode(None, NOW) == mode


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("mode = 3", "Expected `str`"),
        ('mode = "sometimes"', "Invalid enum value"),
        ("strange = 1", "unknown field `strange`"),
        ("= 1", "Invalid statement"),
        ('zone = "Middle/Earth"', "Middle/Earth"),
        ('[maintenance]\nmode = "manual"', "not in it"),
        (f'[[maintenance.window]]\nname="a"\nrule="FREQ=HOURLY"\nstart={NOW:%FT%T}\nminutes=5', "more than one a day"),
        ('[[probe]]\nkind="tcp"\nname="a"\nport=1\n[[probe]]\nkind="tcp"\nname="a"\nport=2', "two probes are called a"),
        ('[[probe]]\nkind="log"\nname="a"\nfile="/f"\npattern="("', "probe a:"),
        ('[[probe]]\nkind="http"\nname="a"\nurl="file:///etc/passwd"', "no address of the web"),
        ('[[probe]]\nkind="dice"\nname="a"', "Invalid value 'dice'"),
        ("[[pre_event]]\ncommand=[]", "length >= 1"),
    ],
)  # fmt: skip
def test_a_configuration_that_is_none_is_an_error_with_its_reason(text: str, why: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_configuration(text, "agent.toml")
    assert why in str(caught.value)
    assert "agent.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"), [("assess_minutes = 5", 300), ("", 3600), ("assess_minutes = 0", 3600), ("x", 3600)]
)
def test_pace(tmp_path: Path, text: str, seconds: float) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(text)
    assert pace(file) == seconds
    assert pace(tmp_path / "missing") == 3600


# --- hold -------------------------------------------------------------------------------------------------


def test_an_empty_file_holds_until_it_is_gone(tmp_path: Path) -> None:
    file = tmp_path / "etc/hold"
    assert read_hold(file, NOW) is None
    file.parent.mkdir()
    file.touch()
    assert read_hold(file, NOW) == Hold(None, "")
    assert end_hold(file)
    assert read_hold(file, NOW) is None
    assert not end_hold(file)


def test_a_hold_ends_by_itself(tmp_path: Path) -> None:
    file = tmp_path / "etc/hold"
    begin_hold(file, NOW, 'the "big" \\ sale')
    assert read_hold(file, NOW - timedelta(seconds=1)) == Hold(NOW, 'the "big" \\ sale')
    assert read_hold(file, NOW) is None
    assert [path.name for path in file.parent.iterdir()] == ["hold"]


@given(st.binary(max_size=200))
def test_whatever_stands_in_the_file_it_holds_or_says_until_when(content: bytes) -> None:
    file = Path(f"/tmp/hold-{os.getpid()}")
    file.write_bytes(content)
    try:
        found = read_hold(file, NOW)
    finally:
        file.unlink()
    assert found is not None or b"until" in content


def test_a_link_that_leads_nowhere_holds(tmp_path: Path) -> None:
    """As to a share that is not mounted yet, or to what a configuration's tool has taken away."""
    file = tmp_path / "hold"
    file.symlink_to(tmp_path / "share/hold")
    assert read_hold(file, NOW) == Hold(None, f"{file} is a link that leads nowhere")
    (tmp_path / "share").mkdir()
    assert read_hold(file, NOW) is not None
    begin_hold(tmp_path / "share/hold", NOW, "sale")
    assert read_hold(file, NOW - timedelta(seconds=1)) == Hold(NOW, "sale")
    assert read_hold(file, NOW) is None
    file.unlink()
    assert read_hold(file, NOW) is None


def test_a_file_that_cannot_be_read_holds(tmp_path: Path) -> None:
    (tmp_path / "hold").mkdir()
    found = read_hold(tmp_path / "hold", NOW)
    assert found is not None
    assert found.until is None


# --- never ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pid", "comm", "unit", "never"),
    [
        (1, "anything", "", True),
        (7, "systemd", "", True),
        (7, "containerd-shim", "", True),
        (7, "qemu-system-x86", "machine.scope", True),
        (7, "x", "docker.service", True),
        (7, "x", "own-db.service", True),
        (7, "mine", "", True),
        (7, "nginx", "nginx.service", False),
        (7, "redis-server", "", False),
        (7, "systemd-journal", "systemd-journald.service", False),
    ],
)
def test_never(pid: int, comm: str, unit: str, never: bool) -> None:
    rule = Never((*DEFAULT_UNITS, "own-*.service"), (*DEFAULT_COMMANDS, "mine"))
    assert rule.names(pid, comm, unit) is never


def test_a_process_of_which_nothing_is_known_is_left_alone() -> None:
    assert Never((), ())(2**22 + 1)
    assert not Never((), ())(os.getpid())


# --- quarantine -------------------------------------------------------------------------------------------


def test_quarantine(tmp_path: Path) -> None:
    file = tmp_path / "state/quarantine.json"
    assert read_quarantine(file) == ()
    entry, lines = Entry("redis=2", NOW, "crashed", "redis=2"), list[Quarantined]()
    assert put_in(file, [entry, entry], lines.append) == (entry,)
    assert read_quarantine(file) == (entry,)
    assert put_in(file, [Entry("redis=2", NOW, "again")], lines.append) == ()
    assert take_out(file, ["vim=2"], (), "by hand", lines.append) == ()
    assert take_out(file, ["redis=2"], (), "by hand", lines.append) == (entry,)
    assert read_quarantine(file) == ()
    assert lines == [Quarantined("redis=2", "crashed"), Quarantined("redis=2", "by hand", lifted=True)]
    file.write_text("[{")
    with pytest.raises(InputError):
        read_quarantine(file)


def test_an_update_is_lifted_by_each_of_its_names_and_a_release_by_its_own(tmp_path: Path) -> None:
    """PACKAGE=VERSION is what a person knows of what an agent took back by its key in a channel."""
    file, key = tmp_path / "quarantine.json", "november/november.0.hotmend"
    events = [Action(update=key, state=State.SUCCEEDED, release="november", brings="redis=2", hotpatches=("ab12",))]
    names = "ab12", key, "redis=2", "november", "vim=2"
    entries = tuple(Entry(name, NOW, "ill") for name in names)
    for name, gone in {
        "redis=2": {"ab12", key, "redis=2"},
        key: {"ab12", key},
        "ab12": {"ab12"},
        "november": {"ab12", key, "november"},
        "vim=2": {"vim=2"},
    }.items():
        write_quarantine(file, entries)
        assert {entry.update for entry in take_out(file, [name], events, "by hand", lambda _: None)} == gone, name
        assert read_quarantine(file) == tuple(entry for entry in entries if entry.update not in gone)


# --- history ----------------------------------------------------------------------------------------------


def test_lines_come_back_as_they_were(tmp_path: Path) -> None:
    history = History(tmp_path / "state/history.jsonl")
    assert history.read().events == ()
    process = ChangedProcess(7, 99, "redis-server", "redis-server.service", ((4096, 8192),))
    history.append(AgentBegan(version="1", mode="notify", boot="b"), NOW)
    history.append(Action(run="r", update="redis=2", state=State.APPLYING, changed=(process,)), NOW)
    first, second = history.read().events
    assert isinstance(first, AgentBegan)
    assert first.at == NOW
    assert isinstance(second, Action)
    assert (second.state, second.changed) == (State.APPLYING, (process,))


@given(st.integers(0, 200))
def test_a_line_that_a_crash_cut_off_takes_no_other_with_it(cut: int) -> None:
    file = Path(f"/tmp/history-{os.getpid()}.jsonl")
    history = History(file)
    try:
        history.append(RunBegan(run="a", trigger="schedule", source="apt", updates=("x",), until=None), NOW)
        whole = file.read_bytes()
        file.write_bytes(whole + whole[: min(cut, len(whole) - 2)])
        history.append(RunEnded(run="a", outcome=State.SUCCEEDED), NOW)
        read = history.read()
    finally:
        file.unlink()
    assert [event.run for event in read.events] == ["a", "a"]
    assert isinstance(read.events[-1], RunEnded)
    assert read.unreadable == ((2,) if cut else ())


@given(st.lists(st.binary(max_size=80)))
def test_strange_lines_are_counted_and_not_believed(lines: list[bytes]) -> None:
    read = decode(lines)
    assert read.events == ()
    assert set(read.unreadable) <= set(range(1, len(lines) + 1))


def test_what_probes_saw_comes_back_and_every_line_can_stand_in_a_set(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    seen: tuple[tuple[str, Seen], ...] = (("few", (7, 99)), ("unit a.service", ("100", "0")))
    lines = (RunState(state=State.PRE_EVENT, watched=seen), Action(update="x", state=State.APPLYING, watched=seen))
    for line in lines:
        history.append(line, NOW)
    events = history.read().events
    assert [event.watched for event in events if isinstance(event, RunState | Action)] == [seen, seen]
    assert len(set(events)) == 2


LOOKS = st.builds(
    lambda waiting, log_from, lost: Assessed(waiting=waiting, restarts=(), reboot=(), log_from=log_from, lost=lost),
    st.sampled_from([(), ("a=1",), ("a=1", "b=2")]),
    st.integers(0, 1 << 40),
    st.sampled_from([(), (Lost("a=1", ("CVE-2026-1000",), ("redis (5)",)),)]),
)


@settings(deadline=None)  # a busy machine is no mistake
@given(st.lists(st.one_of(LOOKS, st.just(RunEnded(run="a", outcome=State.SUCCEEDED))), max_size=12))
def test_what_was_seen_again_is_short_on_the_disk_and_whole_when_it_is_read(events: list[AnyEvent]) -> None:
    file = Path(tempfile.mkdtemp()) / "history.jsonl"
    history = History(file)
    for number, event in enumerate(events):
        seen = history.read().events
        line = unless_the_same(event, seen) if isinstance(event, Assessed) else event
        history.append(line, NOW + timedelta(hours=number))
    read = history.read()
    shutil.rmtree(file.parent)
    told = [msgspec.structs.replace(event, at=NOW + timedelta(hours=n)) for n, event in enumerate(events)]
    assert list(read.events) == told
    assert read.unreadable == ()


def test_an_assessment_that_is_as_the_last_takes_a_hundred_bytes(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    look = Assessed(waiting=tuple(f"package-{n}=1.0-1+deb12u{n}" for n in range(100)), restarts=(), reboot=())
    history.append(look)
    first = history.file.stat().st_size
    for number in range(1, 4):
        history.append(unless_the_same(msgspec.structs.replace(look, log_from=number << 20), history.read().events))
    assert history.file.stat().st_size - first <= 3 * 110
    assert decode(history.file.read_bytes().splitlines()[1:]) == Read((), (1, 2, 3))  # of what, nobody knows


def test_which_run_was_left() -> None:
    a, b = (RunBegan(run=run, trigger="command", source="apt", updates=(), until=None) for run in "ab")
    end = RunEnded(run="a", outcome=State.FAILED)
    assert unfinished([]) is None
    assert unfinished([a, end]) is None
    assert unfinished([a, end, b]) == b
    applying, done = (Action(run="b", update="x", state=state) for state in (State.APPLYING, State.SUCCEEDED))
    assert last_actions([a, end, b, applying, done], "b") == {"x": done}


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    full = tmp_path / "history.jsonl"
    full.symlink_to("/dev/full")
    with pytest.raises(OSError):  # noqa: PT011 - which one depends on what the link leads to
        History(full).append(AgentBegan(version="1", mode="notify", boot="b"))


@given(st.sets(st.sampled_from([state for state in State if state.final]), min_size=1))
def test_a_run_is_never_better_than_its_worst_action(states: set[State]) -> None:
    outcome = worst(states)
    assert outcome in states or states <= {
        State.TIMED_OUT,
        State.NOT_APPLICABLE,
        State.ALREADY_INSTALLED,
        State.SUCCEEDED,
    }
    if any(not state.good for state in states & {State.FAILED, State.ROLLED_BACK, State.BLOCKED, State.CANCELED}):
        assert not outcome.good


def test_only_one_run_at_a_time(tmp_path: Path) -> None:
    places = Places(tmp_path)
    with alone(places), pytest.raises(HotmendError, match="another run"), alone(places):
        pass
    with alone(places):
        pass


# --- events and probes ------------------------------------------------------------------------------------


def test_hooks(tmp_path: Path) -> None:
    say = Hook(("sh", "-c", f"echo $HOTMEND_RUN > {tmp_path}/said"))
    assert run_hooks([say], {"HOTMEND_RUN": "r"}) == ""
    assert (tmp_path / "said").read_text() == "r\n"
    assert run_hooks([Hook(("sh", "-c", "echo oh; exit 3")), say], {}) == "sh: exit code 3: oh"
    assert run_hooks([Hook(("/not/there",))], {}) == "/not/there: No such file or directory"
    assert run_hooks([Hook(("sh", "-c", "sleep 60 & wait"), seconds=0.2)], {}) == "sh: did not end within 0.2 s"
    assert run_hooks([Hook(("sh", "-c", "kill -SEGV $$"))], {}) == "sh: signal 11"


@pytest.fixture
def server() -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/fine" else 503)
            self.end_headers()
            self.wfile.write(b"all is well")

        def log_message(self, *said: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, daemon=True)
        thread.start()
        yield serving.server_address[1]
        serving.shutdown()
        thread.join()


def test_probes_of_what_listens(server: int) -> None:
    address = f"http://127.0.0.1:{server}"
    fine: list[AnyProbe] = [
        TcpProbe(name="t", port=server),
        HttpProbe(name="h", url=f"{address}/fine", contains="well"),
        CommandProbe(name="c", command=("true",)),
    ]
    assert unhealthy(fine, begin(fine)) == ""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = TcpProbe(name="t", port=unused.getsockname()[1], tries=2, pause_seconds=0)
        assert "Connection refused" in unhealthy([closed], None)
    cases: list[tuple[AnyProbe, str]] = [
        (HttpProbe(name="h", url=f"{address}/ill", tries=1), "status 503"),
        (HttpProbe(name="h", url=f"{address}/fine", contains="ill", tries=1), "'ill' is not in the answer"),
        (CommandProbe(name="h", command=("false",), tries=1), "false: exit code 1"),
    ]
    for probe, why in cases:
        assert why in unhealthy([probe], None)
        with pytest.raises(UnhealthyError, match="probe h:"):
            begin([probe])


def test_a_probe_is_asked_again_before_it_counts(tmp_path: Path) -> None:
    script = f"echo >> {tmp_path}/asked; test $(wc -l < {tmp_path}/asked) = 3"
    probe = CommandProbe(name="c", command=("sh", "-c", script), tries=3, pause_seconds=0)
    assert unhealthy([probe], None) == ""


def test_only_new_lines_of_a_log_count(tmp_path: Path) -> None:
    log = tmp_path / "error.log"
    log.write_text("error: old\n" * 9)
    probe = LogProbe(name="l", file=str(log), pattern="^error", at_most=1)
    watched = begin([probe])
    with log.open("a") as file:
        file.write("error: one\nfine\n")
    assert unhealthy([probe], watched) == ""
    with log.open("a") as file:
        file.write("error: two\n")
    assert "2 lines match '^error', 1 are allowed" in unhealthy([probe], watched)
    log.unlink()
    assert "No such file" in unhealthy([probe], watched)
    log.write_text("error: one of a new file\n")
    assert unhealthy([probe], watched) == ""
    with pytest.raises(UnhealthyError):
        begin([LogProbe(name="l", file=str(tmp_path / "missing"), pattern="x")])


def test_a_unit_that_has_restarted_is_not_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (program := tmp_path / "systemctl").write_text(f'#!/bin/sh\ncat "{tmp_path}/shown"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    probe = UnitProbe(name="u", unit="redis-server.service", tries=1)

    def shows(state: str, main: int, restarts: int) -> None:
        (tmp_path / "shown").write_text(f"ActiveState={state}\nMainPID={main}\nNRestarts={restarts}\n")

    shows("active", 100, 0)
    watched = begin([probe])
    assert unhealthy([probe], watched) == ""
    for main, restarts in ((200, 0), (100, 1), (200, 5)):
        shows("active", main, restarts)
        assert unhealthy([probe], watched) == "probe u: redis-server.service has restarted"
        assert unhealthy([probe], None) == ""
    shows("failed", 0, 5)
    assert unhealthy([probe], watched) == "probe u: redis-server.service is failed"
    with pytest.raises(UnhealthyError, match="is failed"):
        begin([probe])


# --- crashes ----------------------------------------------------------------------------------------------


def test_what_the_kernel_says_of_crashes() -> None:
    head = "6,880,23327873147,-;"
    segfault = (
        "redis-server[19346]: segfault at 0 ip 00007f12a4001215 sp 00007ffd1 error 4 in redis[55d0+1000] on CPU 1"
    )
    trap = Trap(23327873147, "redis-server", 19346, "segfault", 0x7F12A4001215, "redis")
    assert parse_record(head + segfault) == trap
    assert parse_record(head + segfault.replace("[55d0+", "[1215,55d0+").replace("on CPU", "likely on CPU")) == trap
    thread = "isc-net-0001[19347]: segfault at 0 ip 00007f12a4001215 sp 00007ffd1 error 4 likely on CPU 1 (core 1)"
    assert parse_record(head + thread) == Trap(23327873147, "isc-net-0001", 19347, "segfault", 0x7F12A4001215)
    fault = "traps: nginx[77] general protection fault ip:55d000001000 sp:7ffd error:0 in nginx[55d0+1000]"
    trap = Trap(23327873147, "nginx", 77, "general protection fault", 0x55D000001000, "nginx")
    assert parse_record(head + fault) == trap
    opcode = "traps: my server[78] trap invalid opcode ip:401000 sp:7ffd error:0"
    assert parse_record(head + opcode) == Trap(23327873147, "my server", 78, "trap invalid opcode", 0x401000)
    assert parse_record(head + "TCP: request_sock_TCP: Possible SYN flooding") is None
    assert parse_record("garbage") is None
    ended = 'audit: type=1701 audit(1:2): auid=4 uid=0 gid=0 ses=4 subj=x pid=79 comm="nginx" exe="/n" sig={} res=1'
    assert parse_record(head + ended.format(6)) == Trap(23327873147, "nginx", 79, "signal 6", 0)
    assert parse_record(head + ended.format(11)) is None  # told with its address
    blank = ended.format(6).replace('"nginx"', "72733A6D61696E20513A526567")
    assert parse_record(head + blank) == Trap(23327873147, "rs:main Q:Reg", 79, "signal 6", 0)


def test_where_the_log_is_read_on_is_told_by_its_numbers(tmp_path: Path) -> None:
    (log := tmp_path / "log").write_text("")
    assert read_traps(0, log) == ((), 0)
    line = "6,{},{},-;a[7]: segfault at 0 ip 0000000000001000 sp 0 error 4\n"
    log.write_text(line.format(3, 900) + " KEY=value\n" + line.format(4, 1) + "6,9,2,-;said\n")
    traps, end = read_traps(4, log)
    assert ([trap.at_us for trap in traps], end) == ([1], 10)
    assert read_traps(end, log) == ((), 10)


def test_whose_a_crash_was() -> None:
    ours = ChangedProcess(7, 1, "redis-server", "redis-server.service", ((0x1000, 0x2000),))
    trap = Trap(0, "redis-server", 19346, "segfault", 0x1800)
    assert in_new_code(trap, [ours]) == ours
    assert in_new_code(Trap(0, "redis-server", 19346, "segfault", 0x2000), [ours]) is None
    assert in_new_code(Trap(0, "jemalloc_bg_thd", 19347, "segfault", 0x1800), [ours]) == ours
    assert in_new_code(Trap(0, "redis-server", 19346, "segfault", 0x1800, "python3.11"), [ours]) is None


def test_a_crash_of_what_was_changed_counts_wherever_it_was() -> None:
    changed = (ChangedProcess(7, 1, "redis-server", "redis-server.service", ((0x1000, 0x2000),)),)
    assert (
        crash_of_changed([Trap(0, "redis-server", 8, "segfault", 1), Trap(0, "nginx", 7, "segfault", 1)], changed)
        is None
    )
    crash = crash_of_changed([Trap(5, "redis-server", 7, "signal 6", 0)], changed)
    assert crash is not None
    assert (crash.ours, crash.unit, crash.at_us) == (False, "redis-server.service", 5)
    assert crash_text(crash) == "redis-server (7) crashed while it was watched: signal 6"
    thread = Trap(5, "io_thd_1", 9, "segfault", 1)
    assert crash_of_changed([thread], changed, {(9, "io_thd_1"): 8, (9, "io_thd_2"): 7}) is None
    crash = crash_of_changed([thread], changed, {(9, "io_thd_1"): 7})
    assert crash is not None
    assert (crash.pid, crash.comm) == (7, "io_thd_1")


@pytest.mark.parametrize(
    ("alive", "gone", "short_lived", "told"),
    [
        (2, 1, 0, ""),
        (1, 1, 9, ""),
        (1, 2, 0, "2 of 3 changed processes of a.service ended while they were watched"),
        (0, 1, 0, "1 of 1 changed processes of a.service ended while they were watched"),
        (0, 0, 9, ""),
    ],
)
def test_workers_end_all_the_time_but_not_most_of_them_at_once(
    alive: int, gone: int, short_lived: int, told: str
) -> None:
    """Here those that live are this process, whose number nobody else has; the first ticks are those of old ones."""
    now = int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))
    own = read_stat(os.getpid()).start_time_ticks
    missing = 2**22 + 1
    changed = [ChangedProcess(os.getpid(), own, "a", "a.service")] * alive
    changed += [ChangedProcess(missing, 0, "a", "a.service")] * gone
    changed += [ChangedProcess(missing, now, "a", "a.service")] * short_lived
    changed += [ChangedProcess(missing, 0, "bash", "")]
    assert ended_together(changed, 0.001, services=True) == told
    assert "changed processes of" in ended_together(changed, 0.001, services=False)
