"""Which machines: the options of `hotmend fleet` that say it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import msgspec

from hotmend.cli.fleet_output import tags_of

if TYPE_CHECKING:
    from hotmend.wire.api import Query

F = TypeVar("F", bound=Callable[..., Any])
_OPTIONS: Final = (
    click.option("--state", type=click.Choice(["pending", "active", "suspect", "left"])),
    click.option("--tier", type=click.Choice(["canary", "stable"])),
    click.option("--line", type=click.Choice(["on", "off", "unknown"])),
    click.option("--platform", type=click.Choice(["linux", "windows"])),
    click.option("--release", help="Exactly this."),
    click.option("--search", default="", help="A part of the name."),
    click.option("--tag", "tags", multiple=True, metavar="NAME[=VALUE]"),
    click.option("--cve", default="", help="Old code of it still runs."),
    click.option("--waiting", is_flag=True, help="Updates wait."),
    click.option("--restarts-due", is_flag=True, help="Services run old code."),
    click.option("--reboot-due", is_flag=True, help="A reboot is due."),
    click.option("--alerts", is_flag=True, help="There are alerts."),
)
_FLAGS: Final = ("waiting", "restarts_due", "reboot_due", "alerts")


def query_options(command: F) -> F:
    """Give a command the options of a query; `query_of` reads them."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def query_of(given: Mapping[str, Any]) -> Query:
    """Return the query of a command with `query_options`; a flag that is not there asks nothing."""
    from hotmend.wire.api import Query

    flags = {name: given[name] or None for name in _FLAGS}
    return msgspec.convert({**given, **flags, "tags": tags_of(given["tags"])}, Query)
