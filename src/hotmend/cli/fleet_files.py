"""Files that a person writes for `hotmend fleet`: TOML, each for one value of the API."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from hotmend.model.errors import InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
_BYTES_MAX: Final = 1 << 20


def read_toml(file: Path, kind: type[T], what: str, page: str) -> T:
    """Return what a file says, as a value of the API; a name that this does not have is no oversight.

    Args:
        file: TOML.
        kind: a dataclass.
        what: it is called, with its article.
        page: of the documentation that has an example.

    Raises:
        InputError: it cannot be read, or is no such value.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(_BYTES_MAX + 1)
        if len(data) > _BYTES_MAX:
            raise InputError(f"{file}: larger than {_BYTES_MAX} bytes")
        given = tomllib.loads(data.decode("utf-8"))
        unknown = sorted(given.keys() - {field.name for field in fields(kind)})
        if not unknown:
            made = msgspec.convert(given, kind)
            unknown = list(_unknown(given, asdict(made), ""))
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}") from error
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        raise InputError(f"{file}: not {what}: {error}", f"{page} has an example") from error
    if unknown:
        raise InputError(f"{file}: not a field of {what}: {', '.join(unknown)}")
    return made


def _unknown(given: Any, taken: Any, place: str) -> Iterator[str]:
    """Yield the names that are in a file and not in the value that was made of it."""
    if isinstance(given, dict) and isinstance(taken, dict):
        for name, value in given.items():
            if name not in taken:
                yield f"{place}{name}"
            else:
                yield from _unknown(value, taken[name], f"{place}{name}.")
    elif isinstance(given, list) and isinstance(taken, (list, tuple)):
        for number, (value, its) in enumerate(zip(given, taken, strict=True)):
            yield from _unknown(value, its, f"{place}{number}.")
