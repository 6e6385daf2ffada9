"""Rollouts, maintenance, scopes, users and facts made on pages: the forecast first, and what was shown alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
import sqlalchemy as sa

from hotmend.server.maintenance.closing import close
from hotmend.server.maintenance.tables import slots, window_events
from hotmend.server.rollouts import steering
from hotmend.server.webhooks.sending import signature, tell
from tests.server.listener import Listener
from tests.server.portal.conftest import CASES, FORM, Fleet, Person, fleet_in
from tests.server.portal.test_pages import PLAN, check
from tests.server.running import PASSWORD, Running


@pytest.fixture(scope="module")
def fleet(templates: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Machines of this file alone: it adds and removes what others count."""
    with fleet_in(tmp_path_factory.mktemp("forms") / "fleet.db", templates) as found:
        yield found


def form_of(tree: Any, action: str) -> dict[str, str]:
    """Return the hidden fields of the form that posts to `action`."""
    form = next(each for each in tree.iter("form") if each.get("action") == action and each.get("method") == "post")
    return {each.get("name"): each.get("value") for each in form.findall(".//input[@type='hidden']")}


def rows_of(tree: Any) -> list[list[str]]:
    """Return the cells of the tables of a page."""
    return [[" ".join("".join(cell.itertext()).split()) for cell in row] for row in tree.findall(".//tbody/tr")]


def configurations(server: Running) -> dict[str, Any]:
    return {each["name"]: each for each in server.get("/api/v1/maintenance/configurations")["items"]}


def seed_of_another_plan(server: Running, asked: dict[str, Any]) -> str:
    """Return a seed that draws other machines: one in six puts three machines into the same order."""
    for seed in (f"another-{number}" for number in range(100)):
        drawn = server.post("/api/v1/rollouts/preview", {**asked, "seed": seed, "plan": ""}, status=200)
        if drawn["plan"] != asked["plan"]:
            return seed
    raise AssertionError("100 seeds draw the same machines")


def test_a_rollout_is_shown_before_it_is_made(fleet: Fleet) -> None:
    person = fleet.person("operator")
    before = len(fleet.server.get("/api/v1/rollouts")["items"])
    tree = check(person.get(f"/rollouts/new?{PLAN}&previewed=yes").body)
    rings = rows_of(tree)
    assert [row[0] for row in rings] == ["canary", "rest"]
    assert sum(int(row[1]) for row in rings) == 3  # those with an agent
    assert len(fleet.server.get("/api/v1/rollouts")["items"]) == before
    fields = form_of(tree, "/rollouts")
    asked = msgspec.json.decode(fields["wanted"])
    for drawn, status in (
        ({"plan": "0" * 64}, 412),
        ({"seed": seed_of_another_plan(fleet.server, asked)}, 412),
        ({"seed": ""}, 428),
        ({"plan": ""}, 428),
    ):
        changed = msgspec.json.encode({**asked, **drawn}).decode()
        assert person.post("/rollouts", **(fields | {"wanted": changed, "key": ""})).status == status
    made = person.post("/rollouts", **fields)
    again = person.post("/rollouts", **fields)
    assert made.status == again.status == 303
    assert made.headers["Location"] == again.headers["Location"]  # a form that is sent twice makes it once
    rollout = fleet.server.get("/api/v1" + made.headers["Location"].partition("?")[0])
    assert (rollout["name"], rollout["state"]) == ("December", "WAITING_FOR_APPROVAL")
    assert rollout["spec"]["updates"] == ["openssl=3.0.17-1~deb12u4"]
    assert [ring["name"] for ring in rollout["spec"]["rings"]] == ["canary", "rest"]
    path = made.headers["Location"].partition("?")[0]
    link = check(person.get(path).body).find(".//a[@id='preview']").get("href")
    approver = fleet.person("approver")
    planned = check(approver.get(link).body)
    assert [
        [" ".join("".join(cell.itertext()).split()) for cell in row] for row in planned.findall(".//tbody/tr")
    ] == rings
    assert asked["plan"] in approver.get(link, "de").body.decode()
    person.post(f"{path}/stop", reason="enough")
    assert approver.get(link).status == 409
    assert check(person.get(path).body).find(".//a[@id='preview']") is None


