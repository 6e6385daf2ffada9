"""A fleet with real reports and facts, and people who look at it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest

from hotmend.server.compliance import daily
from hotmend.server.identity.access import COOKIE
from hotmend.server.limits import Limiter
from hotmend.server.releases import store as releases
from hotmend.wire.catalogue import Offered
from hotmend.wire.report import Finding, Fixed, Issue, IssueOption, IssueStep, Notice, Prerequisite, Quarantine
from tests.server.machine import Simple, host, registration_key, report, simple
from tests.server.running import Reply, Running, running

CASES = Path(__file__).parents[2] / "data" / "facts" / "cases"
NIGHTS = {
    "mode": "automatic",
    "windows": [{"name": "nights", "rule": "FREQ=DAILY", "start": "2026-01-01T22:00:00", "minutes": 240}],
    "freezes": {"Advent": {"first": "2026-12-20", "last": "2026-12-26", "yearly": True}},
}
RELEASE = "2026.10-openssl"
STEPS = (
    ("Keep session tickets in one file", ("nginx -t", "systemctl reload nginx"), False),
    ("Reboot", ("systemctl reboot",), True),
)
"""Title, commands and whether it is a reboot, of each step of the workaround of the issue RELEASE/0."""
FORM = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}


@dataclass
class Person:
    """Somebody with a browser: cookies, and the CSRF token that pages carry."""

    server: Running
    cookies: dict[str, str] = field(default_factory=dict)
    csrf: str = ""

    def get(self, path: str, language: str = "en") -> Reply:
        return self.server.call("GET", path, role=None, headers=self._headers(language))

    def post(self, path: str, **fields: str | list[str]) -> Reply:
        given = {"csrf": self.csrf, **fields}
        body = urlencode([(name, each) for name, value in given.items() for each in _several(value)]).encode()
        reply = self.server.call("POST", path, body, role=None, headers=self._headers("en") | FORM)
        if cookie := reply.headers.get("Set-Cookie", ""):
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        return reply

    def sign_in(self, name: str) -> Reply:
        token = self.server.tokens.get("admin" if name == "root" else name, "")
        reply = self.post("/sign-in", token=token)
        self.learn()
        return reply

    def learn(self) -> None:
        """Take the CSRF token from a page."""
        page = self.get("/").body.decode()
        self.csrf = page.partition('name="csrf" value="')[2].partition('"')[0]

    def _headers(self, language: str) -> dict[str, str]:
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return {"Accept-Language": language} | ({"Cookie": cookies} if cookies else {})


def _several(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


@dataclass
class Fleet:
    """A server with machines in it."""

    server: Running
    machines: dict[str, Simple]
    windows: str

    def person(self, name: str) -> Person:
        found = Person(self.server)
        reply = found.sign_in(name)
        assert COOKIE in found.cookies, (reply.status, reply.body)
        return found


@pytest.fixture(scope="package")
def fleet(templates: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet_in(tmp_path_factory.mktemp("portal") / "fleet.db", templates) as found:
        yield found


@contextmanager
def fleet_in(file: Path, templates: dict[str, str], ahead: timedelta = timedelta()) -> Iterator[Fleet]:
    """Start a server on a new database; its clock is `ahead`."""
    file.write_bytes(Path(templates["sqlite"]).read_bytes())
    with running(f"sqlite:///{file}") as server:
        server.clock.ahead = ahead
        server.set_up()
        server.app.state.sign_ins = Limiter(10_000)  # tests sign in more often than people
        fleet = filled(server)
        publish(server, [published(server.clock().date() + timedelta(days=30))])
        yield fleet


def published(deadline: date, **changed: Any) -> dict[str, Any]:
    """Return a known issue as the document of a release has it."""
    proof = {"linux": {"file": "/etc/nginx/tickets", "line": "kept"}}
    steps = [
        {"title": title, "commands": list(commands), "reboot": reboot, "proof": proof}
        for title, commands, reboot in STEPS
    ]
    return {
        "title": "Session tickets are forgotten <twice>",
        "since": "2026-10-20T08:00:00Z",
        "workaround": "",
        "resolved_by": "",
        "options": [{"id": "tickets", "title": "Tickets that outlive a reload", "steps": steps, "remedy": ""}],
        "deadline": deadline.isoformat(),
        "cost": "Clients shake hands anew after each reload.",
        "affected": {"linux": {"runs": ["/usr/sbin/nginx"]}},
    } | changed


def publish(
    server: Running,
    issues: list[dict[str, Any]],
    tier: str = "stable",
    kind: str = "hotpatch",
    withdrawn: str | None = None,
) -> None:
    """Have the server follow a channel with one release that has these known issues."""
    now = server.clock()
    offered = Offered(RELEASE, kind, "openssl", now, "security", "high", "2026-10", [], [], issues, withdrawn)
    with server.database.write() as connection:
        releases.put_channel(connection, "debian-13", tier, {"source": "a mirror", "looked_at": now, "good_at": now})
        releases.put_releases(connection, "debian-13", tier, [msgspec.structs.asdict(offered)])


def concern(deadline: date | None, *proven: bool | None, **changed: Any) -> Issue:
    """Return what a machine reports of that issue; `proven`: its steps, in order."""
    steps = tuple(
        IssueStep(title, done, commands, reboot) for (title, commands, reboot), done in zip(STEPS, proven, strict=True)
    )
    given: dict[str, Any] = {
        "id": f"{RELEASE}/0",
        "title": "Session tickets are forgotten <twice>",
        "affected": True,
        "cost": "Clients shake hands anew after each reload.",
        "deadline": deadline,
        "options": (IssueOption("Tickets that outlive a reload", steps),),
    }
    return Issue(**(given | changed))


def filled(server: Running) -> Fleet:
    """Return a fleet of some machines that run, wait, are off the line, and are Windows without an agent."""
    key = registration_key(server, tags={"set": "web", "place": "berlin"})
    machines = {name: simple(server, name, key) for name in ("web-1", "web-2", "db-1")}
    machines["web-1"].check_in(
        report=report(
            waiting=("openssl=3.0.17-1~deb12u4", "nginx=1.22.1-9+deb12u3"),
            prerequisites=(Prerequisite("ptrace", True), Prerequisite("lockdown", None, "it cannot be read")),
            restarts_avoided=1234,
        )
    )
    machines["web-2"].check_in(report=report(restarts=(), restarts_avoided=12))
    machines["db-1"].check_in(
        report=report(
            level="2026-10",
            line="off",
            enrollment="ACTION_REQUIRED",
            findings=(
                Finding("CVE-2026-0003", Fixed.NOWHERE, 9, "postgres", "postgresql.service", "/usr/bin/x", "x=1"),
            ),
            reboot=("the kernel that runs is 6.1.0-28, 6.1.0-31 is installed",),
            alerts=(Notice("hotpatch-missing", "nothing comes for <libssl3>"),),
            quarantined=(Quarantine("x=1", "it crashed"),),
            held="held until 1 December by root",
            issues=(concern(server.clock().date() + timedelta(days=30), True, None),),
        )
    )
    waits = Simple(server, "new-1", host("new-1"))
    waits.enrol(registration_key(server, name="asks", approval=True))
    machines["new-1"] = waits
    windows = ""
    for case in ("october-2-right", "october-3-left", "other-updates"):
        body = (CASES / f"{case}.json").read_bytes()
        made = server.call("PUT", f"/api/v1/facts/{case}", body)
        assert made.status == 200, made.body
        windows = made.json()["machine"]["id"]
    server.call("PUT", "/api/v1/maintenance/configurations/nights", NIGHTS)
    server.post("/api/v1/scopes", {"name": "berlin", "query": {"tags": {"place": "berlin"}, "waiting": True}})
    server.post("/api/v1/maintenance/assignments", {"configuration": "nights", "priority": 5, "scope": "berlin"})
    server.call("PUT", "/api/v1/maintenance/freezes/turn", {"first": "2026-12-24", "last": "2027-01-02"})
    daily.take(server.app.state.context)
    return Fleet(server, machines, windows)
