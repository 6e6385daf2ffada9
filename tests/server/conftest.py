"""Databases and servers of the tests: SQLite in a file, and Debian's PostgreSQL on a socket of its own."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from hotmend.server.database import open_database, sqlalchemy_url
from tests.server.listener import Dripper, Listener
from tests.server.running import Running, running
from tests.server.typed import Typed
from tests.survey.cluster import postgresql

_number = itertools.count(1)


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    with postgresql() as url:
        yield url


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Names of databases that have the schema: copying one is quicker than making it."""
    file = tmp_path_factory.mktemp("template") / "template.db"
    open_database(f"sqlite:///{file}").close()
    return {"sqlite": str(file)}


@pytest.fixture(params=["sqlite", "postgresql"])
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Give the URL of a new, empty database each time it is called."""
    if request.param == "sqlite":
        return lambda: f"sqlite:///{tmp_path / f'{next(_number)}.db'}"
    url: str = request.getfixturevalue("cluster")
    return lambda: _created(url, "template1")


@pytest.fixture
def database_url(new_database: Callable[[], str]) -> str:
    return new_database()


@pytest.fixture(params=["sqlite", "postgresql"])
def ready_url(request: pytest.FixtureRequest, templates: dict[str, str], tmp_path: Path) -> str:
    """Give the URL of a database that has the schema."""
    if request.param == "sqlite":
        file = tmp_path / f"{next(_number)}.db"
        shutil.copy(templates["sqlite"], file)
        return f"sqlite:///{file}"
    cluster: str = request.getfixturevalue("cluster")
    if "postgresql" not in templates:
        made = _created(cluster, "template1")
        open_database(made).close()
        templates["postgresql"] = str(sqlalchemy_url(made).database)
    return _created(cluster, templates["postgresql"])


def _created(url: str, template: str) -> str:
    name = f"test_{next(_number)}"
    engine = sa.create_engine(sqlalchemy_url(url), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
    engine.dispose()
    return url.replace("/postgres?", f"/{name}?")


@pytest.fixture
def sqlite_url(templates: dict[str, str], tmp_path: Path) -> str:
    """Give the URL of an SQLite database that has the schema."""
    file = tmp_path / f"{next(_number)}.db"
    shutil.copy(templates["sqlite"], file)
    return f"sqlite:///{file}"


@pytest.fixture
def server(sqlite_url: str) -> Iterator[Running]:
    """A server on SQLite that listens on loopback, with a first administrator."""
    with running(sqlite_url) as server:
        server.set_up()
        yield server


@pytest.fixture
def either_server(ready_url: str) -> Iterator[Running]:
    """A server on SQLite, and one on PostgreSQL: for what rests on the database."""
    with running(ready_url) as server:
        server.set_up()
        yield server


@pytest.fixture
def typed(server: Running, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Typed:
    """`hotmend fleet ...` as the administrator of `server`."""
    return Typed(server, capsys, monkeypatch)


@pytest.fixture
def listener() -> Iterator[Listener]:
    """Who takes what webhooks are told."""
    made = Listener()
    yield made
    made.close()


@pytest.fixture
def dripper() -> Iterator[Dripper]:
    """Who never gets to the end of an answer."""
    made = Dripper()
    yield made
    made.close()
