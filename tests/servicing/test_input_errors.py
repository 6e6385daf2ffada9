"""What is said of a file that is not what it should be: which file, and what is wrong with it, word for word."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from hotmend.model.errors import InputError
from hotmend.servicing.facts_json import FORM_HINT, facts_decode
from hotmend.servicing.maintenance import policy_parse
from hotmend.servicing.products import catalogue_parse
from hotmend.servicing.remedies import remedies_parse
from tests.traceability import ROOT

CASE = ROOT / "tests/data/facts/cases/debian-on-line.json"
CATALOGUE = """
channel = []
[[product]]
id = "mine"
name = "Mine"
channel = "nowhere"
match = {"linux.distribution" = ["debian"]}
"""
POLICY = """
[[window]]
name = "nightly"
rule = "FREQ=HOURLY"
start = 2026-01-01T02:00:00
minutes = 60
"""


def facts(**fields: object) -> bytes:
    """Return the recorded case with other fields; None leaves one out."""
    case = json.loads(CASE.read_bytes()) | fields
    return json.dumps({name: value for name, value in case.items() if value is not None}).encode()


def said(parse: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        parse()
    return str(caught.value)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"{", "here.json: not facts of a machine: Input data was truncated"),
        (facts(linux=None), "here.json: needs `windows` or `linux`, and not both"),
    ],
)
def test_facts(data: bytes, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        facts_decode(data, "here.json")
    assert (str(caught.value), caught.value.hint) == (sentence, FORM_HINT)


def test_facts_of_no_time_zone() -> None:
    text = said(lambda: facts_decode(facts(time_zone="Europe/Nowhere"), "here.json"))
    assert text == "here.json: no time zone is called 'Europe/Nowhere' - at `$.time_zone`"


@pytest.mark.parametrize("parse", [catalogue_parse, remedies_parse])
def test_a_file_that_is_no_toml(parse: Callable[[str, str], object]) -> None:
    assert said(lambda: parse("= 1", "here.toml")) == "here.toml: Invalid statement (at line 1, column 1)"


def test_a_catalogue_that_does_not_hold_together() -> None:
    assert said(lambda: catalogue_parse(CATALOGUE, "here.toml")).startswith("here.toml: product mine: ")


def test_a_policy_with_a_window_too_often() -> None:
    assert said(lambda: policy_parse(POLICY, "here.toml")).startswith("here.toml: window 'nightly': ")