def test_what_makes_no_sense_is_told_and_cannot_be_made(fleet: Fleet) -> None:
    person = fleet.person("operator")
    for query, told in (
        ("name=&previewed=yes", "a name has 1 to 200 characters"),
        ("name=x&ring=all&by=rest&value=&previewed=yes", "All machines are in the first ring"),
        ("name=x&tags=place%3Dmars&previewed=yes", "No machine is selected."),
    ):
        page = person.get(f"/rollouts/new?{query}").body
        tree = check(page)
        assert told in page.decode(), query
        assert not [each for each in tree.iter("form") if each.get("action") == "/rollouts"]
    for query in ("by=percent&value=many", "by=tier&value=beta"):
        assert person.get(f"/rollouts/new?name=x&ring=a&{query}").status == 422
    page = check(person.get("/rollouts/new?name=x&ring=a&by=tier&value=stable&ring=b&by=rest&value=").body)
    assert page.find(".//select[@id='by-1']/option[@selected]").get("value") == "tier"
    assert page.find(".//input[@id='value-1']").get("value") == "stable"
    assert person.post("/rollouts", wanted="{}").status == 422
    assert fleet.person("viewer").get(f"/rollouts/new?{PLAN}").status == 403


def test_a_configuration_is_kept_as_it_was_shown(fleet: Fleet) -> None:
    person, server = fleet.person("approver"), fleet.server
    query = urlencode(
        [
            ("name", "second Tuesday"),
            ("mode", "automatic"),
            ("zone", "Europe/Berlin"),
            *zip(
                ("window", "rule", "start", "minutes", "days"),
                ("late", "FREQ=MONTHLY;BYDAY=2TU", "2026-01-01T22:00", "120", "20"),
                strict=True,
            ),
            *zip(
                ("window", "rule", "start", "minutes", "days"),
                ("", "FREQ=DAILY", "2026-01-01T02:00", "1", "0"),
                strict=True,
            ),
            *zip(("freeze", "first", "last", "yearly"), ("turn", "2026-12-20", "2027-01-02", "yes"), strict=True),
            ("include", "openssl*\nnginx*"),
            ("reboot", "if-required"),
            ("at_a_time", "3"),
            ("slot_minutes", "45"),
            ("event_minutes", "120"),
        ]
    )
    tree = check(person.get(f"/maintenance/configuration?{query}&previewed=yes").body)
    times = [each.get("datetime") for each in tree.findall(".//section//time")]
    assert times
    assert all(re.search(r"T22:00:00\+0[12]:00$", each) for each in times[::2])  # in the zone, summer and winter
    assert "second Tuesday" not in configurations(server)
    assert person.post("/maintenance/configuration", **form_of(tree, "/maintenance/configuration")).status == 303
    kept = configurations(server)["second Tuesday"]["wanted"]
    assert kept["windows"] == [
        {
            "name": "late",
            "rule": "FREQ=MONTHLY;BYDAY=2TU",
            "start": "2026-01-01T22:00:00",
            "minutes": 120,
            "days_after": 20,
        }
    ]
    assert kept["freezes"] == {"turn": {"first": "2026-12-20", "last": "2027-01-02", "yearly": True}}
    assert kept["include"] == ["openssl*", "nginx*"]
    assert (kept["slots"], kept["slot_minutes"], kept["event_minutes"]) == (3, 45, 120)
    assert person.post("/maintenance/configuration", **form_of(tree, "/maintenance/configuration")).status == 412
    wrong = person.get("/maintenance/configuration?name=x&zone=Mars/Phobos&previewed=yes")
    assert b"Mars/Phobos" in wrong.body
    assert not [
        each
        for each in check(wrong.body).iter("form")
        if each.get("method") == "post" and each.get("action") == "/maintenance/configuration"
    ]
    # What is opened again is what was kept, and a change of somebody else meanwhile is seen.
    opened = check(person.get("/maintenance/configuration?name=second+Tuesday").body)
    assert opened.find(".//input[@id='rule-1']").get("value") == "FREQ=MONTHLY;BYDAY=2TU"
    changed = check(person.get(f"/maintenance/configuration?{query}&restart=yes&previewed=yes").body)
    server.call("PUT", "/api/v1/maintenance/configurations/second Tuesday", kept)
    assert person.post("/maintenance/configuration", **form_of(changed, "/maintenance/configuration")).status == 412
    assert person.post("/maintenance/configuration/remove", name="second Tuesday").status == 303
    assert "second Tuesday" not in configurations(server)


