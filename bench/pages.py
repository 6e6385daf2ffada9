"""How long the portal's pages and the API's reading routes take with a large fleet: a real server on PostgreSQL."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
import sqlalchemy as sa
import urllib3

from bench.checkin import server_start
from bench.pages_fleet import ROLLOUT, fleet_fill, identity_of
from bench.report import Figure, progress
from hotmend.server.database import Database, open_database
from hotmend.server.figures.every import FIGURES
from hotmend.server.figures.tables import figures
from hotmend.server.identity.service import begin_setup
from tests.survey.cluster import postgresql

TIMES: Final = 3
GOAL_MS: Final = 300.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_MADE_SECONDS: Final = 600.0
_PLAN: Final = "name=x&ring=canary&by=percent&value=1&ring=rest&by=rest&value="
_ONE: Final = identity_of(3)
_BYS: Final = ("product", "package", "tag", "machine", "time", "exposure")
PAGES: Final = (
    "/",
    "/machines",
    "/machines?tag=site%3D7",
    "/machines?line=off",
    "/machines?due=restart",
    "/machines?cve=CVE-2026-0007",
    "/machines?name=machine-777",
    "/machines?unseen=yes",
    *(f"/machines/{_ONE}{tab}" for tab in ("", "?tab=updates", "?tab=compliance", "?tab=history", "?tab=issues")),
    "/compliance",
    *(f"/compliance?by={by}" for by in _BYS),
    *(f"/compliance?tag=site%3D7&by={by}" for by in ("", *_BYS)),
    "/compliance?release=Debian+GNU%2FLinux+12+%28bookworm%29",
    "/compliance/evidence",
    "/issues",
    "/issues?issue=licence-bug-option-1",
    "/calendar",
    "/maintenance",
    "/scopes",
    "/rollouts",
    f"/rollouts/{ROLLOUT}",
    f"/rollouts/new?{_PLAN}",
    f"/rollouts/new?{_PLAN}&previewed=yes",
    f"/rollouts/new?{_PLAN}&previewed=yes&lane=zero-day",
    f"/rollouts/new?{_PLAN}&previewed=yes&tags=site%3D7",
    "/audit",
    "/keys",
    "/users",
    "/account",
)
API: Final = (
    "/machines",
    "/machines?line=off",
    f"/machines/{_ONE}",
    f"/machines/{_ONE}/events",
    f"/machines/{_ONE}/actions",
    f"/machines/{_ONE}/forecast",
    "/scopes",
    "/audit",
    "/rollouts",
    f"/rollouts/{ROLLOUT}",
    f"/rollouts/{ROLLOUT}/machines",
    f"/rollouts/{ROLLOUT}/events",
    "/maintenance/configurations",
    "/maintenance/assignments",
    "/compliance/vulnerabilities",
    "/compliance/vulnerabilities?tag=site%3D7",
    *(f"/compliance/groups/{by}?limit=100" for by in ("product", "package", "tag", "machine")),
    "/compliance/days",
    "/compliance/exposures",
    "/metrics",
)
FILES: Final = (
    "/compliance/vulnerabilities.csv",
    "/compliance/machine.csv",
    "/compliance/exposures.csv",
    "/compliance/vex/openvex",
    "/compliance/vex/openvex?tag=site%3D7",
)


def pages_measure(folder: Path, count: int) -> Iterator[Figure]:
    """Yield how long each page takes with so many machines: first after the server's start, and again."""
    folder.mkdir(parents=True)
    section = f"Pages, {count} machines"
    with postgresql(durable=True) as url:
        progress(f"{count} machines")
        database = open_database(url)
        try:
            fleet_fill(database, count)
            with server_start(url, folder) as (address, _):
                secret = _set_up(address, begin_setup(database, datetime.now(UTC)) or "")  # its own was only printed
                began = time.monotonic()
                _until_made(database)
                yield Figure(section, "all figures are there after", time.monotonic() - began, "s")
            with database.read() as connection:
                query = sa.select(figures.c.name, figures.c.took_ms).order_by(figures.c.name)
                for row in connection.execute(query).all():
                    yield Figure(section, f"making {row.name}", row.took_ms, "ms")
        finally:
            database.close()
        with server_start(url, folder) as (address, pid):  # nobody has opened a page of it
            asked = _Asked(urllib3.HTTPConnectionPool(address), secret, pid, _postmaster(url))
            for path in (*PAGES, *(f"/api/v1{each}" for each in API)):
                yield asked.measured(section, path, TIMES, GOAL_MS)
            yield asked.measured(section, "/api/v1/rollouts/preview", TIMES, GOAL_MS, _wanted())
            for path in FILES:
                yield asked.measured(f"Files, {count} machines", path, 0, None)


