"""Commands before and after a run: one that fails before it keeps the run from beginning."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from hotmend.linux.outside import outside

_TOLD_LETTERS_MAX: Final = 500


class Hook(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A command.

    Attributes:
        command: program and arguments; no shell is between.
        seconds: it must have ended by then.
    """

    command: Annotated[tuple[str, ...], Meta(min_length=1, max_length=1000)]
    seconds: Annotated[float, Meta(gt=0, le=86_400)] = 60.0


def run_hooks(hooks: Sequence[Hook], about: Mapping[str, str]) -> str:
    """Run commands one after another until one fails.

    Args:
        hooks: commands.
        about: put into their environment, such as `HOTMEND_RUN`.

    Returns:
        Why one failed; "" where all ended well.
    """
    for hook in hooks:
        if why := run_command(hook.command, hook.seconds, about):
            return why
    return ""


def run_command(command: Sequence[str], seconds: float, about: Mapping[str, str]) -> str:
    """Run one command in a session of its own; return why it failed, or "". It does not outlive its time."""
    name = command[0]
    try:
        process = subprocess.Popen(
            outside(command, about, seconds_max=seconds),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | dict(about),
            start_new_session=True,
        )
    except OSError as error:
        return f"{name}: {error.strerror or error}"
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.communicate()
        return f"{name}: did not end within {seconds:g} s"
    if process.returncode:
        told = output.decode("utf-8", "replace").strip()[-_TOLD_LETTERS_MAX:]
        end = f"exit code {process.returncode}" if process.returncode > 0 else f"signal {-process.returncode}"
        return f"{name}: {end}" + (f": {told}" if told else "")
    return ""
