"""Machine facts: what is read, what is refused, and that the documented form is the real one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hotmend.model.errors import InputError
from hotmend.servicing import facts_json
from hotmend.servicing.facts_json import facts_decode, facts_encode, facts_schema

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "tests" / "data" / "facts").rglob("*.json"))
LEAST = {"facts": 1, "collected_at": "2025-10-20T00:00:00Z", "windows": {}}


def _decode(**changes: object) -> None:
    facts_decode(json.dumps({**LEAST, **changes}).encode())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_read_and_come_out_again(path: Path) -> None:
    facts = facts_decode(path.read_bytes(), path.name)
    assert facts_decode(facts_encode(facts)) == facts


def test_the_schema_in_the_documentation_is_the_form() -> None:
    # python -m hotmend.servicing.schema > docs/facts.schema.json
    assert json.loads((ROOT / "docs" / "facts.schema.json").read_text()) == facts_schema()


def test_what_is_left_out_is_unknown() -> None:
    facts = facts_decode(json.dumps(LEAST).encode())
    assert facts.windows is not None
    assert facts.windows.updates is None
    assert facts.windows.vsm.status is None
    assert facts.windows.arc.connected is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"facts": 2}, "$.facts"),
        ({"collected_at": "2025-10-20T00:00:00"}, "timezone"),
        ({"windows": None}, "needs `windows` or `linux`"),
        ({"linux": {}}, "not both"),
        ({"windows": {"vsm": {"statuss": 2}}}, "unknown field `statuss` - at `$.windows.vsm`"),
        ({"windows": {"vsm": {"status": 3}}}, "$.windows.vsm.status"),
        ({"windows": {"updates": [{"kb": "5066835"}]}}, "$.windows.updates[0].kb"),
        ({"linux": {"images": [{"path": "/x", "build_id": "zz"}]}, "windows": None}, "$.linux.images[0].build_id"),
        ({"time_zone": "Europe/Atlantis"}, "$.time_zone"),
        ({"managers": {"chef": "x"}}, "managers"),
        ({"machine": "x" * 1001}, "$.machine"),
        ({"windows": {"updates": [{"kb": "KB5066835"}] * 5001}}, "$.windows.updates"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError) as caught:
        _decode(**changes)
    assert words in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b'{"a":' * 5000, b'{"facts":1,"facts":1}'])
def test_what_is_no_facts_is_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        facts_decode(data)


def test_too_large_is_refused_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    data = json.dumps(LEAST).encode()
    monkeypatch.setattr(facts_json, "FACTS_BYTES_MAX", len(data))
    facts_decode(data)
    with pytest.raises(InputError) as caught:
        facts_decode(data + b" ")
    assert str(caught.value) == f"facts: larger than {len(data)} bytes"
    assert caught.value.hint == "docs/facts.md describes the form; a field that is not known is left out"


def test_time_zones_are_looked_up_when_they_are_needed_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts_json, "_names", frozenset())
    _decode(time_zone="Europe/Berlin")
    assert "Europe/Berlin" in facts_json._names
    _decode(time_zone="Asia/Tokyo")


def test_facts_are_written_for_people_too() -> None:
    written = facts_encode(facts_decode(json.dumps({**LEAST, "machine": "x"}).encode()))
    assert b'\n  "machine": "x",\n' in written
    assert written.endswith(b"}\n")