def _wanted() -> bytes:
    rings = [{"name": "canary", "percent": 1}, {"name": "rest"}]
    return msgspec.json.encode({"name": "one", "updates": ["openssl=3.0.17"], "rings": rings})


@dataclass(frozen=True, slots=True)
class _Asked:
    """A server that is asked, as its administrator.

    Attributes:
        pool: of connections to it.
        secret: a token.
        server, database: their processes; of the database the one that has started all others.
    """

    pool: urllib3.HTTPConnectionPool
    secret: str
    server: int
    database: int

    def measured(self, section: str, path: str, times: int, goal: float | None, body: bytes | None = None) -> Figure:
        """Ask for one page, first and again; its processor time is that of all that both processes did meanwhile."""
        progress(path)
        before = self._spent()
        answers = [self._took(path, body) for _ in range(1 + times)]
        server, database = (
            (late - early) * 1e3 / (1 + times) for early, late in zip(before, self._spent(), strict=True)
        )
        whole = [each[1] for each in answers]
        told = f"first {whole[0]:.0f} ms, most {max(whole):.0f}"
        if goal is None:
            told = f"its first byte after {answers[0][0]:.0f} ms"
        spent = f"processor time each: server {server:.0f} ms, PostgreSQL {database:.0f}"
        note = f"{told}; {spent}; load {os.getloadavg()[0]:.1f}"
        value = statistics.median(whole[1:] or whole)
        return Figure(section, path, value, "ms", goal, "goal" if goal else "", note)

    def _took(self, path: str, body: bytes | None) -> tuple[float, float]:
        """Return the milliseconds to the first byte, and to the last."""
        headers = {"Authorization": f"Bearer {self.secret}", "Content-Type": "application/json"}
        began = time.monotonic()
        method = "GET" if body is None else "POST"
        answer = self.pool.request(method, path, body=body, headers=headers, preload_content=False, redirect=False)
        first = time.monotonic()
        read = answer.read()
        ended = time.monotonic()
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {read[:200]!r}")
        return (first - began) * 1e3, (ended - began) * 1e3

    def _spent(self) -> tuple[float, float]:
        """Return the seconds of processor time of the server, and of all processes of PostgreSQL that there are."""
        server, database = 0.0, 0.0
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    fields = (folder / "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                spent = (int(fields[11]) + int(fields[12])) / _TICKS
                if int(folder.name) == self.server:
                    server = spent
                elif self.database in (int(folder.name), int(fields[1])):
                    database += spent
        return server, database


def _postmaster(url: str) -> int:
    """Return the process that has started all others of a PostgreSQL on a socket in a folder of its own."""
    folder = Path(str(sa.make_url(url).query["host"]))
    return int((folder / "data" / "postmaster.pid").read_text().split()[0])


def _set_up(address: str, token: str) -> str:
    body = {"token": token, "name": "root", "password": "correct horse battery"}
    answer = urllib3.request("POST", f"http://{address}/api/v1/setup", json=body)
    return str(answer.json()["secret"])


def _until_made(database: Database) -> None:
    """Wait until every figure that takes long has been made once."""
    limit = datetime.now(UTC) + timedelta(seconds=_MADE_SECONDS)
    last = FIGURES[-1].name
    while datetime.now(UTC) < limit:
        with database.read() as connection:
            if connection.scalar(sa.select(sa.func.count()).where(figures.c.name == last)):
                return
        time.sleep(0.5)
    raise RuntimeError("the figures were not made")
