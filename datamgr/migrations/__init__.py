"""The version of the tables: Alembic migrations in one line of history."""

import logging

import sqlalchemy as sa

from datamgr.errors import UnavailableError

log = logging.getLogger(__name__)

# Read on every start, so that the usual case costs one query and no import of Alembic;
# a test keeps it equal to the newest script.
HEAD = "0014"

# "datamgr" in ASCII: one upgrade at a time, whoever starts it.
ADVISORY_LOCK = 0x646174616D6772


def current_revision(engine: sa.Engine) -> str | None:
    """The revision that the database is at; None when it has no tables yet."""
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        revision: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
        return revision


def ensure_current(engine: sa.Engine, *, upgrade: bool) -> None:
    """Make sure that the tables are those of this version.

    Raises:
        UnavailableError: they are older and `upgrade` is off, or newer than this program.
    """
    revision = current_revision(engine)
    if revision == HEAD:
        return
    if revision is not None and revision > HEAD:
        raise UnavailableError(
            f"the database is at version {revision} and this datamgr knows {HEAD}; "
            "install the newer datamgr"
        )
    if not upgrade:
        raise UnavailableError(
            f"the database is at version {revision or 'none'} and this datamgr needs {HEAD}; "
            "run `datamgr db upgrade`"
        )
    run_upgrade(engine)


def run_upgrade(engine: sa.Engine) -> None:
    """Run the missing migrations in one transaction, under an advisory lock."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "datamgr:migrations")
    with engine.begin() as connection:
        connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    log.info("database upgraded to %s", HEAD)
