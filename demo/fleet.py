"""A server with its portal and two machines that it keeps on the line: `make fleet`.

The machines are booted Debian systems in namespaces of this one, with stock packages of the main archive and agents of
their own; the server is the real one, on SQLite and loopback. One machine gets the security update of redis, then
everything is halted, and after the halt the other one gets it. All of it ends with the command, and nothing is
installed here. On a terminal it waits at the end, so that there is time to look at the portal.
"""

from __future__ import annotations

import contextlib
import secrets
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from demo.run import DemoError
from hotmend.fleet.client import Client
from hotmend.fleet.machines import Machines
from hotmend.fleet.rollouts import Rollouts
from hotmend.model.errors import HotmendError
from hotmend.servicing.actions import State
from hotmend.wire.api import ActionWanted, KeyWanted, MachineDetail, SetupWanted, Token
from tests.agent.machine import ROOT, Machine
from tests.agent.redis import newest, old_redis

CHECK_IN_SECONDS: Final = 5
NAMES: Final = ("canary", "second")
_PORT: Final = 18495
_SECONDS_MAX: Final = 300
_SETUP: Final = "--token "
_UNTOLD_SECONDS: Final = 3 * CHECK_IN_SECONDS
_BOLD, _PLAIN = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
_AGENT: Final = 'mode = "notify"\nobserve_days = 0\n[[probe]]\nkind = "tcp"\nname = "redis"\nport = {}\n'


@dataclass
class Member:
    """One machine of the fleet.

    Attributes:
        machine: it.
        port: of its redis.
        id: at the server.
    """

    machine: Machine
    port: int
    id: str = ""

    def redis(self) -> tuple[list[int], str]:
        """Return the processes of redis, and what it answers."""
        answer = self.machine.run(f"redis-cli -p {self.port} ping").stdout.strip()
        return self.machine.pids("redis-server"), answer


