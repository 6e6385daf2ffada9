"""What is tried: two builds as files, and a program or calls over inputs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hotmend.trial.calls import Calls
from hotmend.trial.contents import HOME, Limits, User

LIBRARIES = f"{HOME}/lib"
"""Directory of a host in which the dynamic linker looks first."""


@dataclass(frozen=True, slots=True)
class Side:
    """One build, as files.

    Attributes:
        label: as given.
        packages: .deb files to unpack over the machine's files.
        copies: files, and where they go.
        library: path, in the host, of the library that calls are made to; "" where there are no calls.
    """

    label: str
    packages: tuple[Path, ...]
    copies: tuple[tuple[Path, str], ...]
    library: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """What is run.

    Attributes:
        program: with its arguments; () for calls.
        inputs: files; the program runs once for each, on standard input or by name (`{}`).
        calls: instead of a program.
        user, environment: of the program.
        seconds: most wall time of one run.
        limits: of one run.
        size_bytes: most that all runs of one host may write.
        ignored: what these expressions match is taken out of everything that is compared.
    """

    program: tuple[str, ...]
    inputs: tuple[Path, ...]
    calls: Calls | None
    user: User
    environment: Mapping[str, str]
    seconds: float
    limits: Limits
    size_bytes: int
    ignored: tuple[re.Pattern[bytes], ...] = ()

    @property
    def cases(self) -> tuple[tuple[str, Path | None], ...]:
        """Names of the runs, and their inputs: one for each input of a program, else one."""
        if self.calls or not self.inputs:
            return (("", None),)
        return tuple((path.name, path) for path in self.inputs)
