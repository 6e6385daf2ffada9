"""What each line of the requirements is traced by: a command, and what is taken from its answer; no value is typed."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from icalendar import Calendar as ICalendar

from tests.traceability import Output, ran

CASES = "tests/data/facts/cases"
AT = ("--at", "2025-10-26T09:00:00+01:00")
LATER = ("--at", "2026-11-28T09:00:00+01:00")
DEBIAN = ("--calendar", f"{CASES}/debian-12.csv")

Seen = tuple[str, str]
"""What is the same in all languages, and what is said in one of them."""


@dataclass(frozen=True, slots=True)
class Trace:
    """One observation.

    Attributes:
        line: of the requirements.
        asked: what it asks for.
        arguments: of `hotmend`, without `--json` and `--language`.
        observe: what is taken from the output.
        as_json: `--json` is added.
    """

    line: str
    asked: str
    arguments: tuple[str, ...]
    observe: Callable[[Output], Seen]
    as_json: bool = True

    def told(self) -> tuple[str, str]:
        """Run it in both languages; return the command as typed, and what was observed."""
        arguments = (*self.arguments, *(["--json"] if self.as_json else []))
        code, english = self.observe(ran(*arguments, "--language", "en"))
        german = self.observe(ran(*arguments, "--language", "de"))[1]
        said = [english] if english == german else [english, german]
        return shlex.join(["hotmend", *arguments]), "\n".join(filter(None, [code, *said]))


def check(case: str, *more: str, at: tuple[str, str] = AT) -> tuple[str, ...]:
    """Return the arguments of a check of a case."""
    return ("check", f"{CASES}/{case}.json", *at, *more)


def debian(case: str, *more: str) -> tuple[str, ...]:
    """Return the arguments of a check of a Debian case, with a calendar of manifests."""
    return check(f"debian-{case}", *DEBIAN, *more, at=LATER)


_WORDS = {True: "yes", False: "no", None: "unknown"}


def _texts(causes: list[Any]) -> str:
    return " ".join(each["text"] for each in causes)


def eligible(output: Output) -> Seen:
    """May it be hot-patched, and why not?"""
    answer = output.json
    codes = ", ".join(each["code"] for each in answer["causes"])
    return f"{answer['product']}, eligible: {_WORDS[answer['eligible']]} ({codes})", _texts(answer["causes"])


def prerequisite(*names: str) -> Callable[[Output], Seen]:
    """What was found of prerequisites, with the remedy and its commands."""

    def observe(output: Output) -> Seen:
        found = [each for each in output.json["prerequisites"] if each["name"] in names]
        assert len(found) == len(names)
        codes = ", ".join(f"{each['name']}: {_WORDS[each['holds']]}" for each in found)
        commands = [command for each in found if each["remedy"] for command in each["remedy"]["commands"]]
        return "; ".join([codes, *commands]), " ".join(map(_found, found))

    return observe


def _found(prerequisite: Any) -> str:
    remedy = prerequisite["remedy"]
    return f"{prerequisite['found']} → {remedy['title']}. {remedy['verify']}" if remedy else prerequisite["found"]


def enrollment(output: Output) -> Seen:
    """Where enrollment stands, why, and what comes next."""
    answer = output.json
    remedy = answer["enrollment_remedy"]
    text = _texts(answer["enrollment_causes"]) + (f" → {remedy['title']}" if remedy else "")
    return f"{answer['enrollment']}; next hotpatch {answer['forecast']['next_hotpatch']}", text


def level(output: Output) -> Seen:
    """Which baseline and hotpatch, and on which line."""
    found = output.json["level"]
    parts = [f"{name} {found[name]['id'] if found[name] else '–'}" for name in ("baseline", "hotpatch")]
    return f"line {found['line']}, {', '.join(parts)}", _texts(found["causes"])


def effects(output: Output) -> Seen:
    """What installing updates would do."""
    answer = output.json
    told = [f"{each['id']}: {each['outcome']}" for each in answer["effects"]]
    codes = f"{', '.join(told)}; then line {answer['level_after']['line']}; exit code {output.code}"
    return codes, " ".join(_texts(each["causes"]) for each in answer["effects"])


def forecast(output: Output) -> Seen:
    """What is due, without and with a workaround."""
    found = output.json["forecast"]
    codes = f"to {found['until']}: {_due(found['due'])}"
    if found["due_with_workaround"] != found["due"]:
        codes += f"; with a workaround: {_due(found['due_with_workaround'])}"
    return codes, " ".join(dict.fromkeys(each["cause"]["text"] for each in found["due"]))


def _due(due: list[Any]) -> str:
    counts = [f"{need}s {sum(each['need'] == need for each in due)}" for need in ("reboot", "restart")]
    days = ", ".join(f"{each['day']} {each['need']}" for each in due)
    return f"{', '.join(counts)} ({days})" if days else ", ".join(counts)


def avoided(output: Output) -> Seen:
    """Reboots and restarts avoided, apart from those still due."""
    found, due = output.json["avoided"], output.json["forecast"]["due"]
    return f"avoided: reboots {found['reboots']}, restarts {found['restarts']}; due: {_due(due)}", ""


def exposure(output: Output) -> Seen:
    """How long each fix took from its publication to the machine."""
    days = output.json["avoided"]["exposure_days"]
    return ", ".join(f"{name} {count} d" for name, count in days), ""


def issues(output: Output) -> Seen:
    """Known issues with deadline, and whether a workaround is done."""
    codes, texts = [], []
    for each in output.json["issues"]:
        done = [option["remedy"] or option["id"] for option in each["options"] if option["done"]]
        deadline = f", deadline {each['deadline']}" if each["deadline"] else ""
        codes.append(f"{each['id']}{deadline}, done: {', '.join(done) or 'nothing'}")
        texts.append(f"{each['title']} {each['cost']}")
    return "; ".join(codes) or "none", " ".join(texts)


def steps(option: int) -> Callable[[Output], Seen]:
    """The steps of a workaround in order, each with whether it is proven."""

    def observe(output: Output) -> Seen:
        (found,) = [each for each in output.json["issues"] if each["id"] == "october-2025-licence"]
        chosen = found["options"][option]
        proven = ", ".join(_WORDS[each["proven"]] for each in chosen["steps"])
        titles = "; ".join(f"{number}. {each['title']}" for number, each in enumerate(chosen["steps"], 1))
        return f"{chosen['remedy']}: steps proven {proven}; done: {_WORDS[chosen['done']]}", titles

    return observe


def choices(output: Output) -> Seen:
    """What happens with each offered update."""
    found = output.json["maintenance"]
    told = ", ".join(f"{each['id']}: {each['deed']}" for each in found["choices"])
    texts = dict.fromkeys(each["cause"]["text"] for each in found["choices"])
    return f"{told}; assessed {found['assessed_at']}", " ".join(texts)


def windows_open(output: Output) -> Seen:
    """The next maintenance windows in the machine's zone."""
    found = output.json["maintenance"]
    times = ", ".join(f"{each['start']} to {each['end']}" for each in found["windows"])
    return f"{found['zone']}: {times}", found["cause"]["text"]


