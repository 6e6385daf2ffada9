"""An outage of the server, ended: whether machines come back all at once. The outage is `kill -9` of a real server."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import urllib3

from bench.checkin import register
from bench.report import Figure, progress
from hotmend.server.database import open_database
from tests.survey.cluster import postgresql

MACHINES_A_SECOND: Final = 100
INTERVAL_SECONDS: Final = 10
WARM, STEADY, OUTAGE, AFTER = 2, 6, 10, 10
"""How many intervals each part takes. Ten check-ins of each machine are missed: ten minutes at the usual minute."""
GOAL_TIMES: Final = 2.0


def outage_measure(folder: Path, interval: int = INTERVAL_SECONDS) -> Iterator[Figure]:
    """Yield what came a second before an outage and after it.

    Args:
        folder: for the server's log.
        interval: seconds between two check-ins of a machine; the outage is ten times as long.
    """
    folder.mkdir(parents=True)
    with postgresql(durable=True) as url:
        database = open_database(url)
        try:
            register(database, range(MACHINES_A_SECOND * interval))
        finally:
            database.close()
        with socket.create_server(("127.0.0.1", 0)) as found:
            port = found.getsockname()[1]
        yield from _measured(url, port, folder, interval)


def _measured(url: str, port: int, folder: Path, interval: int) -> Iterator[Figure]:
    server = _begin(url, port, folder, interval)
    machines, seconds = MACHINES_A_SECOND * interval, (WARM + STEADY + OUTAGE + AFTER) * interval + 15
    words = [f"127.0.0.1:{port}", str(machines), str(interval), str(seconds)]
    load = subprocess.Popen([sys.executable, "-m", "bench.outage_load", *words], stdout=subprocess.PIPE, text=True)
    try:
        progress(f"{machines} machines check in every {interval} s")
        time.sleep((WARM + STEADY) * interval)
        server.send_signal(signal.SIGKILL)
        server.wait()
        gone = time.time()
        progress(f"the server is gone for {OUTAGE * interval} s")
        time.sleep(OUTAGE * interval)
        server = _begin(url, port, folder, interval)
        back = time.time()
        told, _ = load.communicate(timeout=seconds)
    finally:
        server.kill()
        server.wait()
        load.kill()
        load.wait()
    if load.returncode:
        raise RuntimeError("the load failed")
    yield from _figures(json.loads(told), gone, back, interval)


def _figures(told: dict[str, Any], gone: float, back: float, interval: int) -> Iterator[Figure]:
    came = {int(second): count for second, count in told["came"].items()}
    before = [came.get(second, 0) for second in range(int(gone) - STEADY * interval, int(gone))]
    after = [came.get(second, 0) for second in range(int(back), int(back) + AFTER * interval)]
    steady = sum(before) / len(before)
    note = (
        f"{MACHINES_A_SECOND * interval} machines, every {interval} s; {OUTAGE * interval} s without a server after"
        f" kill -9;"
        f" load {os.getloadavg()[0]:.1f}; {told['wrong']} wrong answers, {told['missing']} machines not answered again"
    )
    section = "Outage"
    yield Figure(section, "machines a second before it", steady, "", note=note)
    yield Figure(section, "most in a second before it", max(before), "")
    during = [came.get(second, 0) for second in range(int(gone) + 2 * interval, int(back))]
    yield Figure(section, "machines a second that try meanwhile, at the end", sum(during) / max(len(during), 1), "")
    yield Figure(section, "most in a second after it", max(after), "")
    yield Figure(section, "the same, of steady", max(after) / steady, "times", GOAL_TIMES, "goal")
    yield Figure(section, "all machines were answered again after", told["all_back"] - back, "s")
    yield Figure(section, "99 of 100 check-ins answered within, all of the time", told["p99_ms"], "ms")


def _begin(url: str, port: int, folder: Path, interval: int) -> subprocess.Popen[bytes]:
    """Start a server and wait until it answers."""
    words = ["--database", url, "--listen", f"127.0.0.1:{port}", "--check-in-seconds", str(interval)]
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-m", "hotmend", "server", *words], stdout=log, stderr=log)
    limit = time.monotonic() + 120
    while True:
        try:
            if urllib3.request("GET", f"http://127.0.0.1:{port}/healthz", retries=False, timeout=5).status == 200:
                return process
        except urllib3.exceptions.HTTPError:
            pass
        if process.poll() is not None or time.monotonic() > limit:
            raise RuntimeError((folder / "server.log").read_text().strip().splitlines()[-1])
        time.sleep(0.2)
