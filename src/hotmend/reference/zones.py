"""Time zones as Windows calls them: Unicode's table of names, which Babel carries."""

from __future__ import annotations

from babel.core import get_global


def zone_of_windows(name: str) -> str | None:
    """Return the IANA name of a zone that Windows calls `name`, such as `W. Europe Standard Time`; None for others."""
    found = get_global("windows_zone_mapping").get(name)
    return str(found) if found else None
