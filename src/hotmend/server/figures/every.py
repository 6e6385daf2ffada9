"""All figures that are kept."""

from __future__ import annotations

from typing import Any, Final

from hotmend.server.compliance import figures as compliance
from hotmend.server.figures.kept import Figure
from hotmend.server.issues import figures as issues
from hotmend.server.machines import figures as machines

FIGURES: Final[tuple[Figure[Any], ...]] = (
    machines.CHOICES,
    machines.SCOPES,
    machines.OVERVIEW,
    issues.ISSUES,
    compliance.VULNERABILITIES,
    compliance.DAYS_PAST,
    compliance.TIMES,
    *compliance.GROUPS.values(),
)