def main() -> int:
    """Run the demonstration; return 0 when everything went as it should."""
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="hotmend-fleet-") as name, contextlib.ExitStack() as open_:
            _run(Path(name), open_, began)
    except (HotmendError, RuntimeError, OSError, subprocess.SubprocessError) as error:
        print(f"\nfleet: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print()
    return 0


def _run(folder: Path, open_: contextlib.ExitStack, began: float) -> None:
    _title("1. A server, on SQLite and loopback; its first administrator has the token that it printed")
    url, setup = open_.enter_context(_server(folder / "server"))
    password = secrets.token_urlsafe(12)
    token = Client(url).post("/setup", SetupWanted(setup, "admin", password), Token).secret
    fleet, rollouts = Machines(Client(url, token)), Rollouts(Client(url, token))
    print(f"{url}: sign in as admin, password {password}")

    _title("2. Two machines boot, with the redis of the main archive, and enrol with a registration key")
    key = fleet.add_key(KeyWanted("demonstration", uses=len(NAMES)))
    members = [
        _enrolled(open_.enter_context(Machine(folder / name, systemd=True)), name, _PORT + number, url, key.secret)
        for number, name in enumerate(NAMES)
    ]
    for member, name in zip(members, NAMES, strict=True):
        (found,) = [each for each in fleet.machines() if each.name == name]
        member.id = found.id
        detail = _reported(fleet, member)
        print(f"{name}: {found.id}, {detail.machine.release}, {detail.machine.waiting} updates wait")

    canary, second = members
    update = f"redis-server={newest(canary.machine, 'redis-server')}"
    updates = [update, update.replace("redis-server", "redis-tools")]
    _title(f"3. The first machine gets {', '.join(updates)}, after the forecast was looked at")
    before = canary.redis()
    _await_end(fleet, _ask(fleet, canary, updates))
    _unrestarted(canary, before)

    _title("4. Halt: the second machine is asked to, and nothing begins")
    rollouts.halt("something looks wrong")
    action = _ask(fleet, second, updates)
    time.sleep(_UNTOLD_SECONDS)
    state = fleet.action(action).state
    print(f"after {_UNTOLD_SECONDS} s the action is {state}")
    if state != State.SCHEDULED:
        raise DemoError("an action began although everything was halted")

    _title("5. The halt is over, and the second machine gets it")
    before = second.redis()
    rollouts.release("it was nothing")
    _await_end(fleet, action)
    _unrestarted(second, before)

    print(f"\nDone in {time.monotonic() - began:.0f} s: two machines, the same processes as before, new code.")
    if sys.stdin.isatty():
        input(f"{_BOLD}Look around at {url} (admin, {password}); Enter ends everything. {_PLAIN}")


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[tuple[str, str]]:
    """Run a server; yields its URL and the token for its first administrator."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = ["server", "--state", str(folder), "--listen", address, "--check-in-seconds", str(CHECK_IN_SECONDS)]
    _say("server", *words[1:])
    command = ["setpriv", "--pdeathsig=TERM", sys.executable, "-u", "-m", "hotmend", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            if _SETUP not in line:
                raise DemoError(f"the server does not begin: {line}{process.stderr.read()}")
            _await_answer(address)
            yield f"http://{address}", line.split(_SETUP, 1)[1].strip()
        finally:
            process.terminate()


def _await_answer(address: str) -> None:
    host, port = address.split(":")
    limit = time.monotonic() + _SECONDS_MAX
    while True:
        try:
            socket.create_connection((host, int(port)), 1).close()
        except OSError as error:
            if time.monotonic() > limit:
                raise DemoError(f"the server does not answer: {error}") from None
            time.sleep(0.1)
        else:
            return


def _enrolled(machine: Machine, name: str, port: int, url: str, key: str) -> Member:
    old_redis(machine, port)
    machine.run(f"mkdir -p /etc/hotmend; cat > /etc/hotmend/agent.toml <<'END'\n{_AGENT.format(port)}END")
    hotmend = shlex.join(["env", f"PYTHONPATH={ROOT / 'src'}", sys.executable, "-m", "hotmend"])
    _say("enroll", url, "--name", name)
    machine.run(f"HOTMEND_KEY={key} {hotmend} enroll {url} --name {name}")
    # The package has units with hardening for both; here they are started as they are.
    for part in ("uplink", "run"):
        machine.run(f"systemd-run --quiet --unit=hotmend-{part} {hotmend} agent {part}")
    return Member(machine, port)


def _reported(fleet: Machines, member: Member) -> MachineDetail:
    limit = time.monotonic() + _SECONDS_MAX
    while (detail := fleet.machine(member.id)).report is None:
        if time.monotonic() > limit:
            said = member.machine.run("journalctl --no-pager -u 'hotmend-*' | tail -20", check=False).stdout
            raise DemoError(f"{detail.machine.name} sends no report\n{said}")
        time.sleep(0.5)
    return detail


def _ask(fleet: Machines, member: Member, updates: list[str]) -> str:
    """Show what installing would bring, ask for it on that ground, and return the action's id."""
    seen = fleet.forecast(member.id, updates)
    for line in (*seen.told, *seen.restarts, *seen.reboot):
        print(f"forecast: {line}")
    return fleet.act(member.id, ActionWanted("install", updates, anytime=True, forecast=seen.token)).id


def _await_end(fleet: Machines, identity: str) -> None:
    """Print the states of an action as they come, until it has ended well."""
    limit = time.monotonic() + _SECONDS_MAX
    shown = 0
    while True:
        action = fleet.action(identity)
        for step in action.steps[shown:]:
            print(f"{step.at:%H:%M:%S} {step.state} {step.detail}".rstrip(), flush=True)
        shown = len(action.steps)
        if State(action.state).final:
            break
        if time.monotonic() > limit:
            raise DemoError(f"the action is still {action.state}")
        time.sleep(0.5)
    if action.state not in (State.SUCCEEDED, State.SUCCEEDED_WITH_WARNINGS):
        raise DemoError(f"the action ended {action.state}: {action.detail}")


def _unrestarted(member: Member, before: tuple[list[int], str]) -> None:
    after = member.redis()
    if after != before or after[1] != "PONG":
        raise DemoError(f"redis is not as it was: {before}, {after}")
    shown = member.machine.run(f"{shlex.join([sys.executable, '-m', 'hotmend'])} status").stdout
    print(f"redis is process {after[0][0]} as before, and answers {after[1]}\n{shown}".rstrip())


def _say(*words: str) -> None:
    print(f"$ hotmend {' '.join(words)}", flush=True)


def _title(text: str) -> None:
    print(f"\n{_BOLD}{text}{_PLAIN}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
