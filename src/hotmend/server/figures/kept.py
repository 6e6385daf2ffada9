"""What a figure is, and how one is read: new where that is quick, otherwise as it was found last, and as of when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hotmend.server.context import Context
from hotmend.server.figures.tables import figures

T = TypeVar("T")

QUICK_MS: Final = 50
"""What is made within this time is made for whoever asks."""


@dataclass(frozen=True, slots=True)
class Figure(Generic[T]):
    """Something that is found by looking at the whole fleet.

    Attributes:
        name: of its row.
        shape: type that its JSON is read as.
        make: finds it.
    """

    name: str
    shape: Any
    make: Callable[[Connection, Context], T]


@dataclass(frozen=True, slots=True)
class Dated(Generic[T]):
    """A value, and as of when it is."""

    value: T
    at: datetime


def read(context: Context, figure: Figure[T]) -> Dated[T]:
    """Return a figure as it was found last; where none is kept, as it is now."""
    with context.database.survey() as connection:
        row = connection.execute(sa.select(figures.c.at, figures.c.body).where(figures.c.name == figure.name)).first()
        if row is not None:
            try:
                return Dated(msgspec.json.decode(row.body, type=figure.shape), row.at)
            except msgspec.ValidationError:
                pass  # another version of hotmend has found it
        return Dated(figure.make(connection, context), context.clock())