def test_a_page_lets_no_operator_let_machines_do_more(fleet: Fleet) -> None:
    person, server = fleet.person("operator"), fleet.server
    page = person.get("/maintenance/configuration?name=all+of+it&mode=automatic&reboot=always&previewed=yes")
    reply = person.post("/maintenance/configuration", **form_of(check(page.body), "/maintenance/configuration"))
    assert reply.status == 403
    assert "an approver does that" in reply.body.decode()
    assert "all of it" not in configurations(server)


def test_an_assignment_says_first_whom_it_concerns(fleet: Fleet) -> None:
    person, server = fleet.person("approver"), fleet.server
    machine = fleet.machines["db-1"].id
    path = "/maintenance/assignment?configuration=nights&to=machine&machine=db-1&priority=9"
    page = person.get(path)
    assert b"1 that have default now" in page.body
    assert (
        person.post("/maintenance/assignments", **form_of(check(page.body), "/maintenance/assignments")).status == 303
    )
    assert server.get(f"/api/v1/machines/{machine}")["machine"]["policy"] == "nights"
    again = person.get(path)
    assert b"No machine would have another configuration than now." in again.body
    assert b"Another assignment has this priority" in again.body
    shown = check(person.get("/maintenance").body)
    action = next(
        each.get("action")
        for each in shown.iter("form")
        if each.find(".//button") is not None and "priority 9" in (each.find(".//button").get("aria-label") or "")
    )
    assert person.post(action).status == 303
    assert server.get(f"/api/v1/machines/{machine}")["machine"]["policy"] == "default"
    assert person.get(path.replace("db-1", "nobody")).status == 422
    for what in ("to=tag&tag=", "to=scope&scope="):
        assert person.get(f"/maintenance/assignment?configuration=nights&{what}").status == 422


def test_days_are_frozen_for_everybody(fleet: Fleet) -> None:
    person = fleet.person("approver")
    days = {"name": "launch", "first": "2026-12-01", "last": "2026-12-03"}
    assert person.post("/maintenance/freezes", **days).status == 303
    assert "launch" in [each["name"] for each in fleet.server.get("/api/v1/maintenance/freezes")["items"]]
    assert person.post("/maintenance/freezes", **(days | {"last": "2026-11-01"})).status == 422
    assert person.post("/maintenance/freezes", **(days | {"last": "tomorrow"})).status == 422
    assert person.post("/maintenance/freezes/remove", name="launch").status == 303
    assert person.post("/maintenance/freezes/remove", name="launch").status == 404


def test_a_scope_says_first_how_many_match(fleet: Fleet) -> None:
    person, server = fleet.person("operator"), fleet.server
    page = person.get("/scopes?name=webs&search=web&platform=linux&due=restarts_due&previewed=yes")
    assert b"machines that match now: 1." in page.body
    assert person.post("/scopes", **form_of(check(page.body), "/scopes")).status == 303
    assert {each["name"]: each["machines"] for each in server.get("/api/v1/scopes")["items"]}["webs"] == 1
    assert person.post("/scopes", **form_of(check(page.body), "/scopes")).status == 409
    assert person.post("/scopes/remove", name="berlin").status == 409  # a configuration is assigned to it
    assert person.post("/scopes/remove", name="webs").status == 303
    assert person.get("/scopes?platform=linux&tier=best&previewed=yes").status == 422


