"""Programs of others that the agent starts, outside of the sandbox that its unit puts around it.

apt, maintainer scripts and an administrator's own commands need what patching does not, and go on where the agent is
stopped or dies: each gets a transient unit of its own (systemd-run(1)).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

VARIABLE: Final = "HOTMEND_OUTSIDE"
"""Environment variable that the unit sets to `systemd-run`; anywhere else programs are started as ever."""

_PACKAGES = ("--property=KillMode=process", "--property=TimeoutStopSec=900")
"""As Debian's own units for apt have it: dpkg is not killed in the middle, at a shutdown neither."""


def outside(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    seconds_max: float | None = None,
    directory: Path | str | None = None,
) -> list[str]:
    """Return the command line that runs `command` outside of a sandbox; `command` itself where there is none.

    Output, exit code and the time it takes are the command's.

    Args:
        command: program and arguments.
        environment: variables that it needs beside the usual ones.
        seconds_max: when the caller gives up; it is killed a second later, with all that it started. None: it is never
            killed.
        directory: where it runs; None: anywhere.
    """
    if os.environ.get(VARIABLE) != "systemd-run":
        return list(command)
    limit = _PACKAGES if seconds_max is None else (f"--property=RuntimeMaxSec={seconds_max + 1:g}",)
    place = () if directory is None else (f"--working-directory={directory}",)
    variables = (f"--setenv={name}={value}" for name, value in environment.items())
    options = ("--quiet", "--collect", "--wait", "--pipe", "--service-type=exec")
    literally = (word.replace("$", "$$") for word in command)  # the service manager has variables of its own
    return ["systemd-run", *options, *limit, *place, *variables, "--", *literally]
