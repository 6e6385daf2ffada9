"""A machine beside this one: its files over this machine's, its own packages, processes and process numbers.

What it writes is gone with it, unless its folder is a mount already (`disk`): the next machine there has the same disk,
as after a reboot. Without `systemd` packages start and restart services by their init scripts; with it
the machine is booted, by Debian's own service manager as its first process. It keeps no index of manual pages, which
takes longer than most installations.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[2]
RUN_SECONDS_MAX = 300
_numbers = itertools.count()
_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "PYTHONPATH": str(ROOT / "src")}
_FILES = """
set -e
mountpoint -q "$1" || mount -t tmpfs machine "$1"
mkdir -p "$1/written" "$1/work" "$1/root"
mount -t overlay machine -o "lowerdir=/,upperdir=$1/written,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
if ! test -e "$1/written/etc/machine-id"; then
    rm -f usr/sbin/policy-rc.d etc/apt/apt.conf.d/docker-clean var/lib/man-db/auto-update
    rm -rf etc/hotmend var/lib/hotmend
    tr -d - < /proc/sys/kernel/random/uuid > etc/machine-id
fi
"""
_OWN_FILES = """
mkdir -p ".$2"
mount --rbind "$2" ".$2"
"""
_BEGIN = f"""{_FILES}
mount --rbind /dev dev
mount --rbind /sys sys
{_OWN_FILES}
exec chroot . sh -c "echo ready; exec sleep infinity"
"""
"""Ready is what has its own root: a command that enters earlier would write to the files of this machine."""
_GROUP = """
set -e
mkdir -p "$1"
mount -t cgroup2 cgroup2 "$1"
mkdir "$1/$3"
echo $$ > "$1/$3/cgroup.procs"
umount "$1"
exec unshare --mount --pid --cgroup --uts --ipc --fork --kill-child sh -c "$4" machine "$1" "$2"
"""
_BOOT = f"""{_FILES}
mount -t tmpfs dev dev
mkdir dev/pts dev/shm
for name in null zero full random urandom tty; do touch dev/$name; mount --bind /dev/$name dev/$name; done
ln -s /proc/self/fd dev/fd
ln -s pts/ptmx dev/ptmx
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs run run
cp /proc/sys/kernel/random/uuid run/boot-id
mount --bind run/boot-id proc/sys/kernel/random/boot_id
mount -t tmpfs -o mode=1777 tmp tmp
rm -rf var/log/journal
cat > etc/systemd/system/machine.target <<END
[Unit]
Requires=basic.target dbus.service
After=basic.target
AllowIsolate=yes
END
for unit in systemd-networkd systemd-resolved systemd-timesyncd cron; do
    ln -sf /dev/null etc/systemd/system/$unit.service
done
for unit in apt-daily apt-daily-upgrade; do ln -sf /dev/null etc/systemd/system/$unit.timer; done
{_OWN_FILES}
pivot_root . mnt
umount --lazy /mnt
echo ready
exec chroot . env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin \\
    /lib/systemd/systemd --system --show-status=0 --unit=machine.target
"""
_BOOT_SECONDS_MAX = 300
"""Only what a machine cannot do without begins at boot; servers are for the test to start."""
_SETTLE_SECONDS_MAX = 120
_INSIDE = 'sh -c "$1"; exit $?'
"""The shell that enters is beside the machine and its child is in it. nsenter's own child would be stopped by a
shutdown (SIGSTOP goes to all before SIGTERM), nsenter then stops itself, and the shutdown waits for ever.
"""
_LEAVE_GROUP = """
mount -t cgroup2 cgroup2 "$1"
for _ in $(seq 100); do
    find "$1/$2" -depth -type d -exec rmdir {} + && exit
    sleep 0.1
done
"""
"""Whoever was killed leaves its group a moment after its machine has ended."""


@contextlib.contextmanager
def disk(folder: Path) -> Iterator[Path]:
    """Have one disk for the machines that begin in this folder one after the other."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "machine", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


