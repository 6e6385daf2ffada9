"""The product catalogue: which product a machine is, and what that product needs. Products are data, not code."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from datetime import date
from typing import Final, Literal

import msgspec

from hotmend.model.errors import InputError
from hotmend.servicing.facts import MachineFacts

CATALOGUE_BYTES_MAX: Final = 1 << 20


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class LineRule(_Entry, frozen=True):
    """Where the cycle is not the whole truth: the only updates that keep a machine on the line after a baseline.

    Attributes:
        name: of the rule.
        month: `YYYY-MM` of the updates it is about.
        baseline: the quarter's planned baseline; every id of `exactly` stands for it.
        exactly: whatever else of the same month is installed takes the machine off the line.
        until: day of the next baseline, which brings it back.
        source: where this is written.
    """

    name: str
    month: str
    baseline: str
    exactly: tuple[str, ...]
    until: date
    source: str


class Channel(_Entry, frozen=True):
    """A stream of releases.

    Attributes:
        name: as the calendar has it.
        platform: whose.
        baseline_months: months of planned baselines.
        outside: words that mark updates that are none of the operating system's own.
        line_rules: see `LineRule`.
    """

    name: str
    platform: Literal["windows", "linux"]
    baseline_months: tuple[int, ...]
    outside: tuple[str, ...] = ()
    line_rules: tuple[LineRule, ...] = ()


class ImageTable(_Entry, frozen=True):
    """Cloud images that are supported, and regions that are known to have them."""

    name: str
    publisher: str
    offer: str
    skus: tuple[str, ...]
    regions_known_good: tuple[str, ...] = ()


class Product(_Entry, frozen=True):
    """One product.

    Attributes:
        id, name: for programs, for people.
        match: name of a fact (`FACTS`) to the values of which it must have one.
        channel: of its releases; "" where it has none.
        minimum_revision: of the build, None for any.
        environments: where it may run; empty for anywhere.
        licences: subscriptions that include it; empty where none is asked.
        needs: names of prerequisites.
        enrollment: how it is enabled: `default` is on from the start.
        images: name of an image table, `own` for any but custom and container images, `any`.
        not_supported: why the product has no Hotpatch; "" where it has.
    """

    id: str
    name: str
    match: dict[str, tuple[int | str, ...]]
    channel: str = ""
    minimum_revision: int | None = None
    environments: tuple[str, ...] = ()
    licences: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    enrollment: Literal["portal", "default", "intune", "agent", ""] = ""
    images: str = "any"
    not_supported: str = ""


class Catalogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All products with their channels and image tables."""

    channel: tuple[Channel, ...]
    product: tuple[Product, ...]
    images: tuple[ImageTable, ...] = ()

    def channel_of(self, product: Product) -> Channel | None:
        """Return the channel of a product."""
        return next((channel for channel in self.channel if channel.name == product.channel), None)

    def image_table(self, name: str) -> ImageTable | None:
        """Return an image table by its name."""
        return next((table for table in self.images if table.name == name), None)


_OTHER_PLATFORM: Final = ""
"""The value of a Windows fact on Linux, and the other way round: known, and like nothing a product asks for."""


def _of_windows(facts: MachineFacts, name: str) -> int | str | None:
    return _OTHER_PLATFORM if facts.windows is None else getattr(facts.windows, name)


def _of_linux(facts: MachineFacts, name: str) -> int | str | None:
    return _OTHER_PLATFORM if facts.linux is None else getattr(facts.linux, name)


FACTS: Final[dict[str, Callable[[MachineFacts], int | str | None]]] = {
    "build": lambda facts: _of_windows(facts, "build"),
    "edition": lambda facts: _of_windows(facts, "edition"),
    "installation": lambda facts: _of_windows(facts, "installation"),
    "distribution": lambda facts: _of_linux(facts, "distribution"),
    "release": lambda facts: _of_linux(facts, "release"),
    "architecture": lambda facts: facts.architecture,
}
"""What a product's `match` can ask for."""


class Identified(msgspec.Struct, frozen=True):
    """Which product a machine is.

    Attributes:
        product: None: none of the catalogue, or not known.
        unknown: facts that would have to be known to tell.
    """

    product: Product | None
    unknown: tuple[str, ...] = ()


def identify(catalogue: Catalogue, facts: MachineFacts) -> Identified:
    """Return the first product whose every condition holds.

    A product that might be meant, had more been read, stops the search: the next one would be a guess.
    """
    for product in catalogue.product:
        unknown = []
        for name, wanted in product.match.items():
            value = FACTS[name](facts)
            if value is None:
                unknown.append(name)
            elif value not in wanted:
                break
        else:
            return Identified(None, tuple(unknown)) if unknown else Identified(product)
    return Identified(None)


def catalogue_parse(text: str, source: str = "catalogue") -> Catalogue:
    """Return the catalogue that a TOML text holds.

    Raises:
        InputError: too large, not TOML, not this form, or something in it refers to what it does not have.
    """
    if len(text) > CATALOGUE_BYTES_MAX:
        raise InputError("{source}: larger than {limit} bytes", source=source, limit=CATALOGUE_BYTES_MAX)
    try:
        catalogue = msgspec.convert(tomllib.loads(text), Catalogue)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise InputError("{source}: {why}", source=source, why=str(error)) from error
    complaint = next(_complaints(catalogue), "")
    if complaint:
        raise InputError("{source}: {why}", source=source, why=complaint)
    return catalogue


def _complaints(catalogue: Catalogue) -> Iterator[str]:
    channels = {channel.name for channel in catalogue.channel}
    tables = {table.name for table in catalogue.images} | {"any", "own"}
    for product in catalogue.product:
        for name in product.match:
            if name not in FACTS:
                yield f"product {product.id}: nothing is known as {name!r} (known: {', '.join(FACTS)})"
        if not product.match:
            yield f"product {product.id}: matches everything"
        if bool(product.channel) == bool(product.not_supported):
            yield f"product {product.id}: needs `channel` or `not_supported`, and not both"
        if product.channel and product.channel not in channels:
            yield f"product {product.id}: no channel is called {product.channel!r}"
        if product.images not in tables:
            yield f"product {product.id}: no image table is called {product.images!r}"
