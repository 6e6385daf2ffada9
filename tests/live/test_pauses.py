"""No thread stands still for longer than a stop's budget, whatever else the stop has to do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hotmend.linux import procfs
from hotmend.linux.stop import Stopper
from tests.live.conftest import Target

Start = Callable[..., Target]


def test_what_the_kernel_counts_is_known_before_the_first_stop(
    program: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finding it out takes a thread, and as long as a whole stop."""
    stopper = Stopper(start(program).pid)
    procfs.links_count_threads.cache_clear()
    stopper.look_around()
    begun: list[threading.Thread] = []
    monkeypatch.setattr(threading.Thread, "start", begun.append)
    monkeypatch.setattr(threading.Event, "wait", lambda *_: True)
    stopper.release(stopper.stop(1.0))
    assert begun == []
    assert procfs.count_threads(stopper.pid) == len(procfs.list_threads(stopper.pid))
