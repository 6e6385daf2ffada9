"""Recognise texts that say the same but for versions, dates and line numbers.

A security update changes its own version string, and moves the line numbers that assertions print. Nothing a
process does depends on them, so that neither makes its users changed functions.
"""

from __future__ import annotations

import re

_MONTH = rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_TOKENS = re.compile(
    rb"(?P<line>(?<=\.[ch]:)\d+|(?<=\.cc:)\d+|(?<=\.cpp:)\d+)"
    rb"|(?P<day>\d{1,2} " + _MONTH + rb"[a-z]* \d{4}|" + _MONTH + rb"[a-z]* +\d{1,2} \d{4})"
    rb"|(?P<date>\d{4}[-/]\d\d[-/]\d\d(?:[T ]\d\d:\d\d(?::\d\d)?Z?)?)"
    rb"|(?P<time>\d\d:\d\d:\d\d)"
    # Three numbers, or a Debian revision: two (protocols, rates) and four (addresses) may mean something.
    rb"|(?P<version>(?<![\w%.])\d+\.\d+(?:\.\d+(?:[-+~][\w.+~-]*)?|[-+~][\w.+~-]*deb\d+u\d+[\w.+~-]*)(?![\w.]))"
)


def same_but_for_versions(old: bytes, new: bytes) -> bool:
    """Return whether two texts differ only in version numbers, dates, times and source line numbers.

    Format strings that differ in a width or a precision do not count: what follows a `%` is never a version.
    """
    if old == new or re.findall(rb"%[^a-zA-Z%]*[a-zA-Z%]", old) != re.findall(rb"%[^a-zA-Z%]*[a-zA-Z%]", new):
        return False
    return _skeleton(old) == _skeleton(new)


def _skeleton(text: bytes) -> bytes:
    return _TOKENS.sub(lambda match: b"<" + (match.lastgroup or "").encode() + b">", text)
