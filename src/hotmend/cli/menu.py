"""`hotmend menu`: the commands by number, for machines without a desktop. Lines in, lines out; any terminal will do.

There are no rules here and no other way to do anything: each choice becomes the arguments of a command, which is shown
and then run as if somebody had typed it. What changes something is asked once more.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from hotmend.cli.output import ExitCode
from hotmend.reference.texts import LANGUAGES, Reader, language_of
from hotmend.servicing.message import N_
from hotmend.windows.remedies import NAMES
from hotmend.windows.updates import CLASS_NAMES
from hotmend.windows.work import REBOOT_SETTINGS

INTERRUPTED: Final = 130
LINE_LETTERS_MAX: Final = 4096
_YES: Final = frozenset({"y", "yes", "j", "ja"})


class _Ended(Exception):
    """Standard input has ended."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the menu.

    Attributes:
        title: English; translated where it is shown.
        commands: asks what has to be known and returns the commands, each its arguments; none: nothing is done.
        changes: asked once more before it is run.
    """

    title: str
    commands: Callable[[Asker], Sequence[Sequence[str]]]
    changes: bool = False


class Asker:
    """Asks a person on a terminal, or whoever writes into standard input."""

    def __init__(self, reader: Reader, scratch: Path) -> None:
        self.reader = reader
        self.scratch = scratch

    def line(self, question: str) -> str:
        """Return one line, without space around it.

        Raises:
            _Ended: there are no more.
        """
        sys.stdout.write(f"{question}: ")
        sys.stdout.flush()
        said = sys.stdin.readline(LINE_LETTERS_MAX)
        if not said:
            sys.stdout.write("\n")
            raise _Ended
        return said.strip()

    def one_of(self, question: str, choices: Sequence[str], default: str = "") -> str:
        """Return one of several words, asked for by number or by itself; the default for an empty line."""
        shown = "  ".join(f"{number}) {self.reader.text(choice)}" for number, choice in enumerate(choices, 1))
        while True:
            said = self.line(f"{question}  {shown}" + (f"  [{default}]" if default else ""))
            if not said and default:
                return default
            if said in choices:
                return said
            if said.isdecimal() and 1 <= int(said) <= len(choices):
                return choices[int(said) - 1]
            self.wrong(said)

    def words(self, question: str) -> list[str]:
        """Return words with space or commas between them; none for an empty line."""
        return self.line(question).replace(",", " ").split()

    def sure(self) -> bool:
        """Return whether it is to be done."""
        return self.line(f"{self.reader.text('Do it? yes or no')} [no]").lower() in _YES

    def wrong(self, said: str) -> None:
        """Say that there is no such choice."""
        print(f"{self.reader.text('There is no such choice')}: {said[:60]!r}")


def _level(ask: Asker) -> list[list[str]]:
    facts = str(ask.scratch / "facts.json")
    return [["windows", "facts", "-o", facts], ["check", facts, "--language", ask.reader.language]]


def _install(ask: Asker) -> list[list[str]]:
    say = ask.reader.text
    chosen = ask.words(f"{say('Classes of updates')} ({', '.join(CLASS_NAMES)}) [critical security]")
    command = ["windows", "install", "--language", ask.reader.language]
    for name in chosen:
        command += ["--classification", name]
    for kb in ask.words(say("Exclude these KBs")):
        command += ["--exclude", kb]
    command += ["--reboot", ask.one_of(say("Reboot afterwards"), REBOOT_SETTINGS, "never")]
    return [[*command, "--dry-run"], command]


def _remedy(ask: Asker) -> list[list[str]]:
    say = ask.reader.text
    verb = ask.one_of(say("What"), ("verify", "apply", "undo"), "verify")
    remedy = ask.one_of(say("Remedy"), NAMES)
    command = ["windows", verb, remedy, "--language", ask.reader.language]
    if remedy == "client-policy" and verb != "undo":
        command += ["--reg", ask.line(say("Registration file"))]
    return [command]


def _uninstall(ask: Asker) -> list[list[str]]:
    return [["windows", "uninstall", kb, "--language", ask.reader.language] for kb in ask.words("KB")[:1]]


def _rollback(ask: Asker) -> list[list[str]]:
    setting = ask.one_of(ask.reader.text("Reboot afterwards"), REBOOT_SETTINGS, "never")
    return [["windows", "rollback", "--language", ask.reader.language, "--reboot", setting]]


def _file(*command: str) -> Callable[[Asker], list[list[str]]]:
    def asked(ask: Asker) -> list[list[str]]:
        name = ask.line(ask.reader.text("File"))
        return [[*command, name]] if name else []

    return asked


def _just(*command: str) -> Callable[[Asker], list[list[str]]]:
    return lambda _: [list(command)]


def _told(*command: str) -> Callable[[Asker], list[list[str]]]:
    return lambda ask: [[*command, "--language", ask.reader.language]]


ON_WINDOWS: Final = (
    Entry(N_("Update level, eligibility and forecast"), _level),
    Entry(N_("Recommended updates"), _told("windows", "assess")),
    Entry(N_("Install updates now"), _install, changes=True),
    Entry(N_("Update history"), _told("windows", "history")),
    Entry(N_("Uninstall an update"), _uninstall, changes=True),
    Entry(N_("Roll back to the last working baseline"), _rollback, changes=True),
    Entry(N_("Remedies"), _remedy, changes=True),
    Entry(N_("What was done here"), _just("windows", "history", "--actions")),
    Entry(N_("Azure Arc"), _told("arc", "status")),
    Entry(N_("Release calendar"), _told("calendar")),
)
ON_LINUX: Final = (
    Entry(N_("Hotpatches in memory"), _just("status")),
    Entry(N_("Images of running processes"), _just("ps")),
    Entry(N_("What this machine allows and lacks"), _just("doctor")),
    Entry(N_("Apply a hotpatch"), _file("apply"), changes=True),
    Entry(N_("Revert a hotpatch"), _file("revert"), changes=True),
    Entry(N_("Repair what was interrupted"), _just("repair"), changes=True),
    Entry(N_("Audit record"), _just("audit")),
    Entry(N_("Answers from a file of facts"), _file("check")),
    Entry(N_("Release calendar"), _told("calendar")),
)


@click.command("menu")
@click.option("--language", type=click.Choice(LANGUAGES), help="Of the menu (default: that of the locale).")
def menu_command(language: str | None) -> int:
    """Offer the commands by number, for machines without a desktop; any terminal will do."""
    for stream in (sys.stdin, sys.stdout):  # whatever a terminal sends, or cannot show, ends nothing
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    with tempfile.TemporaryDirectory(prefix="hotmend-menu-") as scratch:
        ask = Asker(Reader(language or language_of()), Path(scratch))
        try:
            _loop(ask, ON_WINDOWS if sys.platform == "win32" else ON_LINUX)
        except _Ended:
            return ExitCode.DONE
        except KeyboardInterrupt:
            print()
    return ExitCode.DONE


def _loop(ask: Asker, entries: Sequence[Entry]) -> None:
    """Show the menu and do what is chosen, until somebody leaves."""
    say = ask.reader.text
    languages = [each for each in LANGUAGES if each != ask.reader.language]
    while True:
        print(f"\nhotmend - {_machine_name()}\n")
        for number, entry in enumerate(entries, 1):
            print(f" {number:2}) {say(entry.title)}")
        print(f" {len(entries) + 1:2}) {say('Language')}: {', '.join(languages)}\n  0) {say('Leave')}\n")
        said = ask.line(say("Number"))
        if said == "0":
            return
        if said == str(len(entries) + 1):
            ask.reader = Reader(languages[0])
            say, languages = ask.reader.text, [each for each in LANGUAGES if each != ask.reader.language]
        elif said.isdecimal() and 1 <= int(said) <= len(entries):
            _do(ask, entries[int(said) - 1])
        elif said:
            ask.wrong(said)


def _do(ask: Asker, entry: Entry) -> None:
    """Run an entry's commands; those before the last one only look, and what they refuse is not gone on with."""
    *before, last = commands if (commands := entry.commands(ask)) else ([],)
    if not last:
        return
    for command in before:
        if _run(ask, command) not in {ExitCode.DONE, ExitCode.NOTHING_TO_DO}:
            return
    if entry.changes and not (_only_looks(last) or ask.sure()):
        return
    _run(ask, last)


def _only_looks(command: Sequence[str]) -> bool:
    return command[:2] == ["windows", "verify"]


def _run(ask: Asker, command: Sequence[str]) -> int:
    """Run a command as if it had been typed; a control-C ends the command, not the menu."""
    from hotmend.cli.main import run

    say = ask.reader.text
    print(f"\n> hotmend {' '.join(command)}")
    code = run(list(command))  # it turns a control-C into its exit code
    if code == INTERRUPTED:
        print(say("interrupted"))
    elif code != ExitCode.DONE:
        ends = {1: say("failed"), 2: say("wrong usage"), 3: say("nothing to do"), 4: say("refused")}
        print(f"= {code} ({ends.get(code, '')})")
    return code


def _machine_name() -> str:
    name = os.environ.get("COMPUTERNAME")  # Windows says it there
    if name:
        return name
    import platform

    return platform.node()
