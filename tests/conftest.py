"""Fixtures of all tests: one real PostgreSQL, one database cloned from a template per test."""

import logging
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from datamgr import embedded, migrations
from datamgr.config import DatabaseSettings, Settings
from datamgr.db import Database, make_engine
from tests import accounts, databases, memory


def pytest_addoption(parser: pytest.Parser) -> None:
    """Parameters of the long soaks."""
    group = parser.getgroup("soak")
    group.addoption("--full-soak", action="store_true", help="run soaks in full, not a slice")
    group.addoption("--kills", type=int, default=None, help="how many kills a soak makes")
    group.addoption("--seed", type=int, default=None, help="seed of the randomised tests")


def pytest_configure() -> None:
    """Undo what a job in the background inherits: there, Ctrl-C is ignored, and by children too."""
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
        (signal.SIGQUIT, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Whatever `--dist` says."""
    from tests.scheduling import ByResource

    config.option.loadscopereorder = False  # by number of tests, which says nothing of their time
    return ByResource(config, log)


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads or writes the configuration and state of the account that runs it."""
    for name in [name for name in os.environ if name.startswith("DATAMGR_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("DATAMGR_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """A command run inside a test sends the log to a stream that ends with the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session")
def server() -> Iterator[sa.Engine]:
    """A PostgreSQL of this session's own, with a migrated template database."""
    with (
        tempfile.TemporaryDirectory(prefix="datamgr-tests-", dir=memory.place()) as folder,
        embedded.running(Path(folder)) as running,
    ):
        admin = make_engine(running.url("postgres"), 10).execution_options(
            isolation_level="AUTOCOMMIT"
        )
        with admin.connect() as connection:
            # Tests survive no power cut, and need not wait for the disk.
            connection.execute(sa.text("ALTER SYSTEM SET fsync = off"))
            connection.execute(sa.text("SELECT pg_reload_conf()"))
            connection.execute(sa.text(f"CREATE DATABASE {databases.TEMPLATE}"))
        template = make_engine(running.url(databases.TEMPLATE), 10)
        migrations.run_upgrade(template)
        template.dispose()
        yield admin
        admin.dispose()


@pytest.fixture(scope="session")
def people() -> Iterator[accounts.People]:
    """Real accounts, which no test changes."""
    with accounts.people() as made:
        yield made


@pytest.fixture
def database_url(server: sa.Engine) -> Iterator[sa.URL]:
    """The address of a fresh database with all tables."""
    with databases.fresh(server) as url:
        yield url


@pytest.fixture
def database(database_url: sa.URL) -> Iterator[Database]:
    """A fresh database, open."""
    engine = make_engine(database_url, 10)
    yield Database(engine)
    engine.dispose()


@pytest.fixture
def settings(database_url: sa.URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with a state directory and a database of the test's own.

    Also in the environment, so that commands run as processes see the same.
    """
    url = database_url.render_as_string(hide_password=False)
    monkeypatch.setenv("DATAMGR_DATABASE__URL", url)
    return Settings(state_dir=tmp_path / "state", database=DatabaseSettings(url=url))
