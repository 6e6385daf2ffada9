"""What is mounted on this machine."""

from __future__ import annotations

from pathlib import Path


def mounts_but_of_tests(tmp_path: Path) -> list[str]:
    """Return the lines of /proc/self/mountinfo, but for what is below the folders of this run's tests.

    Machines that boot beside this test mount there, each in the folder of its own test.

    Args:
        tmp_path: the folder of one of the tests.
    """
    run = f"{tmp_path.parents[1]}/"
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if not line.split()[4].startswith(run)]
