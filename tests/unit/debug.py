"""Types of compiled files, for tests."""

from __future__ import annotations

import os
from pathlib import Path

from hotmend.debug.reader import read_types
from hotmend.linux.libdw import DebugData
from hotmend.model.types import Types


def read_types_of(path: Path) -> Types:
    """Read the types of a file in this process: these files are our own."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with DebugData(descriptor) as data:
            return read_types(data, path.name)
    finally:
        os.close(descriptor)
