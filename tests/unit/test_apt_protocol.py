"""What apt says to a hook before dpkg runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotmend.agent.apt.pending import Pending
from hotmend.agent.apt.protocol import INPUT_BYTES_MAX, Unpacked, parse_upgrades
from hotmend.model.errors import InputError

ACTIONS = """\
haproxy 2.6.12-1+deb12u3 amd64 none < 2.6.12-1+deb12u4 amd64 none /var/cache/apt/archives/haproxy_2.6.12-1_amd64.deb
haproxy 2.6.12-1+deb12u3 amd64 none < 2.6.12-1+deb12u4 amd64 none **CONFIGURE**
failing - - none < 1 all none /tmp/failing.deb
failing 1 all none > - - none **REMOVE**
libc6 2.36-9+deb12u14 amd64 same > 2.36-9+deb12u7 amd64 same /a.deb
redis-tools 5:7 amd64 none = 5:7 amd64 none /b.deb
nginx-common 1 all foreign < 2 all foreign /with a blank/c.deb
"""


def test_only_upgrades_are_taken() -> None:
    text = "VERSION 3\nAPT::Architecture=amd64\nDir=/\n\n" + ACTIONS
    assert parse_upgrades(text) == (
        Unpacked(
            Pending("haproxy", "amd64", "2.6.12-1+deb12u3", "2.6.12-1+deb12u4", ()),
            Path("/var/cache/apt/archives/haproxy_2.6.12-1_amd64.deb"),
        ),
        Unpacked(Pending("nginx-common", "all", "1", "2", ()), Path("/with a blank/c.deb")),
    )
    assert parse_upgrades("VERSION 3\n\n") == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "VERSION 3",
        "VERSION 3\nAPT=\n",
        "VERSION 2\n\nnginx 1 < 2 /a.deb\n",
        "/var/cache/apt/archives/nginx.deb\n",
        "VERSION 3\n\nnginx 1 < 2 /a.deb\n",
        "VERSION 3\n\n" + "x" * INPUT_BYTES_MAX,
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_upgrades(text)


@given(st.text())
def test_no_text_breaks_it(text: str) -> None:
    for given_text in (text, f"VERSION 3\n\n{text}"):
        try:
            found = parse_upgrades(given_text)
        except InputError:
            continue
        assert all(row.pending.old_version != "-" and not str(row.file).startswith("**") for row in found)
