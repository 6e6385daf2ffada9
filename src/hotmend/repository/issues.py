"""A known issue as its publisher writes it: a title, and a TOML text with the rest."""

from __future__ import annotations

import tomllib
from datetime import datetime
from typing import Final

import msgspec

from hotmend.model.errors import InputError
from hotmend.repository.releases import KnownIssue

ISSUE_BYTES_MAX: Final = 32 << 10


def known_issue(
    title: str, since: datetime, workaround: str, text: str, source: str, resolved_by: str = ""
) -> KnownIssue:
    """Return a known issue of a release.

    Args:
        title: as in `KnownIssue`.
        since: as in `KnownIssue`.
        workaround: as in `KnownIssue`.
        text: TOML with `affected`, `options`, `deadline` and `cost`, each where there is one.
        source: what the text is called in errors.
        resolved_by: the release that ends it.

    Raises:
        InputError: not TOML, not this form, or a condition says nothing or asks for what does not exist.
    """
    try:
        given = tomllib.loads(text)
        if own := sorted(given.keys() & {"title", "since", "workaround", "resolved_by"}):
            raise InputError(f"{source}: `{own[0]}` has no place here")
        words = {"title": title, "since": since, "workaround": workaround, "resolved_by": resolved_by}
        made = msgspec.convert({**words, **given}, KnownIssue)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, RecursionError) as error:
        raise InputError(f"{source}: {error}") from None
    if len(msgspec.json.encode(made)) > ISSUE_BYTES_MAX:
        raise InputError(f"{source}: longer than {ISSUE_BYTES_MAX} bytes, for which reports of machines have no room")
    return made
