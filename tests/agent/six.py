"""Six stock servers of the main archive on one booted machine, each asked without a pause: what becomes of them.

Nothing here compares with what hotmend says of itself but `verdicts`: who was restarted is what the service manager
says, who runs old files what /proc says, and what failed is what the clients count.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hotmend.model.process_states import NEW_CODE
from tests.agent.load import Count, Load, http, postgres, redis, ssh
from tests.agent.machine import Machine
from tests.agent.redis import newest, oldest

NGINX, REDIS, HAPROXY, APACHE, SSH, POSTGRES = range(18471, 18477)
HAPROXY_SETTINGS = f"""
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend all
    bind 127.0.0.1:{HAPROXY}
    http-request return status 200 content-type text/plain string "here"
"""
_SETTINGS = f"""
set -e
sed -i -e '/\\[::\\]/d' -e 's/listen 80 default_server/listen 127.0.0.1:{NGINX}/' \\
    -e 's,root /var/www/html,root /usr/share/nginx/html,' /etc/nginx/sites-enabled/default
sed -i 's/^port .*/port {REDIS}/' /etc/redis/redis.conf
cat > /etc/haproxy/haproxy.cfg <<'END'
{HAPROXY_SETTINGS}
END
sed -i 's/^Listen 80/Listen 127.0.0.1:{APACHE}/' /etc/apache2/ports.conf
echo 'Port {SSH}' > /etc/ssh/sshd_config.d/port.conf
sed -i 's/^port = .*/port = {POSTGRES}/' /etc/postgresql/15/main/postgresql.conf
rm -f /run/nologin
mkdir -p /root/.ssh
ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/test
cat /root/.ssh/test.pub >> /root/.ssh/authorized_keys
chmod 600 /root/.ssh/authorized_keys
"""
_SECONDS_MAX = 1800
_NO_STARTS = "printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d"


@dataclass(frozen=True)
class Server:
    """One of them.

    Attributes:
        name: for people.
        unit: that the service manager keeps.
        comm: its processes.
        packages: that its source has here; the first holds its program.
        ask: what a client does.
        graceful: what an administrator does instead of a restart, and what logrotate does.
    """

    name: str
    unit: str
    comm: str
    packages: tuple[str, ...]
    ask: str
    graceful: str


SERVERS = (
    Server(
        "nginx",
        "nginx",
        "nginx",
        ("nginx", "nginx-common"),
        http(NGINX, "Welcome to nginx"),
        "nginx -s reload; logrotate -f /etc/logrotate.d/nginx",
    ),
    Server(
        "redis",
        "redis-server",
        "redis-server",
        ("redis-tools", "redis-server"),
        redis(REDIS),
        f"c='redis-cli -p {REDIS}'; $c set kept value; $c bgrewriteaof; sleep 1; $c bgsave; sleep 1;"
        "logrotate -f /etc/logrotate.d/redis-server",
    ),
    Server(
        "haproxy",
        "haproxy",
        "haproxy",
        ("haproxy",),
        http(HAPROXY, "here"),
        "for i in 1 2 3; do systemctl reload haproxy; sleep 1; done",
    ),
    Server(
        "apache2",
        "apache2",
        "apache2",
        ("apache2-bin", "apache2", "apache2-data", "apache2-utils"),
        http(APACHE, "Apache2"),
        "apachectl graceful; sleep 2; logrotate -f /etc/logrotate.d/apache2",
    ),
    Server(
        "openssh",
        "ssh",
        "sshd",
        ("openssh-server", "openssh-client", "openssh-sftp-server"),
        ssh(SSH),
        "systemctl reload ssh",
    ),
    Server(
        "postgres",
        "postgresql@15-main",
        "postgres",
        ("postgresql-15", "postgresql-client-15"),
        postgres(POSTGRES),
        "systemctl reload postgresql@15-main; sleep 2",
    ),
)


def start_all(machine: Machine) -> None:
    """Install all six as the archive had them first, and start them; nothing else is offered to apt from then on."""
    packages = [package for server in SERVERS for package in server.packages]
    machine.offer_only(" ".join(packages))
    machine.run(_NO_STARTS)  # by default two of them want port 80
    machine.install(*(f"{package}={oldest(machine, package)}" for package in packages), "logrotate")
    machine.run(f"rm /usr/sbin/policy-rc.d; {_SETTINGS}")
    machine.run(f"systemctl start {' '.join(server.unit for server in SERVERS)}")


def offer_libraries(machine: Machine) -> tuple[str, ...]:
    """Have apt also offer the newest of the libraries that they map; return the packages that will be updated.

    With them come the other packages of their sources, which often want the very same version.
    """
    comms = " ".join(server.comm for server in SERVERS)
    mapped = f"for pid in $(pidof {comms}); do grep -o '/.*\\.so.*' /proc/$pid/maps; done | sort -u"
    owner = '{ dpkg -S "$file" || dpkg -S "${file#/usr}"; } 2>/dev/null | cut -d: -f1'
    owners = machine.run(f"{mapped} | while read file; do {owner}; done | sort -u").stdout.split()
    own = [package for server in SERVERS for package in server.packages]
    rows = machine.run("dpkg-query -W -f '${Package} ${source:Package}\\n'").stdout.splitlines()
    source = dict(row.split() for row in rows)
    wanted = {source[name] for name in owners if name not in own}
    found = [name for name in source if source[name] in wanted and newest(machine, name) != machine.version(name)]
    machine.offer_only(" ".join((*own, *found)))
    return tuple(found)


def started(machine: Machine, unit: str) -> str:
    """When, how often and as which process the service manager has started it."""
    return machine.run(f"systemctl show -p MainPID,NRestarts,ActiveEnterTimestampMonotonic {unit}").stdout


def starts(machine: Machine) -> dict[str, str]:
    """Return `started` of each, by name."""
    return {server.name: started(machine, server.unit) for server in SERVERS}


@contextlib.contextmanager
def asked(machine: Machine) -> Iterator[dict[str, Count]]:
    """Have a client ask each, from entry to exit; what they counted is there afterwards, by name."""
    counts: dict[str, Count] = {}
    with contextlib.ExitStack() as clients:
        loads = {server.name: clients.enter_context(Load(machine, server.ask)) for server in SERVERS}
        yield counts
    counts.update((name, load.count) for name, load in loads.items())


def versions(machine: Machine) -> dict[str, str]:
    """Return the installed version of each one's program, by name."""
    return {server.name: machine.version(server.packages[0]) for server in SERVERS}