def test_users_are_added_changed_and_shut_out(fleet: Fleet) -> None:
    admin, server = fleet.person("root"), fleet.server
    check(admin.get("/users", "de").body)
    assert admin.post("/users", name="eve", role="operator", password="short").status == 422
    assert admin.post("/users", name="eve", role="operator", password=PASSWORD).status == 303
    eve = Person(server)
    assert eve.post("/sign-in", name="eve", password=PASSWORD).status == 303
    assert eve.get("/keys").status == 200
    assert eve.get("/users").status == 403
    identity = next(each["id"] for each in server.get("/api/v1/users")["items"] if each["name"] == "eve")
    assert admin.post(f"/users/{identity}", role="viewer", password="", disabled="").status == 303
    assert eve.get("/").status == 303  # her session has ended
    assert eve.post("/sign-in", name="eve", password=PASSWORD).status == 303
    assert eve.get("/keys").status == 403
    assert admin.post(f"/users/{identity}", role="viewer", password="", disabled="yes").status == 303
    assert eve.post("/sign-in", name="eve", password=PASSWORD).status == 403
    own = server.get("/api/v1/me")["id"]
    assert admin.post(f"/users/{own}", role="viewer", password="", disabled="").status == 409  # nobody would be left
    operator = fleet.person("operator")
    assert operator.post("/users", name="mallory", role="admin", password=PASSWORD).status == 403
    assert operator.post(f"/users/{identity}", role="admin", disabled="").status == 403


def test_a_token_is_shown_once_and_revoked(fleet: Fleet) -> None:
    person, server = fleet.person("operator"), fleet.server
    assert person.post("/account/tokens", name="too much", role="admin").status == 403
    page = person.post("/account/tokens", name="nightly", role="viewer", days="1")
    check(page.body)
    secret = re.search(r"hm_[\w-]+", page.body.decode())
    assert secret is not None
    server.tokens["nightly"] = secret[0]
    assert server.get("/api/v1/me", role="nightly")["role"] == "viewer"
    assert secret[0] not in person.get("/account").body.decode()
    identity = next(each["id"] for each in server.get("/api/v1/tokens")["items"] if each["name"] == "nightly")
    assert fleet.person("viewer").post(f"/tokens/{identity}/revoke", back="/account").status == 404
    assert person.post(f"/tokens/{identity}/revoke", back="https://evil.example").status == 422
    assert person.post(f"/tokens/{identity}/revoke", back="/account").status == 303
    assert server.call("GET", "/api/v1/me", role="nightly").status == 401


def test_facts_of_a_windows_server_are_uploaded(fleet: Fleet) -> None:
    person = fleet.person("operator")
    facts = (CASES / "october-2-right.json").read_bytes()

    def send(name: str, body: bytes, csrf: str) -> Any:
        parts = {"csrf": csrf, "name": name}
        lines = [
            f'--x\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n' for key, value in parts.items()
        ]
        lines.append('--x\r\nContent-Disposition: form-data; name="file"; filename="f.json"\r\n\r\n')
        sent = "".join(lines).encode() + body + b"\r\n--x--\r\n"
        headers = person._headers("en") | FORM | {"Content-Type": "multipart/form-data; boundary=x"}
        return fleet.server.call("POST", "/facts", sent, role=None, headers=headers)

    assert send("win-7", facts, "guessed").status == 403
    assert send("win-7", b"{}", person.csrf).status == 400
    assert send("web-1", facts, person.csrf).status == 409  # an agent speaks for it
    reply = send("win-7", facts, person.csrf)
    assert reply.status == 303
    page = person.get(reply.headers["Location"]).body.decode()
    assert "win-7" in page
    assert "on the line" in page


