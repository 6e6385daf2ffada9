"""What a signed channel offers, in short: as somebody verified it for a server, which keeps it for its pages."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class Offered(msgspec.Struct, frozen=True):
    """One release.

    Attributes:
        id, kind, title, made, classification, urgency, requires: as `repository.releases` has them.
        cves: that it fixes.
        packages: name, old and new version of each that it brings.
        issues: its known ones: `title`, `since`, `workaround`, `resolved_by`.
        withdrawn: why; None for one that stands.
    """

    id: str
    kind: str
    title: str
    made: datetime
    classification: str
    urgency: str
    requires: str
    cves: list[str]
    packages: list[tuple[str, str, str]]
    issues: list[dict[str, Any]]
    withdrawn: str | None
