"""The portal's texts in the reader's language; sentences of the servicing rules come from their own catalogue."""

from __future__ import annotations

import gettext
import io
from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Final

from babel import negotiate_locale
from babel.dates import format_timedelta
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal
from starlette.requests import Request

from hotmend.reference.texts import LANGUAGES, Reader
from hotmend.servicing.message import N_, Message

COOKIE: Final = "hotmend_language"
NAMES: Final = {"en": "English", "de": "Deutsch"}

CODES: Final[dict[str, str]] = {
    "pending": N_("waits for approval"),
    "active": N_("active"),
    "suspect": N_("suspect: two hosts have its key"),
    "left": N_("offboarded"),
    "canary": N_("canary"),
    "stable": N_("stable"),
    "linux": N_("Linux"),
    "windows": N_("Windows"),
    "on": N_("on the line"),
    "off": N_("off the line"),
    "unknown": N_("not known"),
    "in-memory": N_("fixed in memory, old on disk"),
    "everywhere": N_("fixed in memory and on disk"),
    "on-disk": N_("fixed on disk, old in memory"),
    "nowhere": N_("not fixed"),
    "assess": N_("assessment"),
    "install": N_("installation"),
    "revert": N_("revert"),
    "quarantine": N_("quarantine"),
    "lift": N_("end of a quarantine"),
    "SCHEDULED": N_("planned"),
    "WAITING_WINDOW": N_("waits for its window"),
    "PRECHECK": N_("checks before the start"),
    "PRE_EVENT": N_("event before the start"),
    "DOWNLOADING": N_("downloads"),
    "VERIFYING": N_("verifies"),
    "APPLYING": N_("applies"),
    "HEALTH_CHECK": N_("checks the health"),
    "WAITING_SLOT": N_("waits for a restart slot"),
    "RESTARTING": N_("restarts"),
    "RECOVERING": N_("recovers"),
    "POST_EVENT": N_("event after the end"),
    "SUCCEEDED": N_("succeeded"),
    "SUCCEEDED_WITH_WARNINGS": N_("succeeded with warnings"),
    "FAILED": N_("failed"),
    "ROLLED_BACK": N_("rolled back"),
    "CANCELED": N_("canceled"),
    "TIMED_OUT": N_("not begun or ended in time"),
    "WINDOW_EXCEEDED": N_("window exceeded"),
    "BLOCKED": N_("blocked"),
    "NOT_APPLICABLE": N_("not applicable"),
    "ALREADY_INSTALLED": N_("installed already"),
    "NOT_ENROLLED": N_("not enrolled"),
    "PENDING": N_("in progress"),
    "ENABLED": N_("enabled"),
    "DISABLED": N_("disabled"),
    "ACTION_REQUIRED": N_("action required"),
    "deed-install": N_("is installed"),
    "deed-ask": N_("is offered, and asked for"),
    "deed-list": N_("is listed only"),
    "deed-exclude": N_("is excluded"),
    "update": N_("update"),
    "hotpatch": N_("hotpatch"),
    "installed": N_("installed"),
    "pending-reboot": N_("waits for a reboot"),
    "failed": N_("failed"),
    "uninstalled": N_("uninstalled"),
    "in force": N_("in force"),
    "taken back": N_("taken back"),
    "CREATING": N_("is made"),
    "WAITING_FOR_APPROVAL": N_("waits for approval"),
    "READY": N_("ready"),
    "STARTING": N_("starts"),
    "RUNNING": N_("runs"),
    "PAUSED": N_("paused"),
    "STOPPING": N_("is being stopped"),
    "STOPPED": N_("stopped"),
    "FINISHED": N_("finished"),
    "ROLLING_BACK": N_("is being rolled back"),
    "SOAKING": N_("is watched"),
    "ERROR": N_("went wrong"),
    "normal": N_("normal lane"),
    "zero-day": N_("zero-day lane: two people, no window"),
    "planned": N_("planned"),
    "scheduled": N_("begins by itself"),
    "unscheduled": N_("does not begin by itself any more"),
    "approval": N_("a yes was said"),
    "approved": N_("approved"),
    "started": N_("started"),
    "began": N_("began"),
    "paused": N_("paused"),
    "resumed": N_("goes on"),
    "stopped": N_("stopped"),
    "settled": N_("has settled"),
    "completed": N_("completed"),
    "group planned": N_("ring planned"),
    "group approved": N_("ring approved"),
    "group began": N_("ring began"),
    "group ended": N_("ring has ended"),
    "group passed": N_("ring has passed"),
    "group failed": N_("ring has failed"),
    "brake": N_("brake"),
    "brake released": N_("brake released"),
    "grace": N_("waits for machines after an outage"),
    "begun": N_("machines begin"),
    "joined": N_("machines join"),
    "reverts": N_("reverts"),
    "looks": N_("a look after the soak"),
    "pre-event": N_("asked before the ring"),
    "post-event": N_("asked after the ring"),
    "pre-event allowed": N_("allowed before the ring"),
    "pre-event denied": N_("denied before the ring"),
    "post-event allowed": N_("allowed after the ring"),
    "post-event denied": N_("denied after the ring"),
    "window-closed": N_("no open window"),
    "window-too-short": N_("too little time left in the window"),
    "window-without-word": N_("the open window waits for a word"),
    "time-zone-unknown": N_("time zone not known"),
    "budget-used": N_("enough machines of the ring are being changed"),
    "machine-busy": N_("is being changed already"),
    "partner-busy": N_("the other machine of its pair is being changed"),
    "set-unknown": N_("size of its set not known"),
    "share-used": N_("enough machines of its set are being changed"),
    "baseline": N_("baseline"),
    "unplanned_baseline": N_("unplanned baseline"),
    "class-security": N_("security"),
    "class-non-security": N_("not security"),
    "urgency-unknown": N_("urgency not known"),
    "urgency-low": N_("low urgency"),
    "urgency-medium": N_("medium urgency"),
    "urgency-high": N_("high urgency"),
    "urgency-critical": N_("critical"),
    "event-enrolled": N_("enrolled"),
    "event-approved": N_("approved"),
    "event-uploaded": N_("facts uploaded"),
    "event-clone": N_("a clone?"),
    "event-key-changed": N_("another key"),
    "event-suspect": N_("suspect"),
    "event-left": N_("has left"),
    "event-action": N_("action planned"),
    "event-level": N_("level"),
    "due-waiting": N_("updates wait"),
    "due-restarts_due": N_("a restart of services is due"),
    "due-reboot_due": N_("a reboot is due"),
    "due-alerts": N_("something is not as it should be"),
    "viewer": N_("viewer"),
    "operator": N_("operator"),
    "approver": N_("approver"),
    "admin": N_("administrator"),
}
"""What codes of the database are called. Others are told by the catalogue of the servicing rules."""