def wanted(machine: Machine) -> dict[str, str]:
    """Return the newest version of each one's program that the archive has, by name."""
    return {server.name: newest(machine, server.packages[0]) for server in SERVERS}


def settled(machine: Machine) -> set[int]:
    """Return the processes in which a hotpatch is settled."""
    rows = [json.loads(line) for line in machine.hotmend("status", "--json").stdout.splitlines()]
    return {row["pid"] for row in rows if any(hotpatch["state"] == "settled" for hotpatch in row["hotpatches"])}


def with_old_program(machine: Machine) -> dict[str, set[int]]:
    """Return the processes of each that run a program which is not the one on disk, by name; none for most."""
    found = {}
    for server in SERVERS:
        text = f"for pid in $(pidof {server.comm}); do echo $pid $(readlink /proc/$pid/exe); done"
        rows = [line.split(" ", 1) for line in machine.run(text).stdout.splitlines()]
        found[server.name] = {int(pid) for pid, program in rows if "(deleted)" in program}
    return found


def with_old_files(machine: Machine) -> dict[str, set[int]]:
    """Return the processes of each that map a program or library which is not on the disk any more, by name."""
    found = {}
    for server in SERVERS:
        text = (
            f"for pid in $(pidof {server.comm}); do grep -q ' r-xp .*/.* (deleted)$' /proc/$pid/maps && echo $pid; done"
        )
        found[server.name] = set(map(int, machine.run(text, check=False).stdout.split()))
    return found


