"""What `hotmend windows ... --json` prints. The fields are documented in docs/commands.md; a test compares both."""

from __future__ import annotations

import msgspec

from hotmend.cli.shapes import ReasonShape


class RemedyShape(msgspec.Struct, frozen=True):
    """`hotmend windows apply`, `verify` and `undo`."""

    remedy: str
    standing: str
    changed: int
    sentences: tuple[str, ...]
    reasons: tuple[ReasonShape, ...]
    action: str | None
    exports: tuple[str, ...]
