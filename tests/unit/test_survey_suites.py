"""What differs between two suites, from lists in apt's form."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hotmend.publisher.survey.suites import Offer, difference, read_offers

_LIST = """\
Package: libtool1
Source: tool (1.0-1)
Architecture: amd64
Version: 1.0-1+b1
Size: 400
Description: a library

Package: tool
Architecture: amd64
Version: 1.0-1
Size: 100
Depends: libtool1 (= 1.0-1),
 libc6

Package: tool-data
Source: tool
Architecture: all
Version: 1.0-1
Size: 7

Package: tool
Architecture: arm64
Version: 9.9
Size: 1
"""


def _offer(package: str, version: str, architecture: str = "amd64", size: int = 10) -> Offer:
    return Offer(package, "tool", version, architecture, size)


def test_a_list_is_read() -> None:
    assert list(read_offers(_LIST)) == [
        Offer("libtool1", "tool", "1.0-1+b1", "amd64", 400),
        Offer("tool", "tool", "1.0-1", "amd64", 100),
        Offer("tool-data", "tool", "1.0-1", "all", 7),
    ]


def test_only_wanted_packages_are_read() -> None:
    assert [offer.package for offer in read_offers(_LIST, frozenset({"tool"}))] == ["tool"]


def test_newer_packages_of_both_suites_are_candidates_the_largest_first() -> None:
    old = [_offer("small", "1"), _offer("large", "1", size=5), _offer("same", "2"), _offer("older", "3")]
    new = [_offer("small", "2"), _offer("large", "2", size=50), _offer("same", "2"), _offer("older", "2")]
    found = difference(old, new)
    assert [(c.package, c.old_version, c.new_version) for c in found.candidates] == [
        ("large", "1", "2"),
        ("small", "1", "2"),
    ]
    assert (found.candidates[0].old_bytes, found.candidates[0].new_bytes) == (5, 50)
    assert found.unseen == {}


def test_packages_without_machine_code_or_without_an_old_one_are_unseen() -> None:
    old = [_offer("data", "1", "all"), _offer("tool", "1")]
    new = [_offer("data", "2", "all"), _offer("tool", "2"), _offer("tool-6.1", "2")]
    assert difference(old, new).unseen == {"tool": ("data", "tool-6.1")}


def test_versions_are_compared_as_dpkg_does() -> None:
    assert difference([_offer("tool", "1:1.0")], [_offer("tool", "2.0")]).candidates == ()
    assert difference([_offer("tool", "1.0~rc1")], [_offer("tool", "1.0")]).candidates
    assert difference([_offer("tool", "1.9")], [_offer("tool", "1.10")]).candidates


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.lists(st.integers(1, 30), min_size=1, max_size=6))
def test_of_several_versions_in_a_suite_the_newest_counts(old: list[int], new: list[int]) -> None:
    found = difference([_offer("tool", f"1.{v}") for v in old], [_offer("tool", f"1.{v}") for v in new]).candidates
    expected = [(f"1.{max(old)}", f"1.{max(new)}")] if max(new) > max(old) else []
    assert [(c.old_version, c.new_version) for c in found] == expected
