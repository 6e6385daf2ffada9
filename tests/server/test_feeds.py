"""Feeds, read by parsers that hotmend does not use for them; tokens for feeds are good for nothing else."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import feedparser
import msgspec
from dateutil.rrule import rrulestr
from icalendar import Calendar

from hotmend.server.releases import store
from hotmend.wire.catalogue import Offered
from tests.server.running import Running
from tests.server.typed import Typed

ICS, ATOM = "/api/v1/feeds/calendar.ics", "/api/v1/feeds/releases.atom"
MAINTENANCE = "/api/v1/maintenance"


def _follow(server: Running) -> None:
    """Have a release of a channel there, as if the channel was followed."""
    now = server.clock()
    offered = Offered(
        "2026-11-hp1", "hotpatch", "openssl <fix> & more", now, "security", "high", "b1", [], [], [], None
    )
    with server.database.write() as connection:
        store.put_channel(connection, "bookworm", "stable", {"source": "x", "looked_at": now, "refused": ""})
        store.put_releases(connection, "bookworm", "stable", [msgspec.structs.asdict(offered)])


def test_the_calendar_has_releases_windows_freezes_and_rollouts(server: Running) -> None:
    _follow(server)
    start = (server.clock() - timedelta(days=7)).replace(hour=22, minute=0, second=0, microsecond=0, tzinfo=None)
    window = {"name": "night", "rule": "FREQ=DAILY", "start": start, "minutes": 120}
    for name, zone in (("berlin", "Europe/Berlin"), ("each", "")):
        body = {"windows": [window], "zone": zone, "event_minutes": 60}
        assert server.call("PUT", f"{MAINTENANCE}/configurations/{name}", body).status == 200
    turn = {"first": "2026-12-24", "last": "2027-01-02", "yearly": True}
    assert server.call("PUT", f"{MAINTENANCE}/freezes/turn", turn).status == 204
    reply = server.call("GET", f"{ICS}?language=de", role="viewer")
    assert (reply.status, reply.headers["Content-Type"]) == (200, "text/calendar; charset=utf-8")
    assert reply.headers["Cache-Control"].startswith("private")
    events: dict[str, Any] = {str(each["uid"]): each for each in Calendar.from_ical(reply.body).walk("VEVENT")}
    assert len(events) == len(Calendar.from_ical(reply.body).walk("VEVENT"))  # no id twice
    told = [str(each["summary"]) for each in events.values()]
    assert any("2026-11-hp1" in each for each in told)
    berlin = [each for each in events.values() if str(each["summary"]) == "Wartungsfenster: berlin (night)"]
    own = [each for each in events.values() if str(each["summary"]) == "Wartungsfenster: each (night)"]
    assert 70 < len(own) <= 92  # ten days are frozen
    assert {each["dtstart"].dt.utcoffset() for each in berlin} == {timedelta()}  # UTC
    assert {each["dtstart"].dt.tzinfo for each in own} == {None}  # the wall clock of each machine
    assert {each["dtstart"].dt.hour for each in own} == {22}
    assert "Ohne ein Wort" in str(berlin[0]["description"])
    (freeze,) = [each for each in events.values() if "turn" in str(each["summary"])]
    assert (freeze["dtstart"].dt, freeze["dtend"].dt) == (date(2026, 12, 24), date(2027, 1, 3))
    again = rrulestr(freeze["rrule"].to_ical().decode(), dtstart=datetime(2026, 12, 24, tzinfo=UTC))
    assert again[1].year == 2027


def test_the_atom_feed_has_what_is_published(server: Running) -> None:
    _follow(server)
    feed = feedparser.parse(server.call("GET", ATOM).body)
    assert not feed.bozo
    first = feed.entries[0]
    assert "2026-11-hp1" in first.title
    assert "openssl <fix> & more" in first.content[0].value
    assert len({each.id for each in feed.entries}) == len(feed.entries)
    assert [each.updated for each in feed.entries] == sorted((each.updated for each in feed.entries), reverse=True)


def test_a_token_for_feeds_is_good_for_feeds_alone_until_it_is_revoked(server: Running, typed: Typed) -> None:
    (made,) = typed.rows("token-add", "phone", "--feeds")
    secret = made["secret"]
    assert (made["role"], made["feeds"], secret[:4]) == ("viewer", True, "hmf_")
    for path in (f"{ICS}?token={secret}", f"{ATOM}?token={secret}"):
        assert server.call("GET", path, role=None).status == 200
    header = {"Authorization": f"Bearer {secret}"}
    assert server.call("GET", ICS, role=None, headers=header).status == 200
    for method, path in (("GET", "/api/v1/me"), ("GET", "/api/v1/machines"), ("POST", "/api/v1/halt")):
        assert server.call(method, path, b"{}" if method == "POST" else None, role=None, headers=header).status == 401
    assert server.call("GET", f"/api/v1/me?token={secret}", role=None).status == 401
    for role in ("viewer", "admin"):  # one that may do more is taken in no address
        assert server.call("GET", f"{ICS}?token={server.tokens[role]}", role=None).status == 401
    assert server.call("GET", ICS, role=None).status == 401
    typed("token-add", "more", "--feeds", "--role", "operator", code=4)
    typed("token-revoke", made["id"])
    assert server.call("GET", f"{ICS}?token={secret}", role=None).status == 401
    assert server.call("GET", ICS, role=None, headers=header).status == 401
