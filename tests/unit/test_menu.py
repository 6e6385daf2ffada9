"""The menu on a real terminal that can do nothing (`TERM=dumb`), and from a pipe."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

_COMMAND = ["-m", "hotmend", "menu"]
_FACTS = Path(__file__).parents[1] / "data" / "facts" / "october-2025.json"


def _environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    return {**kept, "TERM": "dumb", "LANG": "C.UTF-8", **more}


def _allow_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def terminal() -> Iterator[pexpect.spawn[str]]:
    child = pexpect.spawn(
        sys.executable,
        _COMMAND,
        env=_environment(),
        encoding="utf-8",
        timeout=60,
        dimensions=(24, 80),
        # Who runs the tests in the background may have Ctrl-C ignored, and children inherit that.
        preexec_fn=_allow_interrupts,
    )
    child.expect("Number: ")
    yield child
    child.close(force=True)


def test_choices_are_commands_and_wrong_ones_are_told(terminal: pexpect.spawn[str]) -> None:
    for wrong in ("99", "x", "-1", "1.5", "\u00df"):
        terminal.sendline(wrong)
        terminal.expect("There is no such choice: ")
        terminal.expect("Number: ")
    terminal.sendline("")
    terminal.expect("Number: ")
    terminal.sendline("8")
    terminal.expect("File: ")
    terminal.sendline(str(_FACTS))
    terminal.expect("> hotmend check ")
    terminal.expect("KB5066835")
    terminal.expect("Number: ")
    terminal.sendline("8")
    terminal.expect("File: ")
    terminal.sendline("/nowhere/at/all")
    terminal.expect(r"= 1 \(failed\)")
    terminal.expect("Number: ")
    terminal.sendline("0")
    terminal.expect(pexpect.EOF)
    assert terminal.wait() == 0
    assert "\x1b" not in str(terminal.before)


def test_what_changes_something_is_asked_once_more(terminal: pexpect.spawn[str], tmp_path: Path) -> None:
    for said in ("no", ""):
        terminal.sendline("4")
        terminal.expect("File: ")
        terminal.sendline(str(tmp_path / "none.hotmend"))
        terminal.expect("Do it")
        terminal.sendline(said)
        assert terminal.expect(["> hotmend apply", "Number: "]) == 1
    terminal.sendline("4")
    terminal.expect("File: ")
    terminal.sendline(str(tmp_path / "none.hotmend"))
    terminal.expect("Do it")
    terminal.sendline("yes")
    terminal.expect("> hotmend apply")
    terminal.expect(r"= [12] ")
    terminal.expect("Number: ")


def test_it_speaks_german(terminal: pexpect.spawn[str]) -> None:
    terminal.sendline("10")
    terminal.expect("Nummer: ")
    terminal.sendline("77")
    terminal.expect("Diese Auswahl gibt es nicht")


def test_the_end_of_the_input_and_control_c_leave(terminal: pexpect.spawn[str]) -> None:
    terminal.sendline("8")
    terminal.expect("File: ")
    terminal.sendeof()
    terminal.expect(pexpect.EOF)
    assert terminal.wait() == 0


def test_control_c_at_the_prompt_leaves(terminal: pexpect.spawn[str]) -> None:
    terminal.sendintr()
    terminal.expect(pexpect.EOF)
    assert terminal.wait() == 0


@pytest.mark.parametrize("said", [b"", b"9\n0\n", b"\xff\xfe\n0\n", b"0"])
def test_from_a_pipe_and_with_letters_the_terminal_cannot_show(said: bytes) -> None:
    done = subprocess.run(
        [sys.executable, *_COMMAND, "--language", "de"],
        input=said,
        capture_output=True,
        env=_environment(PYTHONIOENCODING="ascii"),
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"hotmend - " in done.stdout
