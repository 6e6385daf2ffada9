"""Machines with a network, files, processes and an agent of their own, a server beside them, and what they are told.

All of it is in a network of this thread's own, which is gone with its last process: no port and no interface of this
machine is used.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from hotmend.agent.record.history import AnyEvent, History
from hotmend.fleet.client import Client
from hotmend.fleet.machines import Machines
from hotmend.fleet.rollouts import Rollouts
from hotmend.linux import namespaces
from hotmend.repository.client import trust
from hotmend.wire.api import KeyWanted, SetupWanted, Token
from hotmend.wire.maintenance import Configuration, ConfigurationWanted, WindowWanted
from tests.agent.machine import ROOT, Machine
from tests.fleet.releases import PROGRAM, Releases, make_releases

SERVER_ADDRESS = "10.91.0.1"
SERVER_PORT = 8470
SECONDS_MAX = 300
_SETUP = "--token "
AGENT = """
mode = "notify"
observe_days = 0
health_seconds = 1
disk = false
[[probe]]
kind = "http"
name = "web"
url = "http://127.0.0.1/"
tries = 1
"""


def wait(what: str, until: Callable[[], object], seconds: float = SECONDS_MAX) -> None:
    """Wait until something is so."""
    limit = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < limit, what
        time.sleep(0.2)


@contextlib.contextmanager
def own_network() -> Iterator[None]:
    """Give this thread, and what it starts, a network of its own with a bridge in it."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    namespaces.unshare(namespaces.NEW_NETWORK)
    try:
        _ip("link", "set", "lo", "up")
        _ip("link", "add", "fleet", "type", "bridge")
        _ip("addr", "add", f"{SERVER_ADDRESS}/16", "dev", "fleet")
        _ip("link", "set", "fleet", "up")
        yield
    finally:
        namespaces.enter(before, namespaces.NEW_NETWORK)
        os.close(before)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@dataclass
