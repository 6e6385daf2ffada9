"""Doing something with the rights of whom a folder belongs to, and no others.

Where root puts something into a folder of the part with a network, links that stand there lead root nowhere then.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def as_owner(folder: Path) -> Iterator[None]:
    """Have the rights of a folder's owner and group for the block. Who is not root keeps what rights there are.

    Raises:
        OSError: the folder is not there.
    """
    if sys.platform == "win32" or os.geteuid() != 0:
        yield
        return
    owner, groups, group = folder.stat(), os.getgroups(), os.getegid()
    if owner.st_uid == 0:
        yield
        return
    try:
        os.setgroups([])
        os.setegid(owner.st_gid)
        os.seteuid(owner.st_uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)
