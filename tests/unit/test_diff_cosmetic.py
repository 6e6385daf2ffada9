"""Which changes of a text are nothing but versions, dates and line numbers."""

from __future__ import annotations

import pytest

from hotmend.diff.cosmetic import same_but_for_versions

_COSMETIC = [
    ("nginx/1.22.1", "nginx/1.22.2"),
    ("OpenSSL 3.0.20 7 Apr 2026", "OpenSSL 3.0.22 5 May 2026"),
    ("HA-Proxy version 2.6.12-1+deb12u3", "HA-Proxy version 2.6.12-1+deb12u4"),
    ("1.0.0~rc1", "1.0.0~rc12"),
    ("built on: 2026-04-07", "built on: 2026-05-11"),
    ("built on: 2026/04/07 10:00:00", "built on: 2026/05/11 23:59:59"),
    ("2026-04-07T10:00Z", "2026-05-07T11:00Z"),
    ("Apr  7 2026", "May 11 2026"),
    ("12:34:56", "01:02:03"),
    ("crypto/evp/e_aes.c:120: failed", "crypto/evp/e_aes.c:99: failed"),
    ("list.h:7", "list.h:1234"),
    ("a.cc:1", "a.cc:2"),
    ("a.cpp:1", "a.cpp:2"),
    ("%s version 1.2.3 (%d)", "%s version 1.2.4 (%d)"),
]
_REAL = [
    ("same", "same"),
    ("%5d", "%6d"),
    ("%.2f", "%.3f"),
    ("%1.2f", "%1.3f"),
    ("%5.2s of 1.2.3", "%5.3s of 1.2.3"),
    ("%-1.10s", "%-1.12s"),
    ("%s 1.2", "%d 1.2"),
    ("%d", "%ld"),
    ("100%", "100"),
    ("limit 10", "limit 11"),
    ("port 8080", "port 8081"),
    ("0x1000", "0x2000"),
    ("1.2.3 bytes", "1.2.3 octets"),
    ("error 12", "error 13"),
    ("a.txt:10", "a.txt:11"),
    ("1.2.3", "2026-01-01"),
    ("1.2.3", "3"),
    ("", "1.2.3"),
    ("version 1.2.3", "version 1.2.3 and 1.2.4"),
    ("12:34:56", "1.2.3"),
    ("Apr 7 2026", "1.2.3"),
    ("1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"),
]


@pytest.mark.parametrize(("old", "new"), _COSMETIC)
def test_versions_dates_and_lines_are_cosmetic(old: str, new: str) -> None:
    assert same_but_for_versions(old.encode(), new.encode())
    assert same_but_for_versions(new.encode(), old.encode())


@pytest.mark.parametrize(("old", "new"), _REAL)
def test_everything_else_counts(old: str, new: str) -> None:
    assert not same_but_for_versions(old.encode(), new.encode())
    assert not same_but_for_versions(new.encode(), old.encode())
