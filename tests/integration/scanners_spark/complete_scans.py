"""Complete scans that are still to be published, and the other engine."""

from benchmarks import stores
from datamgr import catalog, db
from datamgr.config import Settings
from datamgr.db import Database
from scanners.models import Scan, ScanState


def by_duckdb(settings: Settings) -> Settings:
    return settings.model_copy(
        update={"scan": settings.scan.model_copy(update={"engine": "duckdb"})}
    )


def register(database: Database, filesystem: str) -> int:
    """A complete scan without its files; returns its number."""
    with database.transaction() as session:
        new = Scan(
            filesystem_id=catalog.ensure_filesystem(session, filesystem).id,
            state=ScanState.WALKED, source="walk", host="", roots=[b"/synth"],
            started_at=db.utc_now(), errors={}, atime_policy="relatime", timings_s={},
        )  # fmt: skip
        session.add(new)
        session.flush()
        return new.id


def generate(settings: Settings, database: Database, filesystem: str, entries: int) -> int:
    """A complete scan of realistic shape; returns its number."""
    scan_id = register(database, filesystem)
    stores.make(settings.scan_store_dir, filesystem, scan_id, entries)
    return scan_id
