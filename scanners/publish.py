"""Roll a complete scan up and make it the one that answers questions."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from datamgr import catalog, db
from datamgr.config import Settings
from datamgr.db import Database
from scanners import load, queries
from scanners.lock import filesystem_lock
from scanners.models import Scan, ScanState
from scanners.store import ScanStore

if TYPE_CHECKING:
    from ibis.expr.types import Table

    from scanners.engines import Engine

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


def publish_again(settings: Settings, database: Database, scan_id: int) -> None:
    """As `publish`, for who does not hold the lock of the file system.

    Raises:
        ConflictError: a scan of the file system is running.
        NotFoundError, UnavailableError: as `publish`.
    """
    with database.transaction() as session:
        scan = queries.scan_by_id(session, scan_id)
        filesystem = session.get_one(catalog.FileSystem, scan.filesystem_id)
    with filesystem_lock(database, filesystem.id, filesystem.name):
        publish(settings, database, scan_id)


def publish(
    settings: Settings, database: Database, scan_id: int, steps: Steps | None = None
) -> None:
    """Roll a complete scan up and make it answer questions; safe to repeat.

    Raises:
        NotFoundError: there is no complete scan of this number.
        UnavailableError: its files are damaged, out of memory or space, or the database went away.
    """
    # Imported here: ibis takes longer to load than most commands to run.
    from scanners import engines, projects, rollup

    steps = steps or Steps()
    with database.transaction() as session:
        scan = queries.scan_by_id(session, scan_id)
        filesystem = session.get_one(catalog.FileSystem, scan.filesystem_id).name
    store = ScanStore(settings.scan_store_dir, filesystem)
    manifest = store.intact_manifest(scan_id)
    with (
        steps.timed("publish"),
        engines.opened(settings, store.scratch(scan_id)) as engine,
        database.transaction() as session,
    ):
        dirs = _directories(engine, store.path(scan_id))
        entries = engine.dataset(store.path(scan_id), "entries")
        scan = session.get_one(Scan, scan_id, with_for_update=True)
        found = projects.of_scan(catalog.projects(session), scan.roots, engine, dirs)
        totals = rollup.Rollup(engine, dirs, entries, found, int(manifest.started_at.timestamp()))
        loaded = engine.load_ahead(database, store, manifest, totals.directories)
        load.forget_history(session, scan_id)
        load.publish(session, scan, filesystem, totals, found, settings.scan.top_files, loaded)
        scan.state, scan.failure = ScanState.PUBLISHED, None
        scan.published_at = db.utc_now()
    with database.transaction() as session:
        scan = queries.scan_by_id(session, scan_id)
        scan.timings_s = {**scan.timings_s, **steps.seconds}


def _directories(engine: "Engine", scan_dir: Path) -> "Table":
    """The directories of a scan; those of earlier versions have no access, so are for staff."""
    import ibis

    dirs = engine.dataset(scan_dir, "dirs")
    return dirs if "access" in dirs.columns else dirs.mutate(access=ibis.null("string"))
