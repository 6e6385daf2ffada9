"""One queue in PostgreSQL for several processes: work is shared, and what a dead one had is taken over."""

from __future__ import annotations

import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from hotmend.publisher.survey.report import Report, read_lines
from tests.survey.archive import Archive, make_archive, survey_command
from tests.survey.cluster import postgresql

_PACKAGES, _FILES = 6, 3
_SECONDS = 300.0


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return make_archive(tmp_path_factory.mktemp("archive") / "archive", _PACKAGES, _FILES)


@pytest.fixture
def database() -> Iterator[str]:
    with postgresql() as url:
        yield url


def _start(archive: Archive, database: str, output: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [*survey_command(output, "--database", database, *options)]
    return subprocess.Popen(command, env=archive.environment, stdout=subprocess.DEVNULL)


def _start_worker(archive: Archive, database: str, output: Path, wait_seconds: int) -> subprocess.Popen[bytes]:
    """Start a process that ends by itself when so long nothing has come."""
    return _start(archive, database, output, "--worker", "--wait", str(wait_seconds))


def _rows(database: str, query: str) -> list[tuple[object, ...]]:
    engine = sa.create_engine(sa.make_url(database).set(drivername="postgresql+psycopg"))
    try:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(query))]
    except sa.exc.ProgrammingError:
        return []  # the tables are not there yet
    finally:
        engine.dispose()


def _wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


def _taken_by(database: str, pid: int) -> list[tuple[object, ...]]:
    """The packages that a process has taken and not finished."""
    query = f"SELECT workflow_uuid FROM dbos.workflow_status WHERE status = 'PENDING' AND executor_id LIKE '%-{pid}-%'"
    return _rows(database, query)


def _stopped_with_work(database: str, worker: subprocess.Popen[bytes]) -> None:
    """Stop a process while it holds what it has taken; it may be done with that between a look and the stop."""
    while True:
        _wait_for(lambda: _taken_by(database, worker.pid))
        worker.send_signal(signal.SIGSTOP)
        if _taken_by(database, worker.pid):
            return
        worker.send_signal(signal.SIGCONT)


def _check_complete(report: Report) -> None:
    found = Counter((file.package, file.path) for file in report.files)
    assert set(found.values()) == {1}
    assert len(found) == _PACKAGES * _FILES
    assert {file.verdict for file in report.files} == {"hotpatch", "baseline required"}
    assert report.summary.files_with_errors == 0


@pytest.mark.long
def test_two_processes_take_from_one_queue(archive: Archive, database: str, tmp_path: Path) -> None:
    with _start_worker(archive, database, tmp_path / "worker", 12) as worker:
        # The worker's queue is there before anything is on it.
        _wait_for(lambda: _rows(database, "SELECT name FROM dbos.queues"))
        with _start(archive, database, tmp_path / "out") as survey:
            assert survey.wait(_SECONDS) == 0
        assert worker.wait(_SECONDS) == 0
    report = read_lines(tmp_path / "out" / "results.jsonl")
    _check_complete(report)
    pids = {package.worker.split("-")[-2] for package in report.packages}
    assert pids == {str(worker.pid), str(survey.pid)}


def test_what_a_dead_worker_had_is_taken_over(archive: Archive, database: str, tmp_path: Path) -> None:
    with _start_worker(archive, database, tmp_path / "worker", 600) as worker:
        _wait_for(lambda: _rows(database, "SELECT name FROM dbos.queues"))
        with _start(archive, database, tmp_path / "out", "--workers", "1") as survey:  # leaving some to the other
            _stopped_with_work(database, worker)
            worker.send_signal(signal.SIGKILL)
            assert survey.wait(_SECONDS) == 0
    report = read_lines(tmp_path / "out" / "results.jsonl")
    _check_complete(report)


def test_a_survey_that_is_killed_goes_on_from_the_database(archive: Archive, database: str, tmp_path: Path) -> None:
    recorded = "SELECT output FROM dbos.operation_outputs WHERE function_name = 'compare'"
    with _start(archive, database, tmp_path / "out") as survey:
        _wait_for(lambda: len(_rows(database, recorded)) >= 2)
        survey.send_signal(signal.SIGKILL)
    before = set(_rows(database, recorded))
    with _start(archive, database, tmp_path / "elsewhere") as again:
        assert again.wait(_SECONDS) == 0
    _check_complete(read_lines(tmp_path / "elsewhere" / "results.jsonl"))
    assert before <= set(_rows(database, recorded)), "what was done has been done again"
