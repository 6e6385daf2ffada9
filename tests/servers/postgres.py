"""PostgreSQL from an unpacked tree, and `pgbench` as its load."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from .load import STOP_SECONDS_MAX, Load, Result
from .process import Server, port_free, server_start

PACKAGE = "postgresql-15"
FOLDER = "usr/lib/postgresql/15/bin"
PROGRAM = f"{FOLDER}/postgres"
CLIENTS = 4
ROUND_SECONDS = 5
_BACKGROUND = 4


def postgres_start(tree: Path, folder: Path) -> Server:
    """Start the server from an unpacked `postgresql-15` with a database that `pgbench` has filled."""
    port, data = port_free(), folder / "data"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.chown(folder, _user())
    as_user = ["setpriv", f"--reuid={_user()}", f"--regid={_user()}", "--init-groups"] if os.geteuid() == 0 else []
    made = [str(tree / FOLDER / "initdb"), "-D", str(data), "-U", "hotmend", "-A", "trust", "--no-sync", "-E", "UTF8"]
    subprocess.run([*as_user, *made], check=True, capture_output=True, cwd=folder)
    options = ["-c", "listen_addresses=127.0.0.1", "-p", str(port), "-k", str(folder), "-F"]
    command = [str(tree / PROGRAM), "-D", str(data), *options]
    server = server_start("postgres", [*as_user, *command], folder, port, workers=_BACKGROUND)
    subprocess.run([*_pgbench(server), "-i", "-q"], check=True, capture_output=True)
    return server


def _user() -> str:
    return "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


def _pgbench(server: Server) -> list[str]:
    return ["pgbench", "-h", "127.0.0.1", "-p", str(server.port), "-U", "hotmend", "-d", "postgres"]


@dataclass(slots=True)
class PostgresLoad:
    """`pgbench`, round after round: it has no summary when it is interrupted."""

    server: Server
    started: float = field(default_factory=time.monotonic)
    done: int = 0
    failures: int = 0
    printed: list[str] = field(default_factory=list)
    _ending: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> PostgresLoad:
        """Begin the first round."""
        self._thread = threading.Thread(target=self._rounds, daemon=True)
        self._thread.start()
        return self

    def running(self) -> bool:
        """Return whether transactions are still being made."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> Result:
        """Let the round end and return what all rounds saw."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(ROUND_SECONDS + STOP_SECONDS_MAX)
        seconds = time.monotonic() - self.started
        return Result(self.done, self.failures, self.done / seconds, "\n".join(self.printed))

    def _rounds(self) -> None:
        command = [*_pgbench(self.server), "-n", "-c", str(CLIENTS), "-T", str(ROUND_SECONDS)]
        while not self._ending.is_set():
            ran = subprocess.run(command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
            count = re.search(r"number of transactions actually processed: (\d+)", ran.stdout)
            failed = re.search(r"number of failed transactions: (\d+)", ran.stdout)
            self.done += int(count[1]) if count else 0
            self.failures += int(failed[1]) if failed else 1
            if ran.returncode or not count or "error" in ran.stderr.lower():
                self.failures += 1
                self.printed.append(ran.stdout[-1000:] + ran.stderr[-1000:])
                return


def postgres_load_start(server: Server) -> Load:
    """Make transactions of the usual TPC-B kind with `pgbench`."""
    return PostgresLoad(server).start()
