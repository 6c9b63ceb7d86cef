"""What becomes of earlier scans: interrupted ones, old ones, unwanted ones."""

import logging

import sqlalchemy as sa

from datamgr import audit, catalog
from datamgr.config import Settings
from datamgr.db import Database
from datamgr.errors import ConflictError
from datamgr.identity import Caller
from scanners import load, queries
from scanners.lock import filesystem_lock
from scanners.models import Scan, ScanState
from scanners.store import ScanStore

log = logging.getLogger(__name__)


def clean_up(database: Database, store: ScanStore, filesystem_id: int) -> None:
    """Mark scans failed that a killed process left, and remove their files. Needs the lock."""
    with database.transaction() as session:
        unpublished = session.scalars(
            sa.select(Scan).where(
                Scan.filesystem_id == filesystem_id,
                Scan.state.in_([ScanState.WALKING, ScanState.FAILED]),
            )
        ).all()
        for scan in unpublished:
            if scan.state == ScanState.WALKING:
                log.warning("scan %s was interrupted; its files are removed", scan.id)
                scan.state, scan.failure = ScanState.FAILED, "interrupted"
        # One whose row is locked is being published.
        for scan_id in session.scalars(
            sa.select(Scan.id)
            .where(Scan.filesystem_id == filesystem_id)
            .with_for_update(skip_locked=True)
        ).all():
            load.drop_unpublished(session, scan_id)
    # Killed between the disk and the database, it may have left a complete scan.
    for scan in unpublished:
        store.remove(scan.id)
    store.discard_partial()


def prune(settings: Settings, database: Database, store: ScanStore, filesystem_id: int) -> None:
    """Remove scans beyond `scan.keep_scans`, and older ones that were never published."""
    with database.transaction() as session:
        published = session.scalars(
            sa.select(Scan.id)
            .where(Scan.filesystem_id == filesystem_id, Scan.state == ScanState.PUBLISHED)
            .order_by(Scan.id.desc())
        ).all()
        kept = set(published[: settings.scan.keep_scans])
        oldest = min(kept) if len(kept) == settings.scan.keep_scans else 0
        old = session.scalars(
            sa.select(Scan.id).where(
                Scan.filesystem_id == filesystem_id,
                Scan.id < max(published, default=0),
                sa.or_(
                    Scan.state.in_([ScanState.PUBLISHED, ScanState.WALKED]),
                    Scan.id < oldest,
                ),
            )
        ).all()
    for scan_id in sorted(set(old) - kept):
        log.info("removing scan %s of %s", scan_id, store.directory)
        _remove_all(database, store, scan_id)


def remove(
    settings: Settings,
    database: Database,
    caller: Caller,
    scan_id: int,
    *,
    force: bool = False,
    dry_run: bool = False,
) -> str:
    """Remove a scan and its files; the history of projects stays. Returns what was done.

    Raises:
        NotFoundError: there is no such scan.
        ForbiddenError: the caller may not remove scans.
        ConflictError: it is running, or it is the current one and `force` is off.
    """
    with database.transaction() as session:
        catalog.require_manager(session, caller, "remove scans")
        scan = queries.scan_by_id(session, scan_id)
        filesystem = session.get_one(catalog.FileSystem, scan.filesystem_id)
        name, filesystem_id = filesystem.name, filesystem.id
        if queries.current_scan_id(session, filesystem_id) == scan_id and not force:
            raise ConflictError(
                f"scan {scan_id} is the current one of {name}; "
                "scan again first, or remove it with --force"
            )
    store = ScanStore(settings.scan_store_dir, name)
    done = f"scan {scan_id} of {name} and its files in {store.path(scan_id)}"
    if dry_run:
        return f"would remove {done}"
    with filesystem_lock(database, filesystem_id, name):
        with database.transaction() as session:
            audit.record(session, caller, "scan.remove", f"scan {scan_id}", {"filesystem": name})
        _remove_all(database, store, scan_id)
    return f"removed {done}"


def _remove_all(database: Database, store: ScanStore, scan_id: int) -> None:
    """First out of the answers, then off the disk; `clean_up` ends what a crash cuts short."""
    with database.transaction() as session:
        load.clear(session, scan_id)
        load.drop_unpublished(session, scan_id)
        scan = queries.scan_by_id(session, scan_id)
        scan.state, scan.failure = ScanState.FAILED, "removed"
    store.remove(scan_id)
    with database.transaction() as session:
        session.execute(sa.delete(Scan).where(Scan.id == scan_id))
