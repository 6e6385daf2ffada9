"""docs/traceability.md: the lines about the portal, each with a page of a real server and what it shows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from hotmend.repository.catalogue import catalogue
from hotmend.repository.client import trust
from hotmend.repository.layout import Tier
from hotmend.server.releases.following import Followed, follow
from hotmend.wire.evidence import verified
from tests.repository.kit import CHANNEL, World
from tests.server.machine import Simple, host
from tests.server.portal.conftest import CASES, Person, filled
from tests.server.portal.test_pages import PLAN, check
from tests.server.running import Running, running
from tests.traceability import ROOT, Row, ran, stands, table

PAGE = ROOT / "docs" / "traceability.md"
DAY = datetime(2025, 10, 27, 12, tzinfo=UTC)
"""On which the machines of the page are looked at: what is due and avoided goes by the day."""


def test_the_page_has_what_the_portal_shows(templates: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "portal.db"
    file.write_bytes(Path(templates["sqlite"]).read_bytes())
    with running(f"sqlite:///{file}") as server:
        server.clock.ahead = DAY - datetime.now(UTC)
        server.set_up()
        rows = [*_rows(server), *_fleet_rows(server, tmp_path)]
    assert stands(PAGE, "portal", table(rows)), "the page was out of date and is written anew: read what changed"


def _rows(server: Running) -> Iterator[Row]:
    fleet = filled(server)
    person = Person(server)
    person.sign_in("operator")
    linux = fleet.machines["web-1"]
    windows = {each["name"]: each["id"] for each in server.get("/api/v1/machines?platform=windows")["items"]}
    right, other = windows["october-2-right"], windows["other-updates"]
    overview = _text(person, "/")
    yield Row("S6", "Counts of a whole fleet", "/", _found(overview, r"\d+ machines .*?(?= Needs)"))
    page = person.post("/keys", name="night", uses="1").body.decode()
    secret = re.search(r"hmk_[\w-]+", page)
    assert secret is not None
    joined = Simple(server, "night-1", host("night-1")).enrol(secret[0])
    shown = (
        f"the script has `hotmend enroll URL --server-key KEY`: {'hotmend enroll' in page}; approved: {joined.approved}"
    )
    yield Row("S17", "Enrolling with a key from a portal of one's own", "/keys", shown)
    history = _text(person, f"/machines/{right}?tab=history", "de")
    hotpatches = ", ".join(re.findall(r"Hotpatch (KB\d+)", history))
    yield Row("S23", "Hotpatches in the update history", "/machines/ID?tab=history", f"Updateverlauf: {hotpatches}")
    calendar = check(person.get("/calendar").body)
    yield Row(
        "S28", "The calendar", "/calendar", f"{len(calendar.findall('.//tbody/tr'))} releases of the first channel"
    )
    german = _text(person, f"/machines/{right}", "de")
    status = _found(german, r"Patch-Status .*?(?= Letzte Bewertung)")
    yield Row("S38", "The machine's page in a portal, Windows", "/machines/ID", status)
    status = _found(_text(person, f"/machines/{linux.id}", "de"), r"Patch-Status .*?(?= Letzte Bewertung)")
    buttons = [
        word
        for word in ("Jetzt bewerten", "Updates jetzt installieren")
        if word in _text(person, f"/machines/{linux.id}", "de")
    ]
    yield Row("S38", "The same, Debian", "/machines/ID", f"{status}; {', '.join(buttons)}")
    updates = _text(person, f"/machines/{other}?tab=updates")
    listed = ", ".join(re.findall(r"Updates of class [\w ]+ are listed, not installed", updates))
    yield Row("S39", "Other classes are listed", "/machines/ID?tab=updates", listed)
    lines = person.get(f"/machines/{right}/history.csv").body.decode().splitlines()
    yield Row("S40", "History as a file", "/machines/ID/history.csv", f"{len(lines) - 1} lines below {lines[0]}")
    assert person.post(f"/machines/{linux.id}/actions", kind="assess").status == 303
    orders = [order.kind.value for order in linux.check_in().orders]
    yield Row(
        "S41-S42", "Assess now", "/machines/ID: Assess now", f"handed out at the next check-in: {', '.join(orders)}"
    )
    install = _text(
        person, f"/machines/{linux.id}/install?previewed=yes&include=nginx*+openssl*&exclude=nginx*&restart=yes"
    )
    found = _found(install, r"Installing now is not availability-first")
    chosen = _found(install, r"Updates that would be installed: \d+")
    yield Row("S43", "The forecast before an installation; excludes win", "/machines/ID/install", f"{found}; {chosen}")
    server.clock.ahead += timedelta(seconds=1)


def _fleet_rows(server: Running, folder: Path) -> Iterator[Row]:
    """Yield what pages show of the whole fleet: exposure, rollouts to be, windows, known issues, releases, evidence."""
    person = Person(server)
    person.sign_in("operator")
    exposed = check(person.get("/compliance?by=exposure").body)
    october = next(row for row in _rows_of(exposed) if row[0] == "KB5066835")
    rid = f"the last of {october[7]} machines {october[5]}: {october[6]} d"
    shown = f"KB5066835 {october[1]}: published {october[2]}, {rid}"
    yield Row("S5", "From publication to installation, over the fleet", "/compliance?by=exposure", shown)
    days = _found(_text(person, "/compliance?by=time"), r"27 October 2025 12:\d\d \+0000 .*").partition("+0000 ")[2]
    told = "machines, silent, with old code, open vulnerabilities, old and fixed images"
    yield Row("S5", "Day by day, as it was measured", "/compliance?by=time", f"{told}: {days}")
    document = server.get("/api/v1/compliance/vex")
    counted = Counter(each["status"] for each in document["statements"])
    states = ", ".join(f"{name} {count}" for name, count in sorted(counted.items()))
    yield Row("S5", "The same as scanners read it", "GET /api/v1/compliance/vex", f"OpenVEX 0.2.0: {states}")
    world = World(folder / "world").make_keys().found().fill().promote()
    trust(folder / "client", world.first_root)
    source = str(world.mirror)
    look = lambda: catalogue(source, folder / "client", CHANNEL, Tier.STABLE)  # noqa: E731
    assert follow(server.app.state.context, Followed(CHANNEL, "stable", "a mirror", look)) == ""
    calendar = check(person.get("/calendar").body)
    listed = [f"{row[1]}: {row[2]}" for row in _rows_of(calendar)]
    yield Row("S28", "Releases of a signed channel that the server follows", "/calendar", "; ".join(listed))
    windows = check(person.get("/maintenance/configuration?name=nights").body).findall(".//section//time")
    first = " to ".join(each.get("datetime") for each in windows[:2])
    yield Row("S31", "Windows of a configuration, in the zone of its machines", "/maintenance/configuration", first)
    preview = check(person.get(f"/rollouts/new?{PLAN}&lane=zero-day&previewed=yes").body)
    rings = ", ".join(f"ring {row[0]}: {row[1]} machines" for row in _rows_of(preview))
    yield Row("S32", "What a rollout would do, before it is made", "/rollouts/new", rings)
    issue = _text(person, "/issues")
    shown = _found(issue, r"Since October 2025 the licence.*?deadline over")
    proof = _found(issue, r"\d of \d steps proven")
    yield Row("S47-S50", "Known issues over the whole fleet", "/issues", f"{shown}; {proof}")
    evidence = folder / "evidence.json"
    evidence.write_bytes(server.call("POST", "/api/v1/compliance/evidence").body)
    key = server.get("/api/v1/compliance/evidence-key")["key"]
    codes = [ran("fleet", "evidence", "verify", str(evidence), "--key", each).code for each in (key, "0" * 64)]
    found = verified(evidence.read_bytes(), key)
    assert found is not None
    shown = f"exit code {codes[0]}; {len(found.machines)} machines, {len(found.exposures)} exposures"
    yield Row(
        "S40",
        "Evidence without an expiry, checked without the server",
        "hotmend fleet evidence verify FILE --key KEY",
        f"{shown}; with another key: exit code {codes[1]}",
    )
    yield from _program_rows(server, person)


def _program_rows(server: Running, person: Person) -> Iterator[Row]:
    """Yield what pages show of the lines about one machine, for machines of a fleet whose facts came to the server."""
    overview = _text(person, "/")
    yield Row("S20-S22", "Enrollment over the fleet", "/", _found(overview, r"Enrollment enabled \d+.*?(?= Exposure)"))
    waiting = _found(overview, r"Machines whose updates wait for a person: \d+")
    yield Row("S37", "Offered, and a person has to decide", "/", waiting)
    page = _uploaded(server, person, "azure-edition-2025")
    yield Row("S18", "Azure Edition: on, with its prerequisites", "/machines/ID", _status(page))
    page = _uploaded(server, person, "subscription-ended")
    yield Row("S19", "A subscription that ended", "/machines/ID", f"{_status(page)}; {_because(page)}")
    page = _uploaded(server, person, "vsm-off")
    yield Row("S20", "A prerequisite is missing", "/machines/ID", f"{_status(page)}; {_because(page)}")
    page = _uploaded(server, person, "pending-2-hours")
    yield Row("S21", "Pending for longer than it takes", "/machines/ID", f"{_status(page)}; {_because(page)}")
    page = _uploaded(server, person, "october-2-right")
    coming = _found(page, r"the next hotpatch comes on [\w ]+")
    yield Row("S22", "Enabled and nothing offered: the next date", "/machines/ID", f"{_status(page)}; {coming}")
    calendar = _text(person, "/calendar?channel=Windows+Server+2025")
    yield Row(
        "S24-S25",
        "What comes next, of each channel",
        "/calendar",
        _found(calendar, r"(?<=Coming ).*?(?= Newest | Channel)"),
    )
    unplanned = len(
        re.findall("unplanned baseline", _text(person, "/calendar?channel=Windows+Server+2022+Azure+Edition"))
    )
    yield Row(
        "S26", "Unplanned baselines of a channel", "/calendar", f"{unplanned} of Windows Server 2022 Azure Edition"
    )
    page = _uploaded(server, person, "scale-set-uniform")
    yield Row("S34", "A Uniform scale set is refused", "/machines/ID", f"{_status(page)}; {_because(page)}")
    page = _uploaded(server, person, "managed-elsewhere")
    others = _found(page, r"(?<=Also managed by ).*?(?= Restarts avoided)")
    yield Row("S35-S36", "Who else manages updates is reported", "/machines/ID", others)
    facts = msgspec.json.decode((CASES / "october-1-before.json").read_bytes())
    facts["offered"] = [
        {"id": each, "title": each, "classification": "Security Updates", "needs_reboot": True}
        for each in ("KB5070881", "KB5070893")
    ]
    page = _uploaded(server, person, "october-1-before", "?tab=updates", msgspec.json.encode(facts))
    verdicts = ", ".join(
        " ".join(each) for each in re.findall(r"(KB\d+) KB\d+ Security Updates yes ([a-z ]+?) [A-Z]", page)
    )
    yield Row("S46", "Before it is installed: what each update does to the line", "/machines/ID?tab=updates", verdicts)
    page = _uploaded(server, person, "october-3-left")
    yield Row("S46", "After it", "/machines/ID", f"{_status(page)}; {_because(page)}")
    page = _uploaded(server, person, "october-2-right")
    forecast = _found(page, r"Forecast Up to .*?(?= Not as it should be)")
    without, _, with_it = forecast.partition(" With a workaround ")
    days = [", ".join(re.findall(r"reboot (\d+ \w+ \d{4}):", each)) for each in (without, with_it)]
    yield Row("S50", "Reboots with and without the workaround", "/machines/ID", f"without: {days[0]}; with: {days[1]}")


def _uploaded(server: Running, person: Person, case: str, tab: str = "", facts: bytes = b"") -> str:
    """Send a machine's facts to the server, and return what its page shows."""
    reply = server.call("PUT", f"/api/v1/facts/{case}", facts or (CASES / f"{case}.json").read_bytes())
    assert reply.status == 200, reply.body
    return _text(person, f"/machines/{reply.json()['machine']['id']}{tab}")


def _status(page: str) -> str:
    return _found(page, r"Hotpatch status .*?(?= Update level)")


def _because(page: str) -> str:
    return _found(page, r"(?<= Why ).*?(?= Forecast )")


def _rows_of(tree: Any) -> list[list[str]]:
    """Return the text of each cell of a page's table."""
    return [[" ".join(" ".join(cell.itertext()).split()) for cell in row] for row in tree.findall(".//tbody/tr")]


def _text(person: Person, path: str, language: str = "en") -> str:
    return " ".join(" ".join(check(person.get(path, language).body).find(".//main").itertext()).split())


def _found(text: str, pattern: str) -> str:
    found = re.search(pattern, text)
    assert found is not None, (pattern, text)
    return found[0]
