"""One scan, from the walk to its publication."""

import base64
import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from datamgr import catalog, db
from datamgr.config import Settings
from datamgr.db import Database
from datamgr.errors import DatamgrError, InvalidError, UnavailableError
from scanners import mounts, queries, retention, walk
from scanners import publish as publishing
from scanners.lock import filesystem_lock
from scanners.models import Scan, ScanState
from scanners.paths import is_below
from scanners.publish import Steps
from scanners.store import Manifest, ScanStore
from scanners.walker import WalkOptions

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScanRequest:
    """What to scan and under which name."""

    filesystem: str
    roots: Sequence[bytes]
    workers: int = 0
    cross_mounts: bool = False


@dataclass(frozen=True)
class Filling:
    """One way to fill the scan store: a walk, or the import of a list.

    `fill` writes the datasets into a directory; it says what the roots are if they are not known
    before. `started_at` is when the figures were true, if that was earlier than now.
    """

    filesystem: str
    source: str
    step: str
    roots: Sequence[bytes]
    atime_policy: str
    fill: Callable[[Path], walk.WalkResult]
    started_at: datetime | None = None


def run(
    settings: Settings,
    database: Database,
    request: ScanRequest,
    on_progress: Callable[[walk.Progress], None] = lambda _: None,
    on_step: Callable[[str], None] = lambda _: None,
) -> int:
    """Scan a file system and publish the result; returns the scan's number.

    Until the last commit the earlier scan stays current, whatever happens.

    Raises:
        NotFoundError, InvalidError: a root does not exist, is no directory or lies in another.
        ConflictError: a scan of this file system is running.
        UnavailableError: disk full, out of memory, or the database went away.
    """
    roots = checked_roots(request.roots)
    options = WalkOptions(
        workers=request.workers or settings.scan.workers or walk.default_workers(),
        max_depth=settings.scan.max_depth,
        cross_mounts=request.cross_mounts,
    )

    def fill(directory: Path) -> walk.WalkResult:
        if settings.scan.engine == "spark":
            from scanners import spark_walk

            return spark_walk.walk(settings, roots, directory, options, on_progress)
        return walk.walk(roots, directory, options, on_progress)

    filling = Filling(request.filesystem, "walk", "walk", roots, mounts.atime_policy(roots), fill)
    with _spark(settings):
        return fill_and_publish(settings, database, filling, on_step)


@contextmanager
def _spark(settings: Settings) -> Iterator[None]:
    """One Spark for the walk and the roll-up, where it is the engine."""
    if settings.scan.engine == "spark":
        from scanners import spark_engine

        with spark_engine.running(settings):
            yield
    else:
        yield


def fill_and_publish(
    settings: Settings,
    database: Database,
    filling: Filling,
    on_step: Callable[[str], None] = lambda _: None,
) -> int:
    """Add a scan to the store, publish it and return its number.

    Until the last commit the earlier scan stays current, whatever happens.

    Raises:
        ConflictError: a scan of this file system is running.
        UnavailableError: disk full, out of memory, or the database went away.
        DatamgrError: as `filling.fill`.
    """
    with database.transaction() as session:
        filesystem_id = catalog.ensure_filesystem(session, filling.filesystem).id
    store = ScanStore(settings.scan_store_dir, filling.filesystem)
    steps = Steps(on_step)
    with filesystem_lock(database, filesystem_id, filling.filesystem):
        retention.clean_up(database, store, filesystem_id)
        scan_id = _begin(database, filesystem_id, filling)
        try:
            with steps.timed(filling.step):
                _fill(database, store, scan_id, filling)
            publishing.publish(settings, database, scan_id, steps)
        except BaseException as error:
            _fail(database, scan_id, error, steps.seconds)
            store.discard_partial(scan_id)
            raise
        retention.prune(settings, database, store, filesystem_id)
    return scan_id


def checked_roots(paths: Sequence[bytes]) -> list[bytes]:
    """The roots with symbolic links resolved, none inside another.

    Raises:
        NotFoundError, InvalidError: a path does not exist, is no directory, cannot be listed
            or lies in another one.
    """
    roots = sorted({catalog.real_directory(path) for path in paths})
    for root in roots:
        if not os.access(root, os.R_OK | os.X_OK, effective_ids=True):
            raise InvalidError(f"{os.fsdecode(root)} may not be read by this account")
        for other in roots:
            if other != root and is_below(root, other):
                raise InvalidError(
                    f"{os.fsdecode(root)} lies in {os.fsdecode(other)}; name only one of them"
                )
    return roots


def _begin(database: Database, filesystem_id: int, filling: Filling) -> int:
    with database.transaction() as session:
        scan = Scan(
            filesystem_id=filesystem_id,
            state=ScanState.WALKING,
            source=filling.source,
            host=socket.gethostname(),
            roots=list(filling.roots),
            started_at=filling.started_at or db.utc_now(),
            errors={},
            atime_policy=filling.atime_policy,
            timings_s={},
        )
        session.add(scan)
        session.flush()
        return scan.id


def _fill(database: Database, store: ScanStore, scan_id: int, filling: Filling) -> None:
    with database.transaction() as session:
        scan = queries.scan_by_id(session, scan_id)
    result = filling.fill(store.begin(scan_id))
    finished_at = datetime.now(UTC)
    roots = list(result.roots or filling.roots)
    manifest = Manifest(
        filesystem=filling.filesystem,
        scan_id=scan_id,
        source=scan.source,
        host=scan.host,
        roots_b64=tuple(base64.b64encode(root).decode() for root in roots),
        started_at=scan.started_at,
        finished_at=finished_at,
        entries=result.entries,
        directories=result.directories,
        errors=result.errors,
        atime_policy=scan.atime_policy,
    )
    store.complete(scan_id, manifest)
    with database.transaction() as session:
        scan = queries.scan_by_id(session, scan_id)
        if scan.state != ScanState.WALKING:
            raise UnavailableError(f"scan {scan_id} lost its lock and was given up; scan again")
        scan.state, scan.finished_at = ScanState.WALKED, finished_at
        scan.entries, scan.directories = result.entries, result.directories
        scan.errors, scan.roots = result.errors, roots


def _fail(
    database: Database, scan_id: int, error: BaseException, seconds: dict[str, float]
) -> None:
    """Note why a scan failed. A complete walk stays, so that publishing can be tried again."""
    try:
        with database.transaction() as session:
            scan = queries.scan_by_id(session, scan_id)
            if scan.state == ScanState.WALKING:
                scan.state = ScanState.FAILED
            scan.failure = str(error) or type(error).__name__
            scan.timings_s = seconds
    except DatamgrError as reason:  # the error that ended the scan is the one to report
        log.warning("scan %s failed and the database could not be told: %s", scan_id, reason)
