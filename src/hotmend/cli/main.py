"""The `hotmend` command: its subcommands, and what happens to errors."""

from __future__ import annotations

import contextlib
import importlib
import io
import itertools
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

import click

from hotmend import __version__
from hotmend.cli.errors import error_told, part_missing, usage_told
from hotmend.cli.output import ExitCode, print_error
from hotmend.model.errors import HotmendError, UsageError

if TYPE_CHECKING:
    from hotmend.reference.texts import Reader

INTERRUPTED = 130
"""Exit code after control-C, as shells have it."""

DEBUG_VARIABLE = "HOTMEND_DEBUG"
"""Environment variable: when set, unexpected errors come with a traceback."""


_ANYWHERE = ("arc", "calendar", "check", "enroll", "menu", "windows")
_ON_LINUX = (
    "build",
    "inspect",
    "verify",
    "ps",
    "apply",
    "status",
    "revert",
    "repair",
    "watch",
    "upgrade",
    "apt-hook",
    "agent",
    "hold",
    "audit",
    "survey",
    "channel",
    "publish",
    "explain",
    "metrics",
    "nagios",
    "readiness",
    "restarts",
    "support",
    "timeline",
    "vex",
    "doctor",
    "fleet",
    "server",
    "symbols",
)
_COMMANDS = (*_ANYWHERE, *(() if sys.platform == "win32" else _ON_LINUX))
"""Each stands in the module of its name as `NAME_command`, with `_` for `-`."""


def _identifier(command: str) -> str:
    return command.replace("-", "_")


class _OnDemand(click.Group):
    """A group that imports a command when it is asked for: building needs no ptrace, applying no decoder."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted({*_COMMANDS, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name, or None."""
        if cmd_name in _COMMANDS and cmd_name not in self.commands:
            module = importlib.import_module(f"hotmend.cli.{_identifier(cmd_name)}")
            self.add_command(getattr(module, f"{_identifier(cmd_name)}_command"))
        return super().get_command(ctx, cmd_name)


@click.group(cls=_OnDemand, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="hotmend")
def hotmend() -> None:
    """Change the code of running processes from two stock builds, and back.

    \b
    Exit codes: 0 done, 1 failed, 2 usage, 3 nothing to do, 4 refused.
    """  # noqa: D301 - \b keeps click from joining the lines


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command with `arguments`, or those of the process, and exit."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code. Every error becomes a message; nothing is raised."""
    given = sys.argv[1:] if arguments is None else arguments
    if sys.platform == "win32":
        for stream in (sys.stdout, sys.stderr):  # into a pipe they would write in the machine's own code page
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(encoding="utf-8", errors="replace")
    try:
        result: Any = hotmend.main(given, prog_name="hotmend", standalone_mode=False)
        return int(result or ExitCode.DONE)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except BrokenPipeError:
        # The reader of stdout has seen enough; python would complain about it once more at exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - a person must not see a traceback
        message, hint, code = _explain(error, _reader(given), given[0] if given else "")
        print_error(message, hint, as_json="--json" in given)
        return code


def _reader(given: list[str]) -> Reader | None:
    """Return who reads the errors; None: in English, which needs no catalogue."""
    try:
        from hotmend.reference.texts import LANGUAGES, Reader, language_of

        asked = [value for option, value in itertools.pairwise(given) if option == "--language"]
        asked += [option.partition("=")[2] for option in given if option.startswith("--language=")]
        language = next((each for each in asked if each in LANGUAGES), None) or language_of()
        return None if language == "en" else Reader(language)
    except Exception:  # noqa: BLE001 - an error in English is better than none
        return None


def _explain(error: BaseException, reader: Reader | None, command: str) -> tuple[str, str, int]:
    """Return message, hint and exit code for whatever ended a command."""
    if isinstance(error, ModuleNotFoundError):
        error = part_missing(error, command) or error
    match error:
        case click.UsageError():
            return *usage_told(error, reader), ExitCode.USAGE
        case HotmendError():
            code = ExitCode.USAGE if isinstance(error, UsageError) else ExitCode.FAILED
            return *error_told(error, reader), code
        case click.ClickException():
            return error.format_message(), "", ExitCode.FAILED
        case KeyboardInterrupt() | click.Abort():
            return "interrupted", "", INTERRUPTED
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(error)
    hint = f"this is a defect of hotmend; {DEBUG_VARIABLE}=1 shows where"
    return f"unexpected {type(error).__name__}: {error}", hint, ExitCode.FAILED
