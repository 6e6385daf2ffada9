"""The scenario every server goes through: old code, new code, old code, under load and without a restart."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .checks import Check, State, state_assert
from .command import DONE, Ran, hotmend_run, patched_pids, pid_words
from .load import Load, Result
from .process import Server

WARM_SECONDS = 0.7


@dataclass(frozen=True, slots=True)
class Scenario:
    """What to run on which server.

    Attributes:
        server: running the old build.
        hotpatch: file for `apply`.
        load: starts the load.
        checks: must turn from old to new and back.
        guards: must answer the same all the time.
    """

    server: Server
    hotpatch: Path
    load: Callable[[Server], Load]
    checks: tuple[Check, ...]
    guards: tuple[Check, ...] = ()

    def expect(self, state: State) -> None:
        """Assert what checks and guards answer."""
        state_assert(self.checks, self.server, state)
        state_assert(self.guards, self.server, state)

    def change(self, *words: str) -> Ran:
        """Run `apply` or `revert` for exactly this server's processes and require that it did it."""
        ran = hotmend_run(*words, str(self.hotpatch), *pid_words(self.server.pids()))
        assert ran.code == DONE, ran.told()
        return ran


def old_new_old(scenario: Scenario) -> None:
    """Apply in the middle of the load, then revert in the middle of it; assert everything on the way."""
    server = scenario.server
    born = server.identities()
    everybody = {identity.pid for identity in born}
    scenario.expect(State.VULNERABLE)
    assert patched_pids(everybody) == set()
    _under_load(scenario, "apply", State.FIXED)
    assert patched_pids(everybody) == everybody
    scenario.expect(State.FIXED)
    _under_load(scenario, "revert", State.VULNERABLE)
    assert patched_pids(everybody) == set()
    scenario.expect(State.VULNERABLE)
    assert server.identities() == born, "a process was restarted"


def _under_load(scenario: Scenario, word: str, after: State) -> None:
    load = scenario.load(scenario.server)
    try:
        time.sleep(WARM_SECONDS)
        ran = scenario.change(word)
        assert load.running(), f"the load ended before {word} did"
        scenario.expect(after)
        time.sleep(WARM_SECONDS)
    finally:
        result = load.stop()
    result_assert(result, f"{word}: {ran.told()}")


def result_assert(result: Result, context: str) -> None:
    """Assert that the load ran and that not one request failed."""
    assert result.failures == 0, f"{result.failures} failed requests during {context}\n{result.printed}"
    assert result.requests > 0, f"no request was completed during {context}\n{result.printed}"
