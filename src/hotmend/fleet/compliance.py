"""Compliance, over the API."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any
from urllib.parse import urlencode

from hotmend.fleet.client import Client
from hotmend.wire.compliance import Day, Group, GroupBy, Time, VexForm, Vulnerability


class Compliance:
    """Figures, files and signed evidence. Every method raises as `Client.get`.

    `tags` (NAME or NAME=VALUE, all of them), `release` and a part of the name say which machines are meant.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def vulnerabilities(self, tags: Sequence[str] = (), release: str = "", search: str = "") -> list[Vulnerability]:
        """Return each vulnerability and where its fix is."""
        return self._client.get(f"/compliance/vulnerabilities?{_asked(tags, release, search)}", list[Vulnerability])

    def groups(self, by: GroupBy, tags: Sequence[str] = (), release: str = "", search: str = "") -> list[Group]:
        """Return where fixes are, the most exposed first."""
        return self._client.get(f"/compliance/groups/{by}?{_asked(tags, release, search)}", list[Group])

    def days(self, since: date | None = None) -> list[Day]:
        """Return what each day found; of the last year where no day is given."""
        return self._client.get("/compliance/days", list[Day], since=since)

    def exposures(self, tags: Sequence[str] = (), release: str = "", search: str = "") -> list[Time]:
        """Return how long machines were exposed to what."""
        return self._client.get(f"/compliance/exposures?{_asked(tags, release, search)}", list[Time])

    def vex(self, form: VexForm, tags: Sequence[str] = (), release: str = "", search: str = "") -> Iterator[bytes]:
        """Yield the parts of a file with what machines report of vulnerabilities, as scanners read it."""
        return self._client.parts(f"/compliance/vex?{_asked(tags, release, search, form=form)}")

    def evidence(self, tags: Sequence[str] = (), release: str = "", search: str = "") -> dict[str, Any]:
        """Return the envelope with signed evidence about the machines that are meant."""
        return self._client.post(f"/compliance/evidence?{_asked(tags, release, search)}", None, dict[str, Any])

    def evidence_key(self) -> str:
        """Return the key that evidence is signed with."""
        return self._client.get("/compliance/evidence-key", dict[str, str])["key"]


def _asked(tags: Sequence[str], release: str, search: str, **more: str) -> str:
    given = {"release": release, "search": search, **more}
    return urlencode([("tag", tag) for tag in tags] + [(name, value) for name, value in given.items() if value])
