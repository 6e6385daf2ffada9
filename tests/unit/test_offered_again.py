"""What is offered again: a sister of a quarantined package stays off the disk and is not looked at anew each time."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from hotmend.agent.apt.pending import Pending
from hotmend.agent.configuration import Configuration
from hotmend.agent.installing import Installing
from hotmend.agent.machine import Machine
from hotmend.agent.memory import QuarantinedError
from hotmend.agent.paths import Places
from hotmend.agent.record.history import Action, DiskLeft, History
from hotmend.agent.record.quarantine import Entry, packages_meant, write_quarantine
from hotmend.agent.sources import Offer
from hotmend.agent.upgrade import unless_kept_away
from hotmend.agent.wanted import sorted_out, wanted_now
from hotmend.servicing.actions import State

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
SECURITY = ("Debian-Security:12/stable-security",)
SISTER = Pending("redis-server", "amd64", "1", "2", SECURITY)
OFFER = Offer("redis-server=2", "redis-server", "2", "", frozenset(), SISTER)


def offered(machine: Machine) -> list[str]:
    return [offer.key for offer in wanted_now(machine, [OFFER], None)]


def quarantined(machine: Machine, *names: str) -> None:
    entries = tuple(Entry(f"{name}=2", NOW, "ill", f"{name}=2") for name in names)
    write_quarantine(machine.places.quarantine, entries)


def test_until_the_quarantine_that_kept_it_away_is_another(tmp_path: Path) -> None:
    places = Places(tmp_path)
    machine = Machine(places, Configuration(), History(places.history), clock=lambda: NOW)
    assert offered(machine) == [OFFER.key]
    quarantined(machine, "redis-tools")
    machine.record(Action(update=OFFER.key, state=State.SUCCEEDED, brings=OFFER.key))
    assert offered(machine) == [OFFER.key]  # in memory, and not on the disk yet
    machine.record(DiskLeft(updates=(OFFER.key,), because=("redis-tools=2",)))
    assert offered(machine) == []
    quarantined(machine, "redis-tools", "nginx")
    assert offered(machine) == []
    quarantined(machine, "nginx")
    assert offered(machine) == [OFFER.key]


def test_an_update_of_a_channel_is_in_quarantine_by_each_of_its_names(tmp_path: Path) -> None:
    places = Places(tmp_path)
    machine = Machine(places, Configuration(), History(places.history), clock=lambda: NOW)
    offer = Offer("november/november.0.hotmend", "redis-server", "2", "november", frozenset(), None)
    assert wanted_now(machine, [offer], None) == (offer,)
    for name in (offer.key, "november", "redis-server=2"):
        write_quarantine(places.quarantine, (Entry(name, NOW, "ill"),))
        assert wanted_now(machine, [offer], None) == (), name
    write_quarantine(places.quarantine, (Entry("october", NOW, "ill"),))
    assert wanted_now(machine, [offer], None) == (offer,)


def test_what_was_taken_back_is_kept_away_whichever_way_it_comes(tmp_path: Path) -> None:
    """A person knows the id of a hotpatch, an agent its file in a channel; apt, and a sister of it, PACKAGE=VERSION."""
    places = Places(tmp_path)
    machine = Machine(places, Configuration(), History(places.history), clock=lambda: NOW)
    key = "november/november.0.hotmend"
    machine.record(Action(update=key, state=State.VERIFYING, release="november"))
    ended = Action(
        update=key, state=State.SUCCEEDED, release="november", brings=OFFER.key, hotpatches=("ab12",), file="f"
    )
    machine.record(ended)
    corrected = Offer("december/december.0.hotmend", "redis-server", "2", "december", frozenset(), None, file="g")
    later = Offer("redis-server=3", "redis-server", "3", "", frozenset(), None)
    other = Offer("vim=2", "vim", "2", "", frozenset(), None)
    for entry in (
        Entry("ab12", NOW, "by hand"),
        Entry(key, NOW, "ill", OFFER.key),
        Entry("november", NOW, "by its server"),
        Entry(OFFER.key, NOW, "by its server"),
    ):
        write_quarantine(places.quarantine, (entry,))
        assert wanted_now(machine, [OFFER, later, other], None) == (later, other), entry
        # Its publisher has made another hotpatch of it, which is not the one that was ill.
        assert wanted_now(machine, [corrected], None) == (() if entry.update == OFFER.key else (corrected,)), entry
        meant = packages_meant((entry,), machine.history.read().events)
        assert meant[OFFER.key] == (entry,)
        assert set(meant) <= {entry.update, key, OFFER.key}
        installing = Installing(machine, tmp_path, (), lambda: None, machine.record)
        assert installing._poison() == {OFFER.key}
        with pytest.raises(QuarantinedError, match=f"{OFFER.key} is in quarantine: {entry.reason}") as raised:
            unless_kept_away(machine, [SISTER], disk=False)
        assert raised.value.hint.endswith(f"hotmend agent quarantine --lift {entry.update}")
        assert unless_kept_away(machine, [Pending("vim", "amd64", "1", "2", SECURITY)], disk=False) == {entry.update}
    write_quarantine(places.quarantine, ())
    assert wanted_now(machine, [OFFER, later, other], None) == (OFFER, later, other)
    assert unless_kept_away(machine, [SISTER], disk=False) == frozenset()


def test_what_is_missing_and_kept_out_is_told_apart_from_what_is_here(tmp_path: Path) -> None:
    places = Places(tmp_path)
    machine = Machine(places, Configuration(), History(places.history), clock=lambda: NOW)
    other = Offer("vim=2", "vim", "2", "", frozenset(), Pending("vim", "amd64", "1", "2", ("Debian:12/stable",)))
    here = Offer("good/good.0.hotmend", "redis-server", "2", "good", frozenset(), None)
    machine.record(Action(update=here.key, state=State.SUCCEEDED, brings="redis-server=2"))
    assert sorted_out(machine, [OFFER, other, here]) == ((OFFER,), (other,))
    quarantined(machine, "redis-server")
    assert sorted_out(machine, [OFFER, other]) == ((), (OFFER, other))


def test_what_came_by_one_release_is_here_whichever_offers_it(tmp_path: Path) -> None:
    """Each hotpatch of a channel holds the files of those before it; nobody runs its old builds here."""
    places = Places(tmp_path)
    machine = Machine(places, Configuration(), History(places.history), clock=lambda: NOW)
    first, second = (
        Offer(f"{release}/server.hotmend", "server", "2", release, frozenset(), None, file="ab" * 32)
        for release in ("h1", "h2")
    )
    other = Offer("h2/other.hotmend", "other", "2", "h2", frozenset(), None, file="cd" * 32)
    machine.record(Action(update=first.key, state=State.SUCCEEDED, release="h1", file=first.file))
    assert wanted_now(machine, [second, other], None) == (other,)
    machine.record(Action(update=first.key, state=State.ROLLED_BACK, release="h1", file=first.file))
    assert wanted_now(machine, [second, other], None) == (second, other)
    for name in (first.key, "h1"):
        write_quarantine(places.quarantine, (Entry(name, NOW, "ill"),))
        assert wanted_now(machine, [second, other], None) == (other,)
