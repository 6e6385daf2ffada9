"""The error classes of hotmend. A refusal is not among them: a refusal is a value (`model.verdict`)."""

from __future__ import annotations


class HotmendError(Exception):
    """Something failed; the message says what, and `hint` what a person can do about it.

    Where values are given, message and hint have places for them, `{name}`, and are what translations are looked up by;
    without values both are taken as they are.

    Attributes:
        text, hint_text: message and hint before the values are put in.
        values: by name: str, int, date, datetime or a tuple of str.
        hint: in English, with its values.
    """

    def __init__(self, text: str, hint: str = "", /, **values: object) -> None:
        super().__init__(text.format(**values) if values else text)
        self.text, self.hint_text, self.values = text, hint, values
        self.hint = hint.format(**values) if values else hint


class UsageError(HotmendError):
    """The request itself makes no sense; exit code 2."""


class InputError(HotmendError):
    """A file is not what it should be: not ELF, truncated, hostile, another architecture."""


class FetchError(HotmendError):
    """A package could not be fetched from the archive."""


class RemoteError(HotmendError):
    """A service elsewhere refuses, fails or does not answer."""


class ProcessGoneError(HotmendError):
    """The process ended while it was looked at or worked on."""


class PermissionRefusedError(HotmendError):
    """The kernel does not let this user look at or change the process."""


class SystemCallError(HotmendError):
    """A call to Windows failed in a way nothing here foresees."""


class KernelError(HotmendError):
    """A system call failed in a way nothing here foresees."""
