"""The tables that the migrations make are those of the models, from nothing and at every start."""

import sqlalchemy as sa
from alembic import autogenerate
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from datamgr import audit, catalog, changes, external_ids, migrations, quotas, sessions, tasks
from datamgr.db import Base, Database
from pitoolbox.models import PermChange
from scanners import alerts, models
from tiering.models import TierFile

HEAD_OF = "datamgr:migrations"
# What declares tables has to be loaded to be compared.
DECLARING = (
    audit.AuditEvent,
    catalog.Project,
    tasks.Task,
    models.Scan,
    quotas.QuotaReport,
    alerts.AlertState,
    PermChange,
    TierFile,
    sessions.WebSession,
    external_ids.ExternalId,
    changes.Change,
)


def include(name: str | None, kind: str, _: object) -> bool:
    """All but the partitions, which are made for each scan."""
    return kind != "table" or name is None or not name.startswith("directory_scan_")


def test_an_upgraded_empty_database_equals_the_models(database: Database) -> None:
    assert {model.metadata for model in DECLARING} == {Base.metadata}
    with database.engine.connect() as connection:
        options = {"include_name": include, "compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        assert autogenerate.compare_metadata(context, Base.metadata) == []


def test_the_comparison_finds_what_is_missing(database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE top_file"))
        context = MigrationContext.configure(connection, opts={"include_name": include})
        differences = autogenerate.compare_metadata(context, Base.metadata)
    assert [d[0] for d in differences if isinstance(d, tuple)] != []


def test_the_head_that_is_compared_at_every_start_is_the_newest_script() -> None:
    config = Config()
    config.set_main_option("script_location", HEAD_OF)
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [migrations.HEAD]
    assert scripts.get_bases() == ["0001"]
