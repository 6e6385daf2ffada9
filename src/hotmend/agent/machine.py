"""One machine as the agent sees it: its files, what its administrator wants, what was done, and its clock."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from hotmend.agent.census.never import Never
from hotmend.agent.configuration import Configuration
from hotmend.agent.health.crashes import KERNEL_LOG
from hotmend.agent.memory import Manner
from hotmend.agent.paths import Places
from hotmend.agent.record.history import AnyEvent, AssessedAgain, History
from hotmend.diff.options import Options as BuildOptions
from hotmend.live.chain import DEFAULT_FILE
from hotmend.live.driver import Options as ApplyOptions
from hotmend.model.errors import HotmendError
from hotmend.servicing.maintenance import Decision, intervals, may_start

_ACTION_SPARE: Final = timedelta(seconds=30)
"""What an action needs beside its deadline and the time it is watched."""
_AHEAD: Final = timedelta(days=400)

Clock = Callable[[], datetime]


def _untold() -> None:
    """Tell nobody."""


def system_clock() -> datetime:
    """Return the time, UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine and what its administrator wants.

    Attributes:
        places: where its files are.
        configuration: what is wanted.
        history: what was done.
        clock: its time.
        audit: file of the audit record.
        kernel_log: where crashes are read.
        told: called after each line of the history, for whoever is told of states while they come.
    """

    places: Places
    configuration: Configuration
    history: History
    clock: Clock = system_clock
    audit: Path = DEFAULT_FILE
    kernel_log: Path = KERNEL_LOG
    told: Callable[[], None] = _untold

    def manner(self) -> Manner:
        """Return how processes are changed."""
        configuration = self.configuration
        build = BuildOptions(frozenset(), exact=False, partial=configuration.partial)
        options = ApplyOptions(deadline_seconds=configuration.deadline_seconds, audit=str(self.audit))
        return Manner(build, options, Never(*configuration.never))

    def record(self, event: AnyEvent | AssessedAgain) -> None:
        """Write a line of the history, with this machine's time.

        Raises:
            HotmendError: it cannot be written; what it announces must not be done.
        """
        try:
            self.history.append(event, self.clock())
        except OSError as error:
            raise HotmendError(
                f"{self.history.file}: {error.strerror or error}", "nothing is done without it"
            ) from None
        self.told()


@contextlib.contextmanager
def alone(places: Places) -> Iterator[None]:
    """Keep other runs out.

    Raises:
        HotmendError: another one is under way, or the folder cannot be written.
    """
    try:
        places.state.mkdir(mode=0o750, parents=True, exist_ok=True)
        descriptor = os.open(places.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise HotmendError(f"{places.lock}: {error.strerror or error}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise HotmendError("another run is under way", "wait for its end: hotmend timeline") from None
        yield
    finally:
        os.close(descriptor)


def window(configuration: Configuration, now: datetime) -> tuple[Decision, datetime | None]:
    """Return whether an action may start now, and since when the open window is open."""
    found = intervals(configuration.maintenance, configuration.window_zone(), now, now + _AHEAD)
    since = next((each.start for each in found if each.start <= now < each.end), None)
    return may_start(found, now, _action_time(configuration)), since


def baseline_window(configuration: Configuration, now: datetime) -> Decision:
    """Return whether a restart or a reboot may begin now."""
    found = intervals(configuration.baseline, configuration.window_zone(), now, now + _AHEAD)
    return may_start(found, now, _action_time(configuration))


def _action_time(configuration: Configuration) -> timedelta:
    return timedelta(seconds=configuration.deadline_seconds + configuration.health_seconds) + _ACTION_SPARE
