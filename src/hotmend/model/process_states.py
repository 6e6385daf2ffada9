"""What the states that a change leaves processes in mean (`live.work.ProcessResult`)."""

from __future__ import annotations

from typing import Final

NEW_CODE: Final = frozenset({"applied", "unchanged", "would-apply"})
"""The process runs the new code, or would where nothing was to be written."""
