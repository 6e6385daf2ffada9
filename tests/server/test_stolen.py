"""A stolen server, with its key: what it can have done on a machine, what it cannot, and that the machine tells of it.

The thief has everything that the control plane has: the database, the key that answers and policies are signed with,
and all rights. No key of a channel is among it.
"""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest

from hotmend.agent.census.alerts import AlertCode, Record, record_alerts
from hotmend.agent.configuration import Configuration, FleetLimits, parse_configuration
from hotmend.agent.machine import Machine
from hotmend.agent.paths import Places
from hotmend.agent.record.history import History, OrderEnded, Reverted, RunBegan
from hotmend.agent.record.hold import begin_hold
from hotmend.agent.uplink.carrying import check_in, enrol
from hotmend.agent.uplink.directing import with_directions
from hotmend.agent.uplink.doing import perform
from hotmend.agent.uplink.standing import standing
from hotmend.server.machines import policies, store
from hotmend.servicing.actions import State
from hotmend.wire.messages import Kind, Order
from tests.server.fleet import ALWAYS
from tests.server.machine import host, registration_key
from tests.server.running import Running

PACKAGED = Path(__file__).parents[2] / "packaging/debian/agent.toml"
EVERYTHING = {**ALWAYS, "mode": "automatic", "zone": "UTC", "restart": True, "reboot": "always", "slots": False}
LEAST = FleetLimits(install=False, windows="own", restart=False, reboot="never", revert=False)


@dataclasses.dataclass
class Victim:
    """A machine whose server belongs to somebody else now."""

    server: Running
    machine: Machine
    id: str

    def limited(self, limits: FleetLimits) -> None:
        configuration = Configuration(mode="notify", zone="Europe/Berlin", fleet=limits)
        self.machine = dataclasses.replace(self.machine, configuration=configuration)

    def obey(self) -> Configuration:
        """Fetch what the thief wants, do it, and return what the machine may do by itself from now on."""
        check_in(self.machine.places, lambda: self.server.clock().timestamp())
        machine, wanted = with_directions(self.machine)
        assert wanted is not None
        for order in wanted.orders:
            perform(machine, order)
        return machine.configuration

    def plan(self, kind: str, **fields: object) -> None:
        """Write an order into the database, where no rule of the server is asked."""
        values = {"machine_id": self.id, "kind": kind, "updates": [], "created_by": "", **fields}
        with self.server.database.write() as connection:
            moments = dict.fromkeys(("created_at", "due_at", "changed_at"), self.server.clock())
            store.insert_action(connection, values | moments)

    def ends(self) -> list[tuple[State, str]]:
        return [(e.state, e.detail) for e in self.machine.history.read().events if isinstance(e, OrderEnded)]

    def alerts(self) -> dict[AlertCode, str]:
        read = self.machine.history.read()
        record = Record(read.events, (), None, (), timedelta(hours=1), standing(self.machine.places))
        return {alert.code: alert.sentence for alert in record_alerts(record, self.server.clock())}


@pytest.fixture
def victim(server: Running, tmp_path: Path) -> Victim:
    places = Places(tmp_path / "root")
    places.state.mkdir(parents=True)
    places.server.parent.mkdir(parents=True)
    machine = Machine(places, Configuration(), History(places.history), server.clock, tmp_path / "audit.jsonl")
    made = enrol(places, server.url, registration_key(server), host("a"), name="a", server_key="", ca="")
    context = server.app.state.context
    with server.database.write() as connection:
        policies.put(connection, "default", dict(EVERYTHING), context.key, context.settings, server.clock())
    return Victim(server, machine, made.machine)


def test_a_thief_has_what_the_limits_of_the_machine_leave(victim: Victim) -> None:
    by_default = victim.obey()
    assert (by_default.mode, by_default.restart, by_default.reboot) == ("automatic", True, "if-required")
    assert [window.name for window in by_default.maintenance.window] == ["always"]
    victim.limited(FleetLimits(reboot="always"))
    assert victim.obey().reboot == "always"
    victim.limited(LEAST)
    left = victim.obey()
    assert (left.mode, left.restart, left.reboot, left.zone) == ("download", False, "never", "Europe/Berlin")
    assert left.maintenance == Configuration().maintenance


