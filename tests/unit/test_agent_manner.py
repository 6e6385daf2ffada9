"""The time that changing memory may take, as a whole."""

from __future__ import annotations

import math
import time

import pytest

from hotmend.agent.memory import Manner, TimeLimitError
from hotmend.diff.options import Options as BuildOptions
from hotmend.live.driver import Options as ApplyOptions


@pytest.mark.parametrize(
    ("left", "deadline"),
    [(math.inf, 10.0), (3600.0, 10.0), (0.0, 0.0), (-5.0, 0.0)],
)
def test_no_process_gets_more_time_than_is_left(left: float, deadline: float) -> None:
    manner = Manner(BuildOptions(), ApplyOptions(deadline_seconds=10.0, max_pause_us=7), until=time.monotonic() + left)
    assert (manner.within.deadline_seconds, manner.within.max_pause_us) == (deadline, 7)
    if left > 0:
        manner.step("comparing", 0, 1)
    else:
        with pytest.raises(TimeLimitError, match="no time left"):
            manner.step("comparing", 0, 1)
