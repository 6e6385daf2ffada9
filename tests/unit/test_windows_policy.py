"""A maintenance policy becomes values of the update client's policy, or is refused; it is never rounded."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotmend.cli.main import run
from hotmend.servicing.facts import UpdatePolicy
from hotmend.servicing.maintenance import policy_parse
from hotmend.windows.policy import client_values, values_of_facts
from hotmend.windows.regfile import decode_reg
from hotmend.windows.remedies import POLICY_AU_KEY, POLICY_KEY

_WINDOW = """
[[window]]
name = "w"
rule = "{rule}"
start = 2026-01-01T{start}
minutes = 120
days_after = {after}
"""


@pytest.mark.parametrize(("rule", "day"), [("FREQ=DAILY", 0), ("FREQ=WEEKLY;BYDAY=SU", 1), ("FREQ=WEEKLY;BYDAY=SA", 7)])
def test_an_hour_of_a_day_is_said(rule: str, day: int) -> None:
    keys, reasons = client_values(policy_parse(_WINDOW.format(rule=rule, start="03:00:00", after=0)))
    assert keys is not None
    assert reasons == ()
    shown = {name: value.shown() if value else None for name, value in keys[POLICY_AU_KEY].items()}
    assert shown == {
        "NoAutoUpdate": "0",
        "AUOptions": "4",
        "ScheduledInstallDay": str(day),
        "ScheduledInstallTime": "3",
        "NoAutoRebootWithLoggedOnUsers": None,
    }


@pytest.mark.parametrize(
    ("rule", "start", "after"),
    [
        ("FREQ=MONTHLY;BYDAY=2TU", "03:00:00", 0),
        ("FREQ=WEEKLY;BYDAY=TU", "03:00:00", 1),
        ("FREQ=WEEKLY;BYDAY=TU,WE", "03:00:00", 0),
        ("FREQ=DAILY", "03:30:00", 0),
    ],
)
def test_what_the_client_cannot_say_is_refused(rule: str, start: str, after: int) -> None:
    keys, reasons = client_values(policy_parse(_WINDOW.format(rule=rule, start=start, after=after)))
    assert (keys, [reason.code for reason in reasons]) == (None, ["client-policy-cannot-say-window"])


def test_modes_and_what_is_left_out() -> None:
    for mode, name, value in (("manual", "NoAutoUpdate", 1), ("notify", "AUOptions", 3)):
        keys, reasons = client_values(policy_parse(f'mode = "{mode}"\nexclude = ["KB5070881"]'))
        assert keys is not None
        wanted = keys[POLICY_AU_KEY][name]
        assert wanted is not None
        assert (wanted.number, [each.subjects for each in reasons]) == (value, [("exclude",)])


def test_the_command_writes_what_windows_reads(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(_WINDOW.format(rule="FREQ=DAILY", start="22:00:00", after=0))
    out = tmp_path / "p.reg"
    assert run(["windows", "policy", "--policy", str(tmp_path / "p.toml"), "-o", str(out)]) == 0
    value = decode_reg(out.read_bytes())[POLICY_AU_KEY]["ScheduledInstallTime"]
    assert value is not None
    assert value.number == 22
    (tmp_path / "p.toml").write_text(_WINDOW.format(rule="FREQ=YEARLY", start="22:00:00", after=0))
    assert run(["windows", "policy", "--policy", str(tmp_path / "p.toml")]) == 4


def test_facts_give_back_the_policy_they_were_read_from() -> None:
    keys, unclear = values_of_facts(
        UpdatePolicy(values={"WUServer": "8530", "AU\\AUOptions": "3", "AU\\Odd": "x", "DeferQualityUpdates": "1"})
    )
    shown = {
        key: {name: value.shown() if value else None for name, value in each.items()} for key, each in keys.items()
    }
    assert shown == {POLICY_KEY: {"WUServer": "8530", "DeferQualityUpdates": "1"}, POLICY_AU_KEY: {"AUOptions": "3"}}
    assert unclear == ("AU\\Odd",)