def test_a_page_that_lives_says_so_and_can_stand_still(fleet: Fleet) -> None:
    person = fleet.person("operator")
    made = person.post(
        "/rollouts", **form_of(check(person.get(f"/rollouts/new?{PLAN}&previewed=yes").body), "/rollouts")
    )
    path = made.headers["Location"].partition("?")[0]
    tree = check(person.get(path).body)
    live = tree.find(".//div[@id='live']")
    assert live.get("data-hx-get") == f"{path}?seen=WAITING_FOR_APPROVAL"
    assert len(tree.findall(".//script")) == 1
    still = check(person.get(f"{path}?still=yes").body)
    assert still.find(".//div[@id='live']").get("data-hx-get") is None
    assert still.findall(".//script") == []
    assert person.post(f"{path}/stop", reason="enough").status == 303
    assert b"another state by now" in person.get(live.get("data-hx-get")).body
    gone = fleet.server.call("GET", path, role=None, headers={"HX-Request": "true"})
    assert (gone.status, gone.headers["HX-Refresh"], gone.body) == (401, "true", b"")


def test_webhooks_are_looked_after_on_their_page(fleet: Fleet, listener: Listener) -> None:
    server, admin = fleet.server, fleet.person("root")
    assert fleet.person("approver").get("/webhooks").status == 403
    fields = form_of(check(admin.get("/webhooks").body), "/webhooks")
    assert admin.post("/webhooks", **fields, url="file:///etc/passwd").status == 422
    made = admin.post("/webhooks", **fields, url=listener.url, about="windows")
    secret = check(made.body).find(".//pre").text
    again = admin.post("/webhooks", **fields, url=listener.url, about="windows")
    assert (again.status, again.body) == (303, b"")  # sent twice it is added once, and the secret is not told again
    (hook,) = server.get("/api/v1/webhooks")["items"]
    assert (hook["url"], hook["about"]) == (listener.url, ["windows"])
    listener.status = 500
    assert admin.post(f"/webhooks/{hook['id']}/test").status == 303
    assert tell(server.app.state.context)
    header, body = listener.taken[0]
    assert header == signature(secret, int(header.partition(",")[0].removeprefix("t=")), body)
    for language, told in (("en", "not taken"), ("de", "nicht angenommen")):
        page = admin.get("/webhooks", language).body
        text = " ".join("".join(check(page).itertext()).split())
        assert listener.url in text
        assert f"{told} status 500" in text
        assert secret not in page.decode()
    listener.status = 200
    server.clock.ahead += timedelta(seconds=3)
    assert tell(server.app.state.context)
    rows = [row[1:] for row in rows_of(check(admin.get("/webhooks").body))]
    assert rows == [["1", "taken"], ["1", "not taken status 500"]]
    assert admin.post(f"/webhooks/{hook['id']}/remove").status == 303
    assert admin.post(f"/webhooks/{hook['id']}/test").status == 404
    assert server.get("/api/v1/webhooks")["items"] == []


def test_an_approved_rollout_begins_by_itself_when_its_page_says_so(fleet: Fleet) -> None:
    person, server = fleet.person("operator"), fleet.server
    page = check(person.get(f"/rollouts/new?{PLAN}&previewed=yes").body)
    path = person.post("/rollouts", **form_of(page, "/rollouts")).headers["Location"].partition("?")[0]
    assert person.post(f"{path}/schedule", at="2027-01-01T03:00").status == 409  # nobody has approved it
    plan = server.get(f"/api/v1{path}")["plan"]
    server.post(f"/api/v1{path}/approve", {"plan": plan}, role="approver", status=200)
    ahead = (server.clock() + timedelta(hours=3)).strftime("%Y-%m-%dT%H:%M")
    assert person.post(f"{path}/schedule", at=ahead).status == 303
    assert check(person.get(path).body).find(".//input[@id='at']").get("value") == ahead
    assert "beginnt von selbst" in person.get(path, "de").body.decode()
    assert person.post(f"{path}/schedule", at="tomorrow").status == 422
    assert person.post(f"{path}/schedule", at="2020-01-01T03:00").status == 422
    assert person.post(f"{path}/schedule", at="").status == 303
    assert server.get(f"/api/v1{path}")["start_at"] is None
    person.post(f"{path}/stop", reason="enough")


