"""Compliance, over the API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from hotmend.fleet.client import Client


class Compliance:
    """Signed evidence. Every method raises as `Client.get`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def evidence(self, tags: Sequence[str] = (), release: str = "", search: str = "") -> dict[str, Any]:
        """Return the envelope with signed evidence about the machines that are meant."""
        asked = [("tag", tag) for tag in tags]
        asked += [(name, value) for name, value in (("release", release), ("search", search)) if value]
        return self._client.post(f"/compliance/evidence?{urlencode(asked)}", None, dict[str, Any])

    def evidence_key(self) -> str:
        """Return the key that evidence is signed with."""
        return self._client.get("/compliance/evidence-key", dict[str, str])["key"]
