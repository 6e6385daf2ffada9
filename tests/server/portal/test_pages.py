"""Pages of the portal: complete in both languages, well formed, and for those alone who may."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import html5lib
import msgspec
import pytest
from babel.messages.pofile import read_po

from hotmend.server.compliance import daily
from hotmend.server.identity.service import begin_setup
from hotmend.server.machines import contact, service
from hotmend.server.portal.kept import Kept
from hotmend.server.portal.language import TOLD
from hotmend.server.portal.visit import ERRORS
from tests.server.fleet import wanted
from tests.server.machine import Simple, host, report
from tests.server.portal.conftest import FORM, Fleet, Person
from tests.server.portal.texts import SERVER, problem_codes, texts
from tests.server.running import PASSWORD, Running, running

OCTOBER = datetime(2025, 10, 27, 12, tzinfo=UTC)
RING = ("ring", "by", "value")
REFERENCE = SERVER.parent / "reference" / "locale" / "de.po"
GERMAN = SERVER / "portal" / "locale" / "de.po"


def paths(fleet: Fleet) -> list[str]:
    """Return all pages that a viewer may see, with something on them."""
    web, database = fleet.machines["web-1"].id, fleet.machines["db-1"].id
    tabs = ("", "?tab=updates", "?tab=compliance", "?tab=history", "?tab=issues")
    machines = [f"/machines/{each}{tab}" for each in (web, database, fleet.windows) for tab in tabs]
    lists = ("", "?line=off", "?due=restart", "?name=WEB&tag=set%3Dweb", "?cve=CVE-2026-0002", "?unseen=yes&state=left")
    return [
        "/",
        *(f"/machines{query}" for query in lists),
        *machines,
        "/rollouts",
        "/maintenance",
        "/maintenance/configuration?name=nights",
        "/scopes",
        "/account",
        "/compliance",
        *(f"/compliance?by={by}" for by in ("product", "package", "tag", "machine", "time", "exposure")),
        "/issues",
        "/calendar",
    ]


def operator_paths(fleet: Fleet) -> list[str]:
    installs = [f"/machines/{fleet.machines['web-1'].id}/install?previewed=yes&exclude=nginx*&restart=yes"]
    return [
        *installs,
        f"/machines/{fleet.windows}/install",
        "/audit",
        "/keys",
        "/compliance/evidence?tag=set%3Dweb",
        f"/rollouts/new?{PLAN}&previewed=yes",
        "/maintenance/assignment?configuration=nights&to=tag&tag=set%3Dweb&priority=7",
    ]


PLAN = urlencode(
    [
        ("name", "December"),
        ("updates", "openssl=3.0.17-1~deb12u4"),
        *(
            pair
            for ring in (("canary", "percent", "40"), ("rest", "rest", ""))
            for pair in zip(RING, ring, strict=True)
        ),
    ]
)


def check(body: bytes) -> Any:
    """Return a page's tree; it must be well formed, with nothing that the CSP forbids or that is of elsewhere."""
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    tree = parser.parse(body, transport_encoding="utf-8")
    ids = [each.get("id") for each in tree.iter() if each.get("id")]
    assert len(ids) == len(set(ids)), sorted(ids)
    assert len(tree.findall(".//h1")) == 1
    for each in tree.iter():
        assert each.tag != "style"
        assert each.tag != "script" or (each.get("src", "").startswith("/static/") and not each.text)
        assert not [name for name in each.attrib if name == "style" or name.startswith("on")]
        for name in ("href", "src", "action", "formaction"):
            assert not re.match(r"(?i)\w+:|//", each.get(name) or ""), each.get(name)
        if each.tag in ("input", "select", "textarea") and each.get("type") != "hidden":
            assert tree.findall(f".//label[@for='{each.get('id')}']"), each.get("name")
        if (
            each.tag == "form"
            and each.get("method") == "post"
            and each.get("action") not in ("/sign-in", "/set-up", "/language")
        ):
            assert each.findall(".//input[@name='csrf']"), each.get("action")
    return tree