def test_a_window_that_takes_a_word_gets_it_on_the_page(fleet: Fleet) -> None:
    server, person = fleet.server, fleet.person("operator")
    put = {"event_minutes": 30}
    assert server.call("PUT", "/api/v1/maintenance/configurations/asked", put, role="approver").status == 200
    now = server.clock()
    row = {"id": "ab" * 16, "configuration": "asked", "starts_at": now, "ends_at": now + timedelta(hours=2)}
    with server.database.write() as connection:
        connection.execute(sa.insert(window_events).values(asked_at=now, state="asked", **row))
    path = f"/maintenance/windows/{row['id']}/answer"
    assert person.get("/maintenance").body.decode().count(path) == 2
    for allow, state in (("yes", "allowed"), ("no", "denied")):
        assert person.post(path, allow=allow).status == 303
        assert [each["state"] for each in server.get("/api/v1/maintenance/windows")["items"]] == [state]
        assert person.get("/maintenance").body.decode().count(path) == 1
    assert fleet.person("viewer").get("/maintenance").body.decode().count(path) == 0
    assert f"{path.partition('/windows')[0]}#asked" not in person.get("/").body.decode()  # it has its word
    with server.database.write() as connection:
        connection.execute(sa.update(window_events).values(state="asked"))
    assert "/maintenance#asked" in person.get("/").body.decode()
    server.clock.ahead += timedelta(hours=3)
    assert close(server.app.state.context) == 1
    for language in ("en", "de"):
        shown = check(person.get("/maintenance", language).body)
        assert len(shown.findall(".//section[@aria-labelledby='over']//tbody/tr")) == 1


def test_a_restart_slot_is_freed_on_the_page(fleet: Fleet) -> None:
    person, server, machine = fleet.person("operator"), fleet.server, fleet.machines["web-2"]
    now = server.clock()
    row = {"machine_id": machine.id, "pool": "nights", "taken_at": now, "expires_at": now + timedelta(minutes=30)}
    with server.database.write() as connection:
        connection.execute(sa.insert(slots).values(row))
    assert f"/maintenance/slots/{machine.id}/free" in person.get("/maintenance").body.decode()
    check(person.get("/maintenance", "de").body)
    assert person.post(f"/maintenance/slots/{machine.id}/free").status == 303
    assert server.get("/api/v1/maintenance/slots")["items"] == []
    assert person.post(f"/maintenance/slots/{machine.id}/free").status == 404


def test_an_event_around_a_ring_is_answered_on_its_page(fleet: Fleet) -> None:
    person, server = fleet.person("operator"), fleet.server
    page = check(person.get(f"/rollouts/new?{PLAN}&before=60&lane=zero-day&previewed=yes").body)
    made = person.post("/rollouts", **form_of(page, "/rollouts"))
    path = made.headers["Location"].partition("?")[0]
    plan = server.get(f"/api/v1{path}")["plan"]
    for role in ("approver", "admin"):
        server.post(f"/api/v1{path}/approve", {"plan": plan}, role=role, status=200)
    server.post(f"/api/v1{path}/start", status=200)
    for _ in range(3):
        steering.step(server.app.state.context, path.rpartition("/")[2])
    tree = check(person.get(path).body)
    action = f"{path}/groups/0/events/pre"
    assert [each.get("action") for each in tree.iter("form") if each.get("action") == action] == [action]
    assert fleet.person("viewer").post(action, allow="yes").status == 403
    assert person.post(action, allow="yes", reason="the night shift is there").status == 303
    assert person.post(action, allow="yes").status == 409
    german = person.get(path, "de").body.decode()
    assert "vor dem Ring erlaubt" in german
