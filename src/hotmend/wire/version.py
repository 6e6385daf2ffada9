"""The version of what agents and servers say to each other, and which versions understand each other.

It grows when a message changes so that the version before would misunderstand it: a field or word that is only added
is none of that. An agent says its version in each check-in; one that says none is of version 1. A server speaks with
agents one version older and one newer, and refuses all others, saying what is to be upgraded.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = 2
"""1: until November 2026, without a number. 2: said in each check-in; restart slots, words for windows."""
OLDEST: Final = VERSION - 1
NEWEST: Final = VERSION + 1


def spoken(version: int) -> bool:
    """Say whether a server of this version speaks with an agent of another one."""
    return OLDEST <= version <= NEWEST


def refusal(version: int) -> tuple[str, str]:
    """Return what an agent is told that is not spoken with: the sentence, and what to upgrade."""
    told = f"this server speaks wire versions {OLDEST} to {NEWEST}, and the agent {version}"
    which = "on this machine: it is too old" if version < OLDEST else "on the server: it is too old for this machine"
    return told, f"upgrade hotmend {which}"
