"""Complete scans that are still to be published, and the other engine."""

from benchmarks import stores
from datamgr.config import Settings
from datamgr.db import Database


def by_duckdb(settings: Settings) -> Settings:
    return settings.model_copy(
        update={"scan": settings.scan.model_copy(update={"engine": "duckdb"})}
    )


def generate(settings: Settings, database: Database, filesystem: str, entries: int) -> int:
    """A complete scan of realistic shape; returns its number."""
    scan_id = stores.register(database, filesystem)
    stores.make(settings.scan_store_dir, filesystem, scan_id, entries)
    return scan_id
