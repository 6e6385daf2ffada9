"""A known issue as its publisher writes it: a title, and a TOML text with the rest."""

from __future__ import annotations

import tomllib
from datetime import datetime

import msgspec

from hotmend.model.errors import InputError
from hotmend.repository.releases import KnownIssue


def known_issue(title: str, since: datetime, workaround: str, text: str, source: str) -> KnownIssue:
    """Return a known issue of a release.

    Args:
        title: as in `KnownIssue`.
        since: as in `KnownIssue`.
        workaround: as in `KnownIssue`.
        text: TOML with `affected`, `options`, `deadline` and `cost`, each where there is one.
        source: what the text is called in errors.

    Raises:
        InputError: not TOML, not this form, or a condition says nothing or asks for what does not exist.
    """
    try:
        given = tomllib.loads(text)
        if own := sorted(given.keys() & {"title", "since", "workaround", "resolved_by"}):
            raise InputError(f"{source}: `{own[0]}` has no place here")
        return msgspec.convert({"title": title, "since": since, "workaround": workaround, **given}, KnownIssue)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise InputError(f"{source}: {error}") from None