@pytest.mark.parametrize("language", ["en", "de"])
def test_every_page_is_there_in_both_languages(fleet: Fleet, language: str) -> None:
    person = fleet.person("operator")
    for path in (*paths(fleet), *operator_paths(fleet)):
        reply = person.get(path, language)
        assert reply.status == 200, (path, reply.body)
        tree = check(reply.body)
        assert tree.get("lang") == language
        assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
        assert "unsafe" not in reply.headers["Content-Security-Policy"]
        assert reply.headers["Cache-Control"] == "no-store"


def test_no_text_is_missing_in_german() -> None:
    with REFERENCE.open("rb") as of_rules, GERMAN.open("rb") as own:
        rules = {str(entry.id) for entry in read_po(of_rules, locale="de") if entry.id}
        translated = {str(entry.id): str(entry.string) for entry in read_po(own, locale="de") if entry.id}
    assert texts() - rules == translated.keys() - rules
    places = re.compile(r"{\w+}")
    wrong = [t for t, german in translated.items() if sorted(places.findall(t)) != sorted(places.findall(german))]
    assert wrong == []
    assert [text for text, german in translated.items() if not german] == []


def test_every_problem_has_a_text_in_the_portal() -> None:
    codes = set(problem_codes())
    of_agents = {
        "clock",
        "cut-off",
        "key-taken",
        "method",
        "not-this-key",
        "not-this-machine",
        "registration-key",
        "replayed",
        "signature",
        "not-signed",
        "suspect",
        "wire-version",
    }
    of_the_api = {"audit-wrong", "not-authenticated", "hotpatch-off", "body"}
    assert len(codes) > 40
    assert codes - ERRORS.keys() - of_agents - of_the_api == set()


def test_what_the_server_writes_into_rows_is_told_in_german(fleet: Fleet) -> None:
    assert {*service._WAITS.values(), service._APPROVAL, *contact.SUSPECT.values()} <= set(TOLD)
    page = fleet.person("viewer").get(f"/machines/{fleet.machines['new-1'].id}", "de").body.decode()
    assert "ihr Registrierungsschlüssel verlangt eine Freigabe" in page or "aktiv" in page


def test_a_german_page_says_nothing_in_english(fleet: Fleet) -> None:
    person = fleet.person("operator")
    with GERMAN.open("rb") as own:
        told = {str(e.id) for e in read_po(own, locale="de") if " " in str(e.id) and str(e.id) != str(e.string)}
    for path in (*paths(fleet), *operator_paths(fleet)):
        tree = check(person.get(path, "de").body)
        shown = {" ".join((text or "").split()) for text in _german(tree)}
        assert not shown & told, path


def _german(element: Any) -> list[str]:
    if element.get("lang") == "en" or element.tag == "code":
        return []
    found = [element.text or ""]
    for each in element:
        found += [*_german(each), each.tail or ""]
    return found


def test_the_german_words_are_those_of_the_portal_that_people_know(fleet: Fleet) -> None:
    page = fleet.person("operator").get(f"/machines/{fleet.machines['web-1'].id}", "de").body.decode()
    for word in (
        "Empfohlene Updates",
        "Updatecompliance",
        "Updateverlauf",
        "Jetzt bewerten",
        "Updates jetzt installieren",
    ):
        assert word in page