TOLD: Final = (
    N_("another machine has the same /etc/machine-id; is it a clone?"),
    N_("a machine like it is known, and its key has not signed for this one; installed anew, or a clone?"),
    N_("its registration key asks for approval"),
    N_("it waits for approval"),
    N_("two hosts sign with this machine's key"),
    N_("the key is on another host than the one that was taken in"),
    N_("the brake is on"),
    N_("the machine has left"),
    N_("the machine has left, and has not said what came of it"),
    N_("the rollout was paused"),
    N_("the rollout was stopped"),
    N_("the rollout was taken back"),
    N_("the rollout is taken back"),
    N_("the machine was not there in time"),
    N_("it was not begun in time"),
)
"""What the server writes into rows in English, and pages say in the reader's language."""


class Words:
    """Texts for one reader.

    Attributes:
        language: `en` or `de`.
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self._texts = _translations(language)
        self._reader = Reader(language)

    def say(self, text: str, **values: object) -> str:
        """Return a text of the portal, or of the rules, with values in its places."""
        found = self._texts.gettext(text) if text else ""
        if found == text:
            found = self._reader.text(text)
        return found.format(**{name: self._value(each) for name, each in values.items()}) if values else found

    def code(self, code: str) -> str:
        """Return what people call a code."""
        return self.say(CODES.get(code, code))

    def write(self, message: Message) -> str:
        """Return a sentence of the rules, or of the server."""
        return self._reader.write(Message(self._texts.gettext(message.text), message.values))

    def day(self, day: date) -> str:
        """Return a date."""
        return self._reader.day(day)

    def moment(self, moment: datetime) -> str:
        """Return a time with its offset."""
        return self._reader.moment(moment)

    def ago(self, moment: datetime, now: datetime) -> str:
        """Return how long ago a moment is."""
        since = max(now - moment, timedelta(seconds=1))
        return format_timedelta(-since, add_direction=True, locale=self.language)

    def number(self, number: float) -> str:
        """Return a number."""
        return str(format_decimal(number, locale=self.language))

    def _value(self, value: object) -> str:
        match value:
            case datetime():
                return self.moment(value)
            case date():
                return self.day(value)
            case bool() | str():
                return str(value)
            case int() | float():
                return self.number(value)
        return str(value)


@cache
def words(language: str) -> Words:
    """Return the texts of a language."""
    return Words(language)


def language_of(request: Request) -> str:
    """Return the language of a request: the one that was chosen, or else the one that the browser asks for."""
    chosen = request.cookies.get(COOKIE, "")
    if chosen in LANGUAGES:
        return chosen
    asked = [part.partition(";")[0].strip() for part in request.headers.get("accept-language", "")[:200].split(",")]
    return negotiate_locale([each for each in asked if each], LANGUAGES, sep="-") or "en"


@cache
def _translations(language: str) -> gettext.NullTranslations:
    file = files("hotmend.server.portal") / "locale" / f"{language}.po"
    if not file.is_file():  # English is what the texts are written in
        return gettext.NullTranslations()
    with file.open("rb") as source:
        catalog = read_po(source, locale=language)
    compiled = io.BytesIO()
    write_mo(compiled, catalog)
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)


Say = Callable[..., str]
