"""What offered updates do to the hotpatch line, together, and what refuses them."""

from __future__ import annotations

import pytest

from hotmend.reference.texts import Reader
from hotmend.servicing.facts import Offer
from hotmend.servicing.offered import is_outside, line_channel, line_reasons, offered_effects
from tests.servicing.machines import OCTOBER, PROGRAM, at, linux, machine, windows

NOW = at("2025-10-26")
ON_LINE = machine(windows(OCTOBER))
CHANNEL = PROGRAM.catalogue.channel[0]
SECURITY = "Security Updates"


def _offer(kb: str, title: str | None = None, classification: str | None = SECURITY) -> Offer:
    return Offer(kb, title, classification)


STAYS, LEAVES, DEFINITIONS = _offer("KB5070893"), _offer("KB5070881"), _offer("KB2267602", None, "Definition Updates")


def _outcomes(*offers: Offer) -> list[str | None]:
    found = offered_effects(ON_LINE, PROGRAM, offers, NOW)
    return [None if effect is None else f"{effect.id} {effect.outcome}" for effect in found]


def test_effects_come_in_the_order_of_the_offers_and_are_judged_from_the_oldest() -> None:
    assert _outcomes(STAYS, DEFINITIONS, LEAVES) == ["KB5070893 stays-off-line", None, "KB5070881 leaves-line"]
    assert _outcomes(LEAVES, STAYS) == ["KB5070881 leaves-line", "KB5070893 stays-off-line"]
    assert _outcomes(STAYS) == ["KB5070893 stays-on-line"]
    assert _outcomes() == []


def test_what_the_calendar_does_not_have_comes_last() -> None:
    assert _outcomes(_offer("KB1000001"), STAYS) == ["KB1000001 unknown", "KB5070893 stays-on-line"]


@pytest.mark.parametrize(
    ("offer", "outside"),
    [
        (_offer("KB1"), False),
        (_offer("KB1", "2025-10 .NET Framework"), True),
        (_offer("KB1", "Treiber", "Drivers"), True),
        (_offer("KB1", None, None), False),
        (_offer("KB1", None, "Servicing Stack Updates"), True),
        (_offer("KB1", "Microsoft", "Edge"), True),  # a word may reach from one to the other
        (_offer("KB890830", "Tool zum Entfernen bösartiger Software", "Update Rollups"), True),
        (DEFINITIONS, True),
    ],
)
def test_what_is_none_of_the_operating_systems_own_does_not_touch_the_line(offer: Offer, outside: bool) -> None:
    assert is_outside(offer, CHANNEL) is outside


def test_a_product_without_a_line_and_one_that_is_not_known() -> None:
    server_2022 = machine(windows(OCTOBER, build=20348, edition="ServerDatacenter"))
    assert line_channel(server_2022, PROGRAM, NOW) is None
    assert offered_effects(server_2022, PROGRAM, [STAYS, LEAVES], NOW) == (None, None)
    assert line_reasons(offered_effects(server_2022, PROGRAM, [LEAVES], NOW)) == ()
    unknown = machine(windows(OCTOBER, edition=None))
    found = offered_effects(unknown, PROGRAM, [STAYS, DEFINITIONS], NOW)
    assert [
        (each.id, each.release, each.outcome, each.reboot, each.causes[0].code) for each in found if each is not None
    ] == [
        ("KB5070893", None, "unknown", None, "product-unknown"),
        ("KB2267602", None, "unknown", None, "product-unknown"),
    ]
    (reason,) = line_reasons(found)
    assert reason.subjects == tuple(
        f"{kb}: unknown: Which product this is cannot be told, nor what an update does to it."
        for kb in ("KB5070893", "KB2267602")
    )


def test_of_debian_the_channel_is_told_too() -> None:
    channel = line_channel(machine(linux()), PROGRAM, NOW)
    assert channel is not None
    assert channel.name == "Debian 12"


def test_what_is_harmful_refuses_all_and_what_leads_off_comes_first() -> None:
    (reason,) = line_reasons(offered_effects(ON_LINE, PROGRAM, [STAYS, DEFINITIONS, LEAVES], NOW))
    assert (reason.code, reason.severity) == ("leaves-hotpatch-line", "refusal")
    assert reason.sentence == (
        "An update would not keep the machine on the hotpatch line, or nobody knows whether it would; exclude it, "
        "or say --leave-line. Nothing was installed."
    )
    assert [subject.partition(": ")[0] for subject in reason.subjects] == ["KB5070881", "KB5070893"]
    assert reason.subjects[0].startswith("KB5070881: leaves-line: KB5070881 takes the machine off the line")
    (german,) = line_reasons(offered_effects(ON_LINE, PROGRAM, [LEAVES], NOW), Reader("de").write)
    assert german.subjects[0].startswith("KB5070881: leaves-line: KB5070881 nimmt die Maschine von der Linie")
    assert line_reasons(offered_effects(ON_LINE, PROGRAM, [STAYS, DEFINITIONS], NOW)) == ()
    assert line_reasons(offered_effects(ON_LINE, PROGRAM, [_offer("KB5066835")], NOW)) == ()  # it is there already
    assert line_reasons([None]) == ()
