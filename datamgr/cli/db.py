"""`datamgr db`: the state of the database."""

import click
import sqlalchemy as sa

from datamgr import db as database
from datamgr import embedded, migrations
from datamgr.cli import options, output
from datamgr.config import Settings


@click.group()
def db() -> None:
    """The database: its status and the version of its tables."""


@db.command()
@options.as_json
@options.pass_settings
def status(settings: Settings, as_json: bool) -> None:
    """Say where the database is, whether it answers and which version its tables have."""
    with database.server_url(settings) as url, database.explained():
        engine = database.make_engine(url, settings.database.connect_timeout_s)
        try:
            with engine.connect() as connection:
                row = {
                    "kind": "embedded" if settings.database.url == database.EMBEDDED else "server",
                    "url": url.render_as_string(hide_password=True),
                    "server_version": connection.scalar(sa.text("SHOW server_version")),
                    "size_bytes": connection.scalar(
                        sa.text("SELECT pg_database_size(current_database())")
                    ),
                    "revision": migrations.current_revision(engine),
                    "expected_revision": migrations.HEAD,
                }
        finally:
            engine.dispose()
    row["current"] = row["revision"] == migrations.HEAD
    if as_json:
        output.emit("db.status", [row])
        return
    output.details(
        "Database",
        [
            output.text("kind", "kind"),
            output.text("url", "address"),
            output.text("server_version", "PostgreSQL"),
            output.size("size_bytes", "size"),
            output.text("revision", "tables at"),
            output.text("expected_revision", "needed"),
        ],
        row,
    )
    if not row["current"]:
        click.echo("Run `datamgr db upgrade` to bring the tables up to date.")


@db.command()
@options.as_json
@options.pass_settings
def upgrade(settings: Settings, as_json: bool) -> None:
    """Bring the tables to the version of this program. Safe to repeat, and while others run."""
    with database.open_database(settings, migrate=True):
        pass
    if as_json:
        output.emit("db.upgrade", [{"revision": migrations.HEAD}])
    else:
        click.echo(f"The tables are at version {migrations.HEAD}.")


@db.command()
@options.pass_settings
def stop(settings: Settings) -> None:
    """Stop an embedded PostgreSQL that a killed process left running.

    Refused while another datamgr process uses it.
    """
    stopped = embedded.stop(settings.state_dir)
    click.echo("The embedded PostgreSQL was stopped." if stopped else "It was not running.")
