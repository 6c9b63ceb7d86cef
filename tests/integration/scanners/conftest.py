"""Fixtures of the scanners' tests: a database for a whole module, commands, a place in memory."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from datamgr.config import Settings
from datamgr.db import Database, make_engine
from tests import databases
from tests.commands import Command, run_command


@pytest.fixture(scope="module")
def module_settings(
    server: sa.Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """As `settings`, for all tests of a module; not in the environment."""
    folder = tmp_path_factory.mktemp("module")
    with databases.fresh(server) as url:
        yield databases.settings(url, folder / "state")


@pytest.fixture(scope="module")
def module_database(module_settings: Settings) -> Iterator[Database]:
    engine = make_engine(sa.make_url(module_settings.database.url), 10)
    yield Database(engine)
    engine.dispose()


@pytest.fixture
def command(settings: Settings) -> Command:
    """Run `datamgr …` as a process, with the test's own database and state directory."""
    assert settings  # it is in the environment
    return run_command


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A directory on tmpfs, where half a million files cost seconds."""
    with tempfile.TemporaryDirectory(prefix="datamgr-test-", dir="/dev/shm") as name:
        yield Path(name)