def due(machine: Machine) -> set[str]:
    """Return the names of those that `hotmend restarts` says run old code."""
    done = machine.hotmend("restarts", "--json")
    answer = json.loads(done.stdout)
    units = {need["name"] for need in (*answer["restarts"], *answer["others"])}
    return {server.name for server in SERVERS if f"{server.unit}.service" in units}


@dataclass(frozen=True)
class Said:
    """What hotmend said of an upgrade.

    Attributes:
        told: what became of each one's program in memory, by name.
        held: who needs no restart, by name.
        packages: of every package whose code runs: what became of it, in how many processes, and why.
    """

    told: dict[str, str]
    held: set[str]
    packages: dict[str, str]


def upgrade(machine: Machine) -> Said:
    """Have `hotmend upgrade` bring in all that is offered."""
    words = [sys.executable, "-m", "hotmend", "upgrade", "--all", "--json"]
    done = machine.run(shlex.join(words), check=False, seconds=_SECONDS_MAX)
    if not done.stdout:
        raise RuntimeError(f"hotmend upgrade: {done.returncode}\n{done.stderr}")
    answer = json.loads(done.stdout)
    if answer["disk_error"]:
        raise RuntimeError(f"hotmend upgrade: {answer['disk_error']}")
    memory = {package["package"]: package["memory"] for package in answer["packages"]}
    return _said(memory, answer["held"], {p["package"]: _outcome(p) for p in answer["packages"]})


def _outcome(package: dict[str, Any]) -> str:
    """Return what `hotmend upgrade` said of a package, as the hook says it."""
    done = sum(process["state"] in NEW_CODE for process in package["processes"])
    whole = len({each["pid"] for each in (*package["processes"], *package["still_old"])})
    reasons = [r for process in package["processes"] if process["state"] == "refused" for r in process["reasons"]]
    why = dict.fromkeys(reason["code"] for reason in (*package["reasons"], *reasons))
    text = f"{package['memory']} in memory, {done} of {whole} processes" if whole else package["memory"]
    return ": ".join(part for part in (text, package["error"] or ", ".join(why)) if part)


def apt_upgrade(machine: Machine) -> Said:
    """Have plain `apt-get upgrade` do it, with the hook on."""
    # What takes long on a machine with other work is told as it is, not cut off: that is tested elsewhere.
    if (done := machine.hotmend("apt-hook", "on", "--deadline", "1200")).returncode:
        raise RuntimeError(f"hotmend apt-hook on: {done.stderr}")
    done = machine.run("apt-get -q -y upgrade", seconds=_SECONDS_MAX)
    memory: dict[str, str] = {}
    packages: dict[str, str] = {}
    held: list[str] = []
    for line in done.stderr.splitlines():
        parts = line.split(": ", 2)
        if parts[0] == "hotmend" and len(parts) == 3 and " -> " in parts[1]:
            name = parts[1].split()[0]
            memory[name], packages[name] = parts[2].split(" in memory")[0].split(",")[0], parts[2]
        elif line.startswith("hotmend: not restarted by their packages, because the new code runs: "):
            held = parts[2].split(", ")
    return _said(memory, held, packages)


def _said(memory: dict[str, str], held: list[str], packages: dict[str, str]) -> Said:
    told = {server.name: memory.get(server.packages[0], "") for server in SERVERS}
    ran = {name: outcome for name, outcome in packages.items() if not outcome.startswith("not running")}
    return Said(told, {server.name for server in SERVERS if server.unit in held}, ran)


def graceful(machine: Machine) -> None:
    """Do with each what an administrator and logrotate do to one that runs."""
    for server in SERVERS:
        machine.run(f"{server.graceful}; sleep 1")