class Machine:
    """Begins on entry and ends, with all its processes, on exit.

    Attributes:
        first: its first process, in the numbers of this machine.
    """

    def __init__(self, folder: Path, *, systemd: bool = False, network: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._systemd = systemd
        self._own = ["--net"] if network else []
        self._group = f"hotmend-machine-{os.getpid()}-{next(_numbers)}"

    def __enter__(self) -> Machine:
        """Begin."""
        folders = [str(self._folder), str(ROOT)]
        if self._systemd:
            command = ["unshare", "--mount", "sh", "-c", _GROUP, "machine", *folders, self._group, _BOOT]
        else:
            begin = ["sh", "-c", _BEGIN, "machine", *folders]
            command = ["unshare", "--mount", "--pid", *self._own, "--fork", "--kill-child", *begin]
        command = ["setpriv", "--pdeathsig=KILL", *command]  # it does not outlive the tests, however they end
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            self._begun()
        except BaseException:
            self._end()
            raise
        return self

    def _begun(self) -> None:
        """Wait until it has its own files, and its service manager what it needs."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line != "ready\n":
            raise RuntimeError(f"the machine did not begin: {line}{self._process.stdout.read()}")
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        self.first = int(children.read_text().split()[0])
        if self._systemd:
            self._booted()

    def _booted(self) -> None:
        """Wait until its service manager has started what belongs to the boot."""
        limit = time.monotonic() + _BOOT_SECONDS_MAX
        state = ""
        while state not in ("running", "degraded"):
            if time.monotonic() > limit:
                raise RuntimeError(f"the machine did not boot: {state}")
            time.sleep(0.1)
            state = self.run("systemctl is-system-running", check=False).stdout.strip()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        if self._systemd:
            command = ["unshare", "--mount", "sh", "-c", _LEAVE_GROUP, "machine", str(self._folder), self._group]
            subprocess.run(command, check=False, stderr=subprocess.DEVNULL)

    def ends_by_itself(self) -> bool:
        """Wait until it has ended, as by a reboot; return whether it has."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_BOOT_SECONDS_MAX)
        return self._process.returncode is not None

    def command(self, text: str) -> list[str]:
        """Return the command line that has its shell run `text`."""
        namespaces = ["--mount", "--pid", "--cgroup", *self._own]
        enter = ["nsenter", f"--target={self.first}", *namespaces, "--root", "--wd", "--no-fork"]
        return [*enter, "sh", "-c", _INSIDE, "machine", text]

    def run(
        self, text: str, *, check: bool = True, seconds: float = RUN_SECONDS_MAX
    ) -> subprocess.CompletedProcess[str]:
        """Have its shell run `text`."""
        done = subprocess.run(
            self.command(text),
            capture_output=True,
            text=True,
            timeout=seconds,
            env=os.environ
            | {"LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "PYTHONPATH": str(ROOT / "src")},
            check=False,
        )
        if check and done.returncode:
            raise RuntimeError(f"{text}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        return done

    def install(self, *packages: str) -> None:
        """Install packages, given as `PACKAGE=VERSION`, without those they recommend."""
        self.run(f"apt-get install -qq -y --no-install-recommends --allow-downgrades {shlex.join(packages)}")

    def offer_only(self, pattern: str) -> None:
        """Have apt offer updates of these packages alone: a simulation with a hundred others takes it seconds."""
        pins = "".join(
            f"Package: {packages}\nPin: release o=Debian\nPin-Priority: {priority}\n\n"
            for packages, priority in (("*", 50), (pattern, 500))
        )
        self.run(f"cat > /etc/apt/preferences.d/only <<'END'\n{pins}END")

    def hotmend(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command; its exit code is for the caller to look at."""
        return self.run(shlex.join([sys.executable, "-m", "hotmend", *arguments]), check=False)

    def version(self, package: str) -> str:
        """Return the installed version."""
        return self.run(f"dpkg-query --show --showformat='${{Version}}' {package}").stdout

    def pids(self, command: str) -> list[int]:
        """Return the processes of that name, in its own numbers."""
        return sorted(map(int, self.run(f"pidof {command}", check=False).stdout.split()))

    def settle(self, command: str, count: int) -> list[int]:
        """Wait until so many processes of that name are there; return them."""
        limit = time.monotonic() + _SETTLE_SECONDS_MAX
        while len(found := self.pids(command)) != count and time.monotonic() < limit:
            time.sleep(0.05)
        assert len(found) == count, f"{command}: {found}"
        return found