def test_a_thief_takes_no_fix_back_and_installs_nothing_where_he_may_not(victim: Victim) -> None:
    victim.limited(LEAST)
    victim.plan("revert", emergency=True, reason="it crashes")
    victim.plan("install", updates=["nginx=2"], anytime=True)
    victim.obey()
    assert [state for state, _ in victim.ends()] == [State.BLOCKED, State.BLOCKED]
    assert ["[fleet] revert" in victim.ends()[0][1], "[fleet] install" in victim.ends()[1][1]] == [True, True]
    assert not any(isinstance(event, RunBegan) for event in victim.machine.history.read().events)
    told = victim.alerts()[AlertCode.REVERTED]  # that he tried is told for a week
    assert "by order of the server" in told
    victim.server.clock.ahead = timedelta(days=8)
    assert AlertCode.REVERTED not in victim.alerts()


def test_a_thief_changes_nothing_where_the_machine_is_to_be_left_alone(victim: Victim) -> None:
    """As the package has it; in its first days, where no policy says more; and on hold."""

    def asked(kind: str, **fields: object) -> tuple[State, str]:
        victim.plan(kind, updates=["nginx=2"], **fields)
        victim.obey()
        return victim.ends()[-1]

    packaged = parse_configuration(PACKAGED.read_text("utf-8"), "packaged")
    victim.machine = dataclasses.replace(victim.machine, configuration=packaged)
    for order in (("install", {"anytime": True}), ("revert", {"emergency": True}), ("undo", {"undoes": "a" * 32})):
        state, why = asked(order[0], **order[1])
        assert (state, "the mode observe" in why) == (State.BLOCKED, True)
    days = dataclasses.replace(victim.machine, configuration=Configuration(mode="automatic", zone="UTC"))
    ended = perform(days, Order("b" * 32, Kind.INSTALL, updates=("nginx=2",), anytime=True))
    assert ended is not None
    observed = "this machine is only observed for its first 7 days: observe_days"
    assert (ended.state, ended.detail) == (State.BLOCKED, observed)
    victim.limited(FleetLimits())
    begin_hold(victim.machine.places.hold, None, "Christmas sale")
    for kind in ("install", "revert", "undo", "quarantine", "lift"):
        held = "on hold until it is released: Christmas sale"
        assert asked(kind, emergency=True, anytime=True) == (State.BLOCKED, held)
    assert asked("assess")[0] is State.SUCCEEDED
    assert not any(isinstance(event, RunBegan | Reverted) for event in victim.machine.history.read().events)
    assert not victim.machine.places.quarantine.exists()
    victim.machine.places.hold.unlink()
    assert asked("quarantine")[0] is State.SUCCEEDED


def test_a_thief_that_withholds_is_noticed_before_the_policy_ends(victim: Victim) -> None:
    """He keeps answers back: nothing signed comes any more, and nothing of it can be made by who carries letters."""
    victim.obey()
    assert victim.alerts() == {}
    letter = victim.machine.places.letter.read_bytes()
    victim.server.clock.ahead = timedelta(hours=23)
    with_directions(victim.machine)
    assert victim.alerts() == {}
    victim.server.clock.ahead = timedelta(hours=25)
    victim.machine.places.letter.write_bytes(letter)  # the same one again is no sign of life
    with_directions(victim.machine)
    assert list(victim.alerts()) == [AlertCode.SERVER_SILENT]
    life = victim.server.app.state.context.settings.policy_life
    victim.server.clock.ahead = life / 2 + timedelta(minutes=1)
    assert "ends at" in victim.alerts()[AlertCode.POLICY_ENDS]
    victim.server.clock.ahead = life + timedelta(minutes=1)
    assert "has ended" in victim.alerts()[AlertCode.POLICY_ENDS]
    assert with_directions(victim.machine)[0].configuration.mode == "notify"
    victim.server.clock.ahead = timedelta(0)
    victim.obey()
    assert victim.alerts() == {}


def test_a_server_that_was_never_heard_of_is_silent(victim: Victim) -> None:
    assert victim.alerts() == {}
    victim.server.clock.ahead = timedelta(hours=25)
    assert list(victim.alerts()) == [AlertCode.SERVER_SILENT]
