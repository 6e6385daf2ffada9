"""One call of apt, outside of a sandbox, with a limit and errors that say which."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from hotmend.linux.outside import outside
from hotmend.model.errors import FetchError

APT_SECONDS_MAX: Final = 600


def call_apt(
    command: Sequence[str],
    variables: Mapping[str, str],
    *,
    directory: Path | str | None = None,
    seconds_max: int = APT_SECONDS_MAX,
    hint: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run one of apt's programs; what it says, and in which words it failed, is for the caller to judge.

    Args:
        command: program and arguments.
        variables: that it needs beside the usual ones.
        directory: where it runs; None: anywhere.
        seconds_max: when it is given up.
        hint: what to do where there is no apt.

    Raises:
        FetchError: it is not installed, or did not end in time.
    """
    try:
        return subprocess.run(
            outside(command, variables, directory=directory),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds_max,
            env=os.environ | variables,
            check=False,
        )
    except FileNotFoundError:
        raise FetchError(f"{command[0]} is not installed", hint) from None
    except subprocess.TimeoutExpired:
        raise FetchError(f"{command[0]} did not end within {seconds_max} s") from None


def complaints_of(said: str) -> list[str]:
    """Return apt's own complaints in what it wrote to stderr."""
    return [line.removeprefix("E: ") for line in said.splitlines() if line.startswith("E: ")]
