"""`hotmend nagios`: a plugin for Nagios, Icinga, Naemon and what else speaks their language."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from hotmend.cli.output import print_json
from hotmend.model.errors import HotmendError

if TYPE_CHECKING:
    from hotmend.agent.census.alerts import AlertCode, Level
    from hotmend.agent.census.look import Look

_LETTERS_MAX = 1000
_UNKNOWN = 3


@click.command("nagios")
@click.option("--critical", multiple=True, metavar="ALERT", help="Count this alert as critical; can be repeated.")
@click.option("--warning", multiple=True, metavar="ALERT", help="Count this alert as a warning; can be repeated.")
@click.option("--ignore", multiple=True, metavar="ALERT", help="Leave this alert out; can be repeated.")
@click.option("--json", "as_json", is_flag=True, help="One object on stdout; the exit code is the same.")
def nagios_command(critical: tuple[str, ...], warning: tuple[str, ...], ignore: tuple[str, ...], as_json: bool) -> int:
    """Say in one line how this machine is, as monitoring plugins do, with performance data behind it.

    Exit codes are those of plugins: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN. docs/runbook.md has what each alert means.
    """
    from hotmend.agent.census.look import look
    from hotmend.agent.paths import Places

    try:
        levels = _levels(critical, warning, ignore)
        if os.geteuid() != 0:
            raise HotmendError("only root can look at all processes")
        seen = look(Places())
    except (HotmendError, OSError) as error:
        click.echo(f"HOTMEND UNKNOWN - {_plain(str(error))}")
        return _UNKNOWN
    level = seen.level(levels)
    if as_json:
        from hotmend.cli.report_shapes import NagiosShape, alert_shape

        print_json(NagiosShape(level.name, tuple(map(alert_shape, seen.alerts))))
    else:
        click.echo(_line(seen, levels, level))
    return int(level)


def _levels(critical: tuple[str, ...], warning: tuple[str, ...], ignore: tuple[str, ...]) -> dict[AlertCode, Level]:
    from hotmend.agent.census.alerts import LEVELS, AlertCode, Level

    levels = dict(LEVELS)
    for level, names in ((Level.WARNING, warning), (Level.CRITICAL, critical), (Level.OK, ignore)):
        for name in names:
            if name not in set(AlertCode):
                raise HotmendError(f"there is no alert {name}; there are {', '.join(AlertCode)}")
            levels[AlertCode(name)] = level
    return levels


def _line(seen: Look, levels: dict[AlertCode, Level], level: Level) -> str:
    """Return status, what it is about, and performance data; one line."""
    from hotmend.agent.census.alerts import Level

    told = [alert for alert in seen.alerts if levels[alert.code] is not Level.OK]
    told.sort(key=lambda alert: levels[alert.code] is not level)
    processes = seen.assessment.processes
    patched = sum(any(image.patch for image in process.images) for process in processes)
    words = [f"{a.code}: {a.sentence}" + (f" ({', '.join(a.subjects)})" if a.subjects else "") for a in told]
    text = "; ".join(words) or f"{len(processes)} processes run what is on the disk, {patched} of them by a hotpatch"
    old = sum(bool(process.due) for process in processes)
    due = len(seen.plan.restarts) + len(seen.plan.others)
    data = {
        "processes": len(processes),
        "patched": patched,
        "old": old,
        "restarts": due,
        "reboot": int(bool(seen.assessment.reboot)),
        "waiting": len(seen.assessment.waiting),
        "cves_fixed_in_memory": len(seen.assessment.cves),
    }
    return f"HOTMEND {level.name} - {_plain(text)} | " + " ".join(f"{name}={value};;;0" for name, value in data.items())


def _plain(text: str) -> str:
    """Leave out what would end the line or begin the performance data."""
    text = " ".join(text.replace("|", "/").split())
    return text if len(text) <= _LETTERS_MAX else text[: _LETTERS_MAX - 1] + "…"
