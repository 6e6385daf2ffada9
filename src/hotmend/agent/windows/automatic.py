"""What a Windows machine installs by itself: in the policy's automatic mode, in its window, once in each.

It is done as an order would be that names no update: the policy's classifications, includes and excludes choose, and
nothing is installed where one of them would leave the hotpatch line. What was begun is in a ledger of its own first, so
that a machine that is cut off does not begin again in the same window.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from hotmend.agent.uplink.letters import Opened
from hotmend.agent.windows.doing import Hands, open_window, perform
from hotmend.servicing.actions import State
from hotmend.wire.messages import Kind, Order, Reached

AGAIN: Final = timedelta(hours=4)
"""Where nothing was due, the update agent is asked again after so long: to ask takes it minutes."""


def automatic(hands: Hands, wanted: Opened) -> Reached | None:
    """Install what is due, where the policy lets this machine do so by itself now; return how it ended.

    Returns:
        None where nothing was begun.

    Raises:
        InputError: the ledger cannot be read.
        OSError: it cannot be written.
    """
    if wanted.policy is None or wanted.policy.mode != "automatic" or wanted.halted or wanted.closed:
        return None
    window = open_window(hands, wanted)
    if window is None or _had_its_turn(hands, window.start):
        return None
    own = replace(hands, ledger=hands.own)
    order = Order(secrets.token_hex(16), Kind.INSTALL, reason="the policy's automatic mode")
    perform(own, order, wanted)
    return last(hands)


def last(hands: Hands) -> Reached | None:
    """Return the last state that something came to that this machine did by itself; None before the first."""
    return next(reversed(hands.own.reached()), None)


def _had_its_turn(hands: Hands, start: datetime) -> bool:
    """Say whether something was begun in the window already; where nothing was due, that is so for a while."""
    before = last(hands)
    if before is None or before.at < start:
        return False
    return before.state != State.NOT_APPLICABLE or hands.now() - before.at < AGAIN