def test_who_has_not_signed_in_is_led_there_and_back(fleet: Fleet) -> None:
    nobody = Person(fleet.server)
    for path in (*paths(fleet), *operator_paths(fleet)):
        reply = nobody.get(path)
        assert reply.status == 303, path
        assert reply.headers["Location"].startswith("/sign-in"), path
    assert nobody.post("/brake", halt="yes").status == 303
    assert check(nobody.get("/sign-in").body) is not None
    reply = nobody.post("/sign-in", name="root", password="wrong password", next="/calendar")
    assert (reply.status, b"Not known" in reply.body) == (403, True)
    reply = nobody.post("/sign-in", name="root", password=PASSWORD, next="/calendar")
    assert (reply.status, reply.headers["Location"]) == (303, "/calendar")
    cookie = reply.headers["Set-Cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    for elsewhere in ("https://evil.example/", "//evil.example", "/\\evil.example"):
        reply = Person(fleet.server).post("/sign-in", name="root", password=PASSWORD, next=elsewhere)
        assert reply.headers["Location"] == "/"


def test_a_role_that_is_not_enough_is_refused(fleet: Fleet) -> None:
    viewer, operator = fleet.person("viewer"), fleet.person("operator")
    machine = fleet.machines["web-1"].id
    planned = len(fleet.server.get(f"/api/v1/machines/{machine}/actions")["items"])
    for path in operator_paths(fleet):
        reply = viewer.get(path)
        assert reply.status == 403, path
        check(reply.body)
    version = str(fleet.server.get(f"/api/v1/machines/{machine}")["machine"]["version"])
    for person, path, fields in (
        (viewer, f"/machines/{machine}/actions", {"kind": "assess"}),
        (viewer, f"/machines/{machine}/tags", {"version": version}),
        (viewer, "/brake", {"halt": "yes"}),
        (operator, f"/machines/{machine}/offboard", {"version": version}),
        (operator, f"/machines/{machine}/approve", {"version": version}),
    ):
        assert person.post(path, **fields).status == 403, path
    assert "Audit" not in viewer.get("/").body.decode()
    assert len(fleet.server.get(f"/api/v1/machines/{machine}/actions")["items"]) == planned


def test_a_form_of_another_site_or_session_does_nothing(fleet: Fleet) -> None:
    person, other = fleet.person("operator"), fleet.person("operator")
    path = f"/machines/{fleet.machines['web-1'].id}/actions"
    planned = len(fleet.server.get(f"/api/v1{path}"))
    own, person.csrf = person.csrf, other.csrf
    assert person.post(path, kind="assess").status == 403
    person.csrf = ""
    assert person.post(path, kind="assess").status == 403
    headers = person._headers("en") | FORM | {"Sec-Fetch-Site": "cross-site"}
    reply = fleet.server.call("POST", path, f"csrf={own}&kind=assess".encode(), role=None, headers=headers)
    assert reply.status == 403
    reply = fleet.server.call(
        "POST",
        "/sign-in",
        f"name=root&password={PASSWORD}".encode(),
        role=None,
        headers=FORM | {"Sec-Fetch-Site": "cross-site"},
    )
    assert (reply.status, "Set-Cookie" in reply.headers) == (403, False)
    assert len(fleet.server.get(f"/api/v1{path}")) == planned


def test_what_a_machine_says_is_text_alone(fleet: Fleet) -> None:
    page = fleet.person("viewer").get(f"/machines/{fleet.machines['db-1'].id}").body
    assert b"nothing comes for &lt;libssl3&gt;" in page


def test_updates_that_wait_for_a_person_are_to_be_decided(fleet: Fleet) -> None:
    machine, person = fleet.machines["web-2"], fleet.person("viewer")
    fleet.server.app.state.figures = Kept(lambda: 0.0)  # on a slow machine figures are kept for a while

    def asked(mode: str, *waiting: str) -> tuple[int, bool]:
        machine.check_in(report=report(waiting=waiting, mode=mode))
        told = re.search(rb"Machines whose updates wait for a person: (\d+)", person.get("/").body)
        listed = machine.id.encode() in person.get("/machines?due=asking").body
        return int(told[1]) if told else 0, listed

    none, listed = asked("automatic", "openssl=4")
    assert not listed
    for mode in ("notify", "download", "observe"):
        assert asked(mode, "openssl=4") == (none + 1, True), mode
        assert asked(mode) == (none, False), mode


def test_an_installation_is_asked_for_with_its_forecast_seen(fleet: Fleet) -> None:
    person, machine = fleet.person("operator"), fleet.machines["web-2"]
    machine.check_in(report=report(waiting=("openssl=4", "nginx=5")))
    page = check(person.get(f"/machines/{machine.id}/install?previewed=yes&exclude=nginx*&restart=yes").body)
    form = next(each for each in page.findall(".//form") if each.findall(".//input[@name='forecast']"))
    fields = {each.get("name"): each.get("value") for each in form.findall(".//input[@type='hidden']")}
    assert fields["update"] == "openssl=4"
    assert "reboot" not in fields  # as the policy has it
    assert person.post(form.get("action"), **(fields | {"forecast": "0" * 32})).status == 412
    reply = person.post(form.get("action"), **fields, reboot="never", reason="CVE of today")
    assert reply.status == 303
    action = fleet.server.get(f"/api/v1/machines/{machine.id}/actions")["items"][0]
    assert (action["kind"], action["updates"], action["reason"]) == ("install", ["openssl=4"], "CVE of today")
    assert [(order.id, order.reboot) for order in machine.check_in().orders] == [(action["id"], "never")]
    told = person.get(reply.headers["Location"])
    assert b'role="status"' in told.body
    shown = check(person.get(f"/machines/{machine.id}/actions/{action['id']}").body)
    assert not [each for each in shown.iter("form") if each.get("action", "").endswith("/cancel")]


def test_an_assessment_can_be_canceled_until_the_machine_is_told(fleet: Fleet) -> None:
    person, machine = fleet.person("operator"), fleet.machines["db-1"]
    assert person.post(f"/machines/{machine.id}/actions", kind="assess").status == 303
    action = fleet.server.get(f"/api/v1/machines/{machine.id}/actions")["items"][0]["id"]
    check(person.get(f"/machines/{machine.id}/actions/{action}").body)
    assert person.post(f"/machines/{machine.id}/actions/{action}/cancel").status == 303
    assert machine.check_in().orders == ()
    assert person.post(f"/machines/{machine.id}/actions/{action}/cancel").status == 409


def test_what_was_installed_is_taken_back_at_once(fleet: Fleet) -> None:
    person, machine = fleet.person("operator"), fleet.machines["web-2"]
    path = f"/machines/{machine.id}/actions"
    assert person.post(path, kind="revert", update="openssl=4", emergency="yes", reason="it crashes").status == 303
    assert person.post(path, kind="quarantine", update="openssl=4").status == 303
    assert person.post(path, kind="assess", emergency="yes").status == 422
    orders = {order.kind.value: order for order in machine.check_in().orders}
    assert (orders["revert"].emergency, orders["revert"].updates) == (True, ("openssl=4",))
    assert orders["quarantine"].updates == ("openssl=4",)


def test_a_key_is_made_and_its_script_shown_once(fleet: Fleet) -> None:
    person = fleet.person("operator")
    reply = person.post("/keys", name="night", tags="set=night", hours="1", uses="1", approval="yes")
    check(reply.body)
    assert (reply.status, reply.headers["Cache-Control"]) == (200, "no-store")
    secret = re.search(r"hmk_[\w-]+", reply.body.decode())
    assert secret is not None
    made = Simple(fleet.server, "night-1", host("night-1"))
    assert not made.enrol(secret[0]).approved
    page = person.get("/keys").body.decode()
    assert secret[0] not in page
    assert "used up" in page
    assert person.post("/keys", name="x", tags="Bad Tag=1").status == 422
    assert fleet.person("viewer").post("/keys", name="x").status == 403
    person.post("/keys", name="to end")
    key = next(
        each["id"] for each in fleet.server.get("/api/v1/registration-keys")["items"] if each["name"] == "to end"
    )
    assert person.post(f"/keys/{key}/revoke").status == 303
    assert person.post(f"/keys/{key}/revoke").status == 404


def test_history_is_given_as_files(fleet: Fleet) -> None:
    person = fleet.person("viewer")
    rows = msgspec.json.decode(person.get(f"/machines/{fleet.windows}/history.json").body)
    lines = person.get(f"/machines/{fleet.windows}/history.csv").body.decode().splitlines()
    assert len(rows) == len(lines) - 1 > 0
    assert person.get(f"/machines/{fleet.windows}/history.exe").status == 422


def test_compliance_counts_what_machines_report(fleet: Fleet) -> None:
    person = fleet.person("viewer")
    rows = {each["cve"]: each for each in msgspec.json.decode(person.get("/compliance/vulnerabilities.json").body)}
    assert (rows["CVE-2026-0003"]["nowhere"], rows["CVE-2026-0003"]["in_memory"]) == (1, 0)
    assert rows["CVE-2026-0001"]["in_memory"] >= 2
    of_one = msgspec.json.decode(person.get("/compliance/vulnerabilities.json?name=db-1").body)
    assert [each["cve"] for each in of_one] == ["CVE-2026-0003"]
    lines = person.get("/compliance/vulnerabilities.csv?tag=set%3Dnone").body.decode().splitlines()
    assert lines == ["cve,open,in_memory,everywhere,on_disk,nowhere,since"]


def test_a_known_issue_names_the_machines_that_it_concerns(fleet: Fleet) -> None:
    server = fleet.server
    was = server.clock.ahead
    server.clock.go_to(OCTOBER)
    try:
        person = Person(server)
        person.sign_in("viewer")
        daily.take(server.app.state.context)
        page = person.get("/issues", "de").body.decode()
    finally:
        server.clock.ahead = was
    assert "october-2-right" in page
    assert "Problemumgehung" in page


def test_known_issues_are_counted_over_the_whole_fleet(fleet: Fleet) -> None:
    server = fleet.server
    was = server.clock.ahead
    server.clock.go_to(OCTOBER)
    try:
        daily.take(server.app.state.context)
        viewer = Person(server)
        viewer.sign_in("viewer")
        tree = check(viewer.get("/issues").body)
        only = check(viewer.get("/issues?issue=october-2025-licence").body)
    finally:
        server.clock.ahead = was
    section = next(each for each in tree.iter("section") if each.get("aria-labelledby") == "october-2025-licence")
    tiles = ["".join(each.itertext()).split() for each in section.findall(".//ul[@class='tiles']/li")]
    machines = [each.text for each in section.findall(".//tbody/tr/th/a")]
    assert [int(each[0]) for each in tiles] == [len(machines), 0, 0, 0]
    assert "october-2-right" in machines
    assert [each.get("aria-labelledby") for each in only.findall(".//section")] == ["october-2025-licence"]
    assert "0 of 4 steps proven" in " ".join(" ".join(section.itertext()).split())


def test_approval_tags_and_brake(fleet: Fleet) -> None:
    approver, operator, machine = fleet.person("approver"), fleet.person("operator"), fleet.machines["new-1"]
    version = str(fleet.server.get(f"/api/v1/machines/{machine.id}")["machine"]["version"])
    assert approver.post(f"/machines/{machine.id}/approve", version="999").status == 412
    assert approver.post(f"/machines/{machine.id}/approve", version=version).status == 303
    assert machine.state() == "active"
    version = str(int(version) + 1)
    assert operator.post(f"/machines/{machine.id}/tags", version=version, tags="Bad Name=x").status == 422
    assert (
        operator.post(f"/machines/{machine.id}/tags", version=version, tags="ring=first\r\nsite=ulm\r\n").status == 303
    )
    assert fleet.server.get(f"/api/v1/machines/{machine.id}")["machine"]["tags"] == {"ring": "first", "site": "ulm"}
    assert operator.post("/brake", halt="yes", reason="something crashes").status == 303
    assert machine.check_in().halted == "something crashes"
    assert "something crashes" in operator.get("/").body.decode()
    assert operator.post("/brake").status == 303
    assert machine.check_in().halted == ""


def test_a_rollout_is_approved_and_stopped_from_its_page(fleet: Fleet) -> None:
    made = fleet.server.post(
        "/api/v1/rollouts",
        wanted(name="October", lane="normal", rings=[{"name": "canary", "percent": 40}, {"name": "rest"}]),
    )
    approver, page = fleet.person("approver"), f"/rollouts/{made['id']}"
    for language in ("en", "de"):
        tree = check(approver.get(page, language).body)
    plan = tree.find(".//input[@name='plan']").get("value")
    assert approver.post(f"{page}/approve", plan="0" * 64).status == 409
    assert fleet.person("operator").post(f"{page}/approve", plan=plan).status == 403
    assert approver.post(f"{page}/approve", plan=plan).status == 303
    assert approver.post(f"{page}/stop", reason="enough").status == 303
    assert b"enough" in approver.get(page).body
    assert approver.post(f"{page}/start").status == 409


def test_the_audit_record_is_paged_and_verified(fleet: Fleet) -> None:
    operator, admin = fleet.person("operator"), fleet.person("root")
    first = operator.get("/audit").body.decode()
    after = re.search(r'rel="next" href="/audit\?after=(\d+)"', first)
    if after is not None:
        check(operator.get(f"/audit?after={after[1]}").body)
    assert operator.get("/audit?after=abc").status == 400
    assert "Rows that follow from each other" in admin.get("/audit?verify=yes").body.decode()
    assert "Rows that follow from each other" not in operator.get("/audit?verify=yes").body.decode()


def test_the_first_administrator_is_made_with_the_servers_token(sqlite_url: str) -> None:
    with running(sqlite_url) as server:
        person = Person(server)
        assert b"/set-up" in person.get("/sign-in").body
        check(person.get("/sign-in").body)
        token = begin_setup(server.database, server.clock())
        assert token is not None
        assert person.post("/set-up", token="hms_guessed", name="ann", password=PASSWORD).status == 403
        assert person.post("/set-up", token=token, name="ann", password="short").status == 422
        done = person.post("/set-up", token=token, name="ann", password=PASSWORD)
        secret = re.search(r"hm_[\w-]+", done.body.decode())
        assert secret is not None
        assert person.get("/").status == 200
        with_token = Person(server)
        assert with_token.post("/sign-in", token=secret[0]).status == 303
        server.tokens["admin"] = secret[0]
        less = server.post("/api/v1/tokens", {"name": "less", "role": "viewer"})["secret"]
        assert Person(server).post("/sign-in", token=less).status == 403
        own = next(each["id"] for each in server.get("/api/v1/tokens")["items"] if each["name"] == "first")
        assert server.call("DELETE", f"/api/v1/tokens/{own}").status == 204
        assert with_token.get("/").status == 303
        assert person.post("/sign-in", name="ann", password=PASSWORD).status == 303
        person.learn()
        assert person.post("/sign-out").status == 303
        assert person.get("/").status == 303


def test_signing_in_is_tried_so_often_alone(sqlite_url: str) -> None:
    with running(sqlite_url) as server:
        server.set_up()
        tried = [Person(server).post("/sign-in", name="root", password="wrong password").status for _ in range(60)]
        assert tried[:20] == [403] * 20
        assert 429 in tried  # a slow machine lets some more pass: a try comes back each three seconds


def test_the_language_that_is_chosen_stays(fleet: Fleet) -> None:
    person = fleet.person("viewer")
    assert person.post("/language", chosen="de", next="/calendar").headers["Location"] == "/calendar"
    assert check(person.get("/calendar", "en").body).get("lang") == "de"


def test_static_files_are_the_servers_own(server: Running) -> None:
    reply = server.call("GET", "/static/portal.css", role=None)
    assert (reply.status, reply.headers["Content-Type"].partition(";")[0]) == (200, "text/css")
    assert not re.search(rb"(?i)@import|url\(|https?://", reply.body)
    assert server.call("GET", "/static/../pages.py", role=None).status == 404