def managers(output: Output) -> Seen:
    """What else manages the machine."""
    return ", ".join(f"{name} ({text})" for name, text in output.json["managers"].items()), ""


def plan(output: Output) -> Seen:
    """What to do, in order."""
    steps = output.json["plan"]
    return f"{len(steps)} steps", " ".join(f"{number}. {each}" for number, each in enumerate(steps, 1))


def headings(output: Output) -> Seen:
    """The headings of the status of a machine."""
    lines = [line.partition(":")[0].partition(" (")[0] for line in output.text.splitlines() if line[:1].strip()]
    return f"{len(output.text.splitlines())} lines", ", ".join(dict.fromkeys(lines))


def cycle(output: Output) -> Seen:
    """Months and kinds of releases."""
    return ", ".join(f"{each['month']} {each['kind']} {each['id']}" for each in output.rows), ""


def unplanned(output: Output) -> Seen:
    """The unplanned baselines among releases."""
    return ", ".join(f"{each['day']} {each['id']}" for each in output.rows if each["kind"] == "unplanned_baseline"), ""


def first_row(output: Output) -> Seen:
    """The oldest row, and how sure the calendar is of its rows."""
    first, rows = output.rows[0], output.rows
    sure = {word: sum(each["confidence"] == word for each in rows) for word in ("high", "medium", "low")}
    told = f"{first['day']} {first['label']} {first['kind']}, confidence {first['confidence']}"
    return f"{told}; {len(rows)} rows: {', '.join(f'{count} {word}' for word, count in sure.items())}", ""


def icalendar(output: Output) -> Seen:
    """What a reader of iCalendar finds."""
    events = ICalendar.from_ical(output.text).walk("VEVENT")
    return f"{len(events)} events", str(events[0]["SUMMARY"])


def atom(output: Output) -> Seen:
    """What a reader of Atom finds."""
    space = "{http://www.w3.org/2005/Atom}"
    entries = list(ElementTree.fromstring(output.text.encode()).iter(f"{space}entry"))
    return f"{len(entries)} entries", entries[0].findtext(f"{space}title") or ""


def page(output: Output) -> Seen:
    """What a reader of the page finds."""
    return f"{output.text.count('<tr class=')} rows", output.text.partition("<h1>")[2].partition("</h1>")[0]
