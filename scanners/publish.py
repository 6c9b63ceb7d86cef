"""Roll a complete scan up and make it the one that answers questions."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from datamgr import catalog, db
from datamgr.config import Settings
from datamgr.db import Database
from scanners import load, queries
from scanners.models import Scan, ScanState
from scanners.store import ScanStore

log = logging.getLogger(__name__)


@dataclass
class Steps:
    """How long each step took, in seconds, and whom to tell when one begins."""

    on_step: Callable[[str], None] = lambda _: None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Measure one step."""
        self.on_step(name)
        begin = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - begin, 3)
        log.info("%s took %.3f s", name, self.seconds[name])


def publish(
    settings: Settings, database: Database, scan_id: int, steps: Steps | None = None
) -> None:
    """Roll a complete scan up and make it answer questions; safe to repeat.

    Raises:
        NotFoundError: there is no complete scan of this number.
        UnavailableError: out of memory or space, or the database went away.
    """
    # Imported here: ibis takes longer to load than most commands to run.
    from scanners import engines, projects, rollup

    steps = steps or Steps()
    with database.transaction() as session:
        scan = queries.scan_by_id(session, scan_id)
        filesystem = session.get_one(catalog.FileSystem, scan.filesystem_id).name
    store = ScanStore(settings.scan_store_dir, filesystem)
    manifest = store.manifest(scan_id)
    scratch = settings.state_dir / "scratch" / f"rollup-{os.getpid()}"
    with (
        steps.timed("publish"),
        engines.duckdb_engine(scratch, settings.scan.engine_memory) as engine,
        database.transaction() as session,
    ):
        dirs = engine.dataset(store.path(scan_id), "dirs")
        entries = engine.dataset(store.path(scan_id), "entries")
        scan = session.get_one(Scan, scan_id, with_for_update=True)
        found = projects.of_scan(catalog.projects(session), scan.roots, engine, dirs)
        totals = rollup.Rollup(engine, dirs, entries, found, int(manifest.started_at.timestamp()))
        load.forget_history(session, scan_id)
        load.publish(session, scan, filesystem, totals, found, settings.scan.top_files)
        scan.state, scan.failure = ScanState.PUBLISHED, None
        scan.published_at = db.utc_now()
    with database.transaction() as session:
        queries.scan_by_id(session, scan_id).timings_s = steps.seconds