class Server:
    """`hotmend server`, which may be killed and started again.

    Attributes:
        folder: of its database and certificate.
        url: of it.
        options: more words for its command line.
    """

    folder: Path
    options: tuple[str, ...] = ("--check-in-seconds", "10")
    url: str = f"https://{SERVER_ADDRESS}:{SERVER_PORT}"
    process: subprocess.Popen[str] | None = None
    token: str = ""

    @property
    def certificate(self) -> Path:
        """Its own certificate, which its machines are given to trust."""
        return self.folder / "server.pem"

    @property
    def client(self) -> Client:
        """The first administrator's."""
        return Client(self.url, self.token, str(self.certificate))

    @property
    def machines(self) -> Machines:
        return Machines(self.client)

    @property
    def rollouts(self) -> Rollouts:
        return Rollouts(self.client)

    def begin(self) -> None:
        """Start it, and wait until it answers."""
        if not self.certificate.exists():
            self._certify()
        words = ["server", "--state", self.folder, "--listen", f"{SERVER_ADDRESS}:{SERVER_PORT}", *self.options]
        tls = ["--tls-certificate", self.certificate, "--tls-key", self.folder / "server.key"]
        command = ["setpriv", "--pdeathsig=KILL", sys.executable, "-u", "-m", "hotmend", *map(str, [*words, *tls])]
        log = self.folder / "server.log"
        with log.open("a") as stream:
            self.process = subprocess.Popen(command, stderr=stream, stdin=subprocess.DEVNULL, text=True)
        wait(f"the server begins: {log.read_text()}", self._answers)
        if not self.token:
            (line,) = [line for line in log.read_text().splitlines() if _SETUP in line]
            wanted = SetupWanted(line.split(_SETUP, 1)[1].strip(), "admin", "correct horse battery")
            self.token = self.client.post("/setup", wanted, Token).secret

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "server.log").read_text()
        with contextlib.suppress(OSError):
            socket.create_connection((SERVER_ADDRESS, SERVER_PORT), 1).close()
            return True
        return False

    def _certify(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        names = ["-subj", "/CN=fleet", "-addext", f"subjectAltName=IP:{SERVER_ADDRESS}"]
        files = ["-keyout", str(self.folder / "server.key"), "-out", str(self.certificate)]
        subprocess.run(["openssl", "req", "-x509", *key, *names, *files], check=True, capture_output=True)


@dataclass
class Member:
    """One machine of the fleet.

    Attributes:
        name: of it.
        machine: its namespaces.
        address: of its own network interface.
        id: at the server.
    """

    name: str
    machine: Machine
    address: str
    id: str = ""

    def file(self, path: str) -> Path:
        """Return one of its files, as this machine reaches it."""
        return Path(f"/proc/{self.machine.first}/root/{path}")

    def events(self) -> tuple[AnyEvent, ...]:
        """Return its history."""
        return History(self.file("var/lib/hotmend/agent/history.jsonl")).read().events

    def answer(self) -> tuple[int, str, int]:
        """Ask its web server; return the status, what it says, and how many it has answered since it was started."""
        with socket.create_connection((self.address, 80), 10) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            head, _, body = connection.makefile("rb").read().decode().partition("\r\n\r\n")
        text, number = body.strip().rsplit(", ", 1)
        return int(head.split()[1]), text, int(number)

    def active(self) -> list[str]:
        """Return versions of the new code that its web server's memory has in force."""
        rows = [json.loads(line) for line in self.machine.hotmend("status", "--json").stdout.splitlines()]
        return [each["new_version"] for row in rows for each in row["hotpatches"] if each["active"]]

    def begin_agent(self) -> None:
        """Start both parts of the agent, as its package's units do."""
        for part in ("uplink", "run"):
            command = shlex.join([sys.executable, "-m", "hotmend", "agent", part])
            self.machine.run(f"setsid {command} < /dev/null > /var/log/{part}.log 2>&1 & echo $! > /run/{part}.pid")

    def end_agent(self) -> None:
        """Kill both parts, and all that they have started, at once."""
        self.machine.run("kill -9 -- -$(cat /run/uplink.pid) -$(cat /run/run.pid)", check=False)

    def log(self) -> str:
        """Return what both parts said."""
        return self.machine.run("tail -n 20 /var/log/uplink.log /var/log/run.log", check=False).stdout


@dataclass
class Fleet:
    """A server and machines that are enrolled in it."""

    folder: Path
    server: Server
    releases: Releases
    members: list[Member] = field(default_factory=list)
    _open: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> Fleet:
        self._open.enter_context(own_network())
        self._open.callback(self.server.kill)
        self.server.begin()
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def add(self, count: int, **tags: str) -> list[Member]:
        """Have machines begin, with their web server running, and enrol."""
        made = [self._machine(len(self.members) + number) for number in range(count)]
        key = self.server.machines.add_key(KeyWanted("test", tags=tags)).secret
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda member: self._enrol(member, key), made))
        ids = {each.name: each.id for each in self.server.machines.machines()}
        for member in made:
            member.id = ids[member.name]
        self.members += made
        return made

    def _machine(self, number: int) -> Member:
        name = f"m{number:02}"
        machine = self._open.enter_context(Machine(self.folder / name, network=True))
        address = f"10.91.1.{number + 1}"
        _ip("link", "add", f"v{number}", "type", "veth", "peer", "name", "eth0", "netns", str(machine.first))
        _ip("link", "set", f"v{number}", "master", "fleet", "up")
        machine.run(f"ip addr add {address}/16 dev eth0; ip link set eth0 up; ip link set lo up")
        machine.run(f"mount -t tmpfs run /run; install -m 755 {self.releases.program} /{PROGRAM}")
        machine.run(f"setsid /{PROGRAM} < /dev/null > /dev/null 2>&1 &")
        return Member(name, machine, address)

    def _enrol(self, member: Member, key: str) -> None:
        member.file("etc/hotmend").mkdir(parents=True)
        member.file("etc/hotmend/agent.toml").write_text(AGENT + self.releases.channel)
        trust(member.file("var/lib/hotmend/channel"), self.releases.world.first_root)
        words = f"{self.server.url} --name {member.name} --ca {self.server.certificate}"
        hotmend = shlex.join([sys.executable, "-m", "hotmend"])
        member.machine.run(f"HOTMEND_KEY={key} {hotmend} enroll {words}")

    def begin_agents(self) -> None:
        """Start all agents, and wait until each has said what runs on its machine."""
        for member in self.members:
            member.begin_agent()
        wait("all have reported", lambda: all(self._reported(member) for member in self.members))

    def _reported(self, member: Member) -> bool:
        return self.server.machines.machine(member.id).report is not None

    def open_windows(self) -> None:
        """Let machines be changed at any time, by what the server asks for alone."""
        always = WindowWanted("always", "FREQ=DAILY", datetime(2020, 1, 1), 1440)
        wanted = ConfigurationWanted(windows=[always], zone="UTC")
        self.server.client.put("/maintenance/configurations/default", wanted, Configuration)


@contextlib.contextmanager
def fleet(**options: Any) -> Iterator[Fleet]:
    """Begin a server and a channel; their folder is one that machines have as well.

    Args:
        options: as of `Server`.
    """
    (ROOT / ".cache").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / ".cache", prefix="fleet-") as name:
        folder = Path(name)
        with Fleet(folder, Server(folder / "server", **options), make_releases(folder)) as begun:
            yield begun
