"""What leaves a machine in a bundle for support, and what does not.

The rule, which docs/monitoring.md has in words:

* Of the configuration only names of settings, numbers, truths and words that are hotmend's own are kept.
* Command lines, and what commands printed, are left out of every record.
* Names of this and of known machines, of domains and of people, and addresses of networks, hardware and mail become
  numbered stand-ins, the same one each time, wherever they stand. What stands behind a word such as `password` is left
  out.
* Whatever was left out of the configuration, and values of options in command lines, are left out of all other texts.

What is left is text: whoever sends it can read it first.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import parse_qsl, urlsplit

OUT: Final = "[left out]"
_WORDS_KEPT: Final = frozenset(
    {
        "mode", "reboot", "rule", "zone", "kind", "tier", "exdate", "classifications", "include", "exclude",
        "classification", "start", "until", "from",
    }
)  # fmt: skip
"""Settings whose words are kept: modes, times, and names of the distribution's packages."""

_FIELDS_OUT: Final = frozenset({"command_line", "patcher_command_line", "environment", "command"})
_OUTPUT = re.compile(r"((?:exit code|signal) \d+: ).*", re.DOTALL)
_SECRET_LETTERS_MIN: Final = 4

_MAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_UNIT_ENDS: Final = (".service", ".scope", ".slice", ".socket", ".timer", ".target", ".mount")
_AUTHORITY = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*://)(?P<authority>[^/\s\"'<>?#]+)(?P<rest>[^\s\"'<>]*)")
_HARDWARE = re.compile(r"(?<![0-9A-Fa-f:])[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}(?![0-9A-Fa-f:])")
_ADDRESS = re.compile(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f.]*)(?![\w:])")
_HOME = re.compile(r"(/home/|/run/user/|/var/spool/mail/)([^/\s\"',;:)]+)")
_CREDENTIAL = re.compile(
    r"(?i)(\b(?:pass(?:word|wd|phrase)?|secret|token|api[_-]?key|authorization|bearer|credential)s?\b[\"']?\s*[:=]?\s*[\"']?"
    r"(?:bearer\s+|basic\s+)?)([^\s\"',;&]{3,})"
)


class Redactor:
    """Takes out what must not leave, with the same stand-in for the same thing each time.

    Args:
        hosts: names of machines and domains.
        people: names of users.
        harmless: names of units, commands, packages and files of the distribution, which are never hidden.
    """

    def __init__(self, hosts: Iterable[str], people: Iterable[str], harmless: Iterable[str] = ()) -> None:
        self._numbers: dict[tuple[str, str], str] = {}
        self._hosts = _any_of(hosts, ignore_case=True)
        self._people = _any_of(people)
        self._harmless = frozenset(harmless)
        self._texts: set[str] = set()
        self._hidden: re.Pattern[str] | None = None

    def hide(self, texts: Iterable[str]) -> None:
        """Leave these texts out from now on, and the values of options in them."""
        for text in texts:
            for each in (text, *_option_values(text)):
                plain = each.strip("\"'")
                if len(plain) >= _SECRET_LETTERS_MIN and plain not in self._harmless and not plain.startswith("-"):
                    self._texts.add(plain)
        ordered = sorted(self._texts, key=len, reverse=True)
        self._hidden = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def text(self, text: str) -> str:
        """Return a text without what must not leave."""
        text = _OUTPUT.sub(rf"\1{OUT}", text)
        if self._hidden is not None:
            text = self._hidden.sub(OUT, text)
        text = _AUTHORITY.sub(lambda m: f"{m['scheme']}{self._stand_in('host', m['authority'])}/{OUT}", text)
        text = _CREDENTIAL.sub(rf"\1{OUT}", text)
        text = _MAIL.sub(lambda m: m[0] if m[0].endswith(_UNIT_ENDS) else self._stand_in("mail", m[0]), text)
        text = _HARDWARE.sub(lambda m: self._stand_in("hardware", m[0].lower()), text)
        text = _ADDRESS.sub(lambda m: self._address(m[0]), text)
        text = _HOME.sub(lambda m: m[1] + self._stand_in("user", m[2]), text)
        if self._hosts is not None:
            text = self._hosts.sub(lambda m: self._stand_in("host", m[0].lower()), text)
        if self._people is not None:
            text = self._people.sub(lambda m: self._stand_in("user", m[0]), text)
        return text

    def value(self, value: object, field: str = "") -> object:
        """Return what JSON holds without what must not leave; what is a command line is left out whole."""
        if field in _FIELDS_OUT:
            self.hide(_strings(value))
            return OUT if value else value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {str(key): self.value(each, str(key)) for key, each in value.items()}
        return [self.value(each) for each in value] if isinstance(value, list | tuple) else value

    def settings(self, value: object, name: str = "") -> object:
        """Return a configuration of which only harmless words are kept; the others are hidden everywhere."""
        if isinstance(value, Mapping):
            return {str(key): self.settings(each, str(key)) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.settings(each, name) for each in value]
        if isinstance(value, bool | int | float) or value is None:
            return value
        if name in _WORDS_KEPT:
            return self.text(str(value))
        self.hide([str(value)])
        return OUT

    def _address(self, text: str) -> str:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return text
        if address.is_loopback or address.is_unspecified:
            return text
        return self._stand_in("address", str(address))

    def _stand_in(self, kind: str, text: str) -> str:
        if (kind, text) not in self._numbers:
            count = sum(known == kind for known, _ in self._numbers)
            self._numbers[kind, text] = f"{kind}-{count + 1}"
        return self._numbers[kind, text]


def _option_values(command_line: str) -> list[str]:
    """Return what stands behind options and equals signs: secrets are given to programs in this way."""
    words = command_line.split()
    found = [word.partition("=")[2] for word in words if "=" in word]
    found += [word for option, word in itertools.pairwise(words) if option.startswith("-") and "=" not in option]
    found += [word[2:] for word in words if word.startswith("-") and not word.startswith("--")]
    for word in words:
        if "://" in word:
            found += _secrets_of(word)
    return found


def _secrets_of(address: str) -> list[str]:
    """Return host, user, password and values of questions of a URL; nothing where it is none."""
    try:
        parts = urlsplit(address)
        asked = [value for _, value in parse_qsl(parts.query)]
        return [text for text in (parts.hostname, parts.username, parts.password, *asked) if text]
    except ValueError:
        return []


def _strings(value: object) -> list[str]:
    if isinstance(value, list | tuple):
        return [text for each in value for text in _strings(each)]
    return [value] if isinstance(value, str) else []


def _any_of(names: Iterable[str], *, ignore_case: bool = False) -> re.Pattern[str] | None:
    """Return what finds any of the names as a word; None where there are none. Longer ones come first."""
    wanted = sorted({name for name in names if len(name) > 1}, key=len, reverse=True)
    if not wanted:
        return None
    flags = re.IGNORECASE if ignore_case else 0
    return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, wanted))})(?![\w-])", flags)
