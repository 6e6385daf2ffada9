"""Errors in the words of whoever reads them: those of hotmend, and those of a command line that is not understood."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hotmend.model.errors import HotmendError, UsageError

if TYPE_CHECKING:
    from hotmend.reference.texts import Reader


_PUBLISHER = ("dbos", "feedgen", "icalendar", "jinja2", "sqlalchemy")
"""What only the optional part `publisher` brings, or `server`, which has all of these."""
_SERVER = ("alembic", "fastapi", "nacl", "psycopg", "starlette", "uvicorn")
"""What only the optional part `server` brings."""


def part_missing(error: ModuleNotFoundError, command: str) -> UsageError | None:
    """Return what to say where a library of an optional part is not installed; None: it is some other module.

    Args:
        error: by which it was noticed.
        command: of hotmend, that was asked for.
    """
    module = (error.name or "").partition(".")[0]
    if module not in (*_PUBLISHER, *_SERVER):
        return None
    part = "server" if module in _SERVER or command == "server" else "publisher"
    install = f"python -m pip install 'hotmend[{part}]'"
    return UsageError("this Python lacks {name}", "run {command}", name=error.name, command=install)


def error_told(error: HotmendError, reader: Reader | None) -> tuple[str, str]:
    """Return message and hint; what has no translation stays English. No reader: English."""
    if reader is None:
        return str(error), error.hint
    return _written(error.text, error, reader), _written(error.hint_text, error, reader)


def _written(text: str, error: HotmendError, reader: Reader) -> str:
    from hotmend.servicing.message import Message

    return reader.write(Message(text, error.values)) if error.values else reader.text(text)


def usage_told(error: click.UsageError, reader: Reader | None) -> tuple[str, str]:
    """Return message and hint. In English the message is click's own; others have texts for what is common."""
    command = error.ctx.command_path if error.ctx else "hotmend"
    if reader is None:
        return error.format_message(), f"see {command} --help"
    from hotmend.servicing.message import message

    match error:
        case click.NoSuchOption():
            told = message("there is no option {name}", name=error.option_name)
        case click.MissingParameter():
            told = message("{name} is missing", name=_name(error))
        case click.BadParameter() if error.param and isinstance(error.param.type, click.Choice):
            told = message("{name}: one of {names} is needed", name=_name(error), names=_choices(error.param.type))
        case click.BadParameter():
            told = message("{name}: {why}", name=_name(error), why=error.message)
        case _:
            told = message("not understood: {why}", why=error.format_message())
    return reader.write(told), reader.write(message("see {command} --help", command=command))


def _name(error: click.BadParameter) -> str:
    if isinstance(error.param_hint, str) or error.param is None:
        return str(error.param_hint or "")
    if isinstance(error.param, click.Argument) and isinstance(error.param.type, click.Choice):
        return str(error.param.name).upper()  # its metavar is the list of all choices
    return error.param.get_error_hint(error.ctx)


def _choices(type_: click.Choice[object]) -> str:
    return ", ".join(str(each) for each in type_.choices)