def restart_all(machine: Machine) -> None:
    """Restart each by the service manager, and have a client get a right answer from each."""
    machine.run(f"systemctl restart {' '.join(shlex.quote(server.unit) for server in SERVERS)}")
    for server in SERVERS:
        with Load(machine, server.ask):
            pass


@dataclass(frozen=True)
class Seen:
    """What an upgrade did.

    Attributes:
        said: what hotmend said.
        restarted: whom the service manager has started anew.
        counts: what the clients counted meanwhile, by name.
    """

    said: Said
    restarted: set[str]
    counts: dict[str, Count]


def wrong_after_upgrade(machine: Machine, seen: Seen) -> list[str]:
    """Return what is not as it has to be: who is fixed runs on without a failed request, all others were restarted."""
    held = seen.said.held
    fixed = {name for name, memory in seen.said.told.items() if memory == "fixed"}
    everyone = set(seen.said.told)
    old, new = with_old_program(machine), settled(machine)
    checks = {
        "no program was fixed in memory": bool(fixed),
        f"held back {held}, fixed {fixed}": held == fixed,
        f"restarted {seen.restarted}, not fixed {everyone - fixed}": seen.restarted == everyone - fixed,
        f"old programs without new code: {old}": set().union(*old.values()) <= new,
        f"fixed, and no process runs on: {old}": all(old[name] for name in fixed),
        f"said to be due: {due(machine)}": not due(machine),
        f"versions: {versions(machine)}": versions(machine) == wanted(machine),
    }
    counts = {f"{name}: {seen.counts[name]}": seen.counts[name].fine for name in fixed}
    return [what for what, right in (checks | counts).items() if not right]


def wrong_with_libraries(machine: Machine, seen: Seen) -> list[str]:
    """Return what is not as it has to be where libraries came too: nobody runs old code untold.

    Who needs no restart runs on without a failed request, and its old files have new code. Who is neither said to need
    none nor was restarted is due, or has loaded all files anew: haproxy's package reloads it.
    """
    held, running, told = seen.said.held, set(seen.said.told) - seen.restarted, due(machine)
    old, new = with_old_files(machine), settled(machine)
    checks = {
        f"held back {held}, and restarted {seen.restarted}": not held & seen.restarted,
        f"said to be due {told}, run on {running}, held back {held}": told <= running - held,
        f"old files, and not told: {old}": not any(old[name] for name in running - held - told),
        f"old files without new code: {old}": set().union(*(old[name] for name in held)) <= new,
        f"versions: {versions(machine)}": versions(machine) == wanted(machine),
    }
    counts = {f"{name}: {seen.counts[name]}": seen.counts[name].fine for name in held}
    return [what for what, right in (checks | counts).items() if not right]


def wrong_after_reloads(counts: dict[str, Count], restarted: set[str]) -> list[str]:
    """Return what is not as it has to be after graceful reloads: every request answered, nobody restarted."""
    wrong = [f"{name}, while reloading: {count}" for name, count in counts.items() if not count.fine]
    return wrong + [f"{name} was restarted by a reload" for name in sorted(restarted)]


def wrong_after_restart(machine: Machine) -> list[str]:
    """Return what is not as it has to be after real restarts: the programs on disk run, and nothing is due."""
    old = {name: pids for name, pids in with_old_program(machine).items() if pids}
    own = set(map(int, machine.run(f"pidof {' '.join(server.comm for server in SERVERS)}").stdout.split()))
    patched = settled(machine) & own
    kept = machine.run(f"redis-cli -p {REDIS} get kept").stdout
    checks = {
        f"old programs: {old}": not old,
        f"hotpatches in {patched}": not patched,
        f"said to be due: {due(machine)}": not due(machine),
        f"redis has lost a value: {kept!r}": kept == "value\n",
    }
    return [what for what, right in checks.items() if not right]
