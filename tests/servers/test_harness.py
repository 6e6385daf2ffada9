"""The harness itself: it must not call a failed request a success, nor one build a pair."""

from __future__ import annotations

import pytest

from tests.servers.load import ab_parse, wrk_parse
from tests.servers.packages import Offer, versions_choose
from tests.servers.rdb import crc64

WRK = """\
  1 threads and 16 connections
{errors}  {requests} requests in 2.00s, 27.56MB read
Requests/sec:  57459.29
"""

AB = """\
Complete requests:      {requests}
Failed requests:        {failed}
{more}Requests per second:    28363.64 [#/sec] (mean)
"""


@pytest.mark.parametrize(
    ("errors", "failures"),
    [
        ("", 0),
        ("  Socket errors: connect 0, read 3, write 0, timeout 1\n", 4),
        ("  Non-2xx or 3xx responses: 7\n", 7),
        ("  Socket errors: connect 1, read 0, write 0, timeout 0\n  Non-2xx or 3xx responses: 2\n", 3),
    ],
)
def test_wrk_failures_are_counted(errors: str, failures: int) -> None:
    result = wrk_parse(WRK.format(errors=errors, requests=1000))
    assert (result.requests, result.failures, result.per_second) == (1000, failures, 57459.29)


@pytest.mark.parametrize(
    ("failed", "more", "failures"),
    [(0, "", 0), (2, "", 2), (0, "Non-2xx responses:      5\n", 5), (1, "Write errors:           1\n", 2)],
)
def test_ab_failures_are_counted(failed: int, more: str, failures: int) -> None:
    result = ab_parse(AB.format(requests=1000, failed=failed, more=more))
    assert (result.requests, result.failures) == (1000, failures)


@pytest.mark.parametrize("parse", [wrk_parse, ab_parse])
def test_no_summary_is_a_failure(parse: object) -> None:
    assert callable(parse)
    result = parse("Killed\n")
    assert (result.requests, result.failures) == (0, 1)


@pytest.mark.parametrize(
    ("offers", "chosen"),
    [
        ([Offer("1.0-1", False), Offer("1.0-1+deb12u2", True)], ("1.0-1", "1.0-1+deb12u2")),
        ([Offer("1.0-1", False), Offer("0.9-1", False), Offer("1.0-2", True)], ("1.0-1", "1.0-2")),
        ([Offer("1.0-1~deb12u2", False), Offer("1.0-1~deb12u1", True)], ("1.0-1~deb12u1", "1.0-1~deb12u2")),
        ([Offer("1.0-1", True), Offer("1.0-2", True)], ("1.0-1", "1.0-2")),
        ([Offer("1.0-1", False), Offer("1.0-1", True)], None),
        ([Offer("1.0-1", False)], None),
    ],
)
def test_a_pair_is_two_builds(offers: list[Offer], chosen: tuple[str, str] | None) -> None:
    assert versions_choose(offers) == chosen


def test_the_checksum_is_the_one_redis_documents() -> None:
    assert crc64(b"123456789") == 0xE9C6D914C4B8D9CA
