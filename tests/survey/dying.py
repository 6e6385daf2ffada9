"""A process that works on a queue and kills itself at its n-th comparison: `python -m tests.survey.dying DIR N`.

The queue is the real one. What a package holds and what comparing gives is made up, so that deaths take little
time.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import msgspec

from hotmend.publisher.survey.nursery import Pool
from hotmend.publisher.survey.packages import Bench, Prepared, file_row
from hotmend.publisher.survey.report import make_report, write_lines
from hotmend.publisher.survey.results import AboutRow, FileRow
from hotmend.publisher.survey.store import Store
from hotmend.publisher.survey.suites import Candidate
from hotmend.publisher.survey.tasks import PairedFile, Unpacked
from hotmend.publisher.survey.work import open_work, wait

PACKAGES, FILES = 3, 3
SURVEY = "old..new"


class DyingBench(Bench):
    """Writes down every comparison, and ends the process in the middle of the n-th."""

    def __init__(self, directory: Path, die_at: int) -> None:
        store = Store(directory / "debs", bytes_max=0, keep=False)
        super().__init__(store, Pool(1, memory_bytes=1, seconds=1.0), directory / "scratch", partial=False)
        self._log = directory / "log"
        self._left = die_at
        self._order = threading.Lock()

    def prepare(self, candidate: Candidate) -> Prepared:
        files = tuple(
            PairedFile(f"{candidate.package}/{n}", f"{candidate.package}/{n}", "changed", n, n, "a", "b", f"{n}")
            for n in range(FILES)
        )
        return Prepared(Unpacked("tool", files, ()), None, 0.0, 0.0, 0.0, 0)

    def compare(self, candidate: Candidate, file: PairedFile) -> FileRow:
        with self._order, self._log.open("a") as log:
            log.write(f"{file.path}\n")
            log.flush()
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)
        return msgspec.structs.replace(file_row(candidate, file), verdict="hotpatch")

    def put_away(self, candidate: Candidate) -> None:
        pass


def main(directory: Path, die_at: int) -> None:
    """Work until the queue is empty, and write what is in it."""
    candidates = [Candidate("tool", f"tool{n}", "1", "2", 0, 0) for n in range(PACKAGES)]
    with open_work(f"sqlite:///{directory / 'queue.sqlite'}", DyingBench(directory, die_at), workers=1) as work:
        work.enqueue(SURVEY, candidates, lambda _: None)
        wait(work, SURVEY, threading.Event(), lambda _: None)
        results = [entry.result for entry in work.entries(SURVEY) if entry.result is not None]
    about = AboutRow("old", "new", (), "", "", "", 1, 1, 1.0, 1.0, PACKAGES)
    write_lines(make_report(results, {}, about), directory / "results.jsonl")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
