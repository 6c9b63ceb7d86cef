"""Databases of the tests' PostgreSQL, which the fixture `server` runs."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from datamgr.config import DatabaseSettings, Settings

TEMPLATE = "template_datamgr"

_numbers = itertools.count(1)


@contextmanager
def fresh(server: sa.Engine) -> Iterator[sa.URL]:
    """The address of a database with all tables, which ends with the block."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with server.connect() as connection:
        # By files: the default writes every page to the log as well.
        connection.execute(
            sa.text(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY file_copy")
        )
    try:
        yield server.url.set(database=name)
    finally:
        with server.connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


def settings(url: sa.URL, state_dir: Path) -> Settings:
    """Settings with this database and state, for more than one test.

    Given to `Settings` itself, they would be those of the environment, of the first of the tests.
    """
    text = url.render_as_string(hide_password=False)
    changes = {"state_dir": state_dir, "database": DatabaseSettings(url=text)}
    return Settings().model_copy(update=changes)
