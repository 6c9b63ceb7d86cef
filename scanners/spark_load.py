"""The largest table of a roll-up, copied into PostgreSQL by Spark's executors side by side.

The rows go to Parquet files first, so that a copying task reads the same rows however often it
is tried. Each task is one transaction, which also notes the task in a second table: one whose
commit succeeded while its answer was lost finds the note and copies nothing.
"""

import functools
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa
from pyspark.sql import DataFrame, SparkSession

from datamgr import db
from datamgr.db import Database
from datamgr.errors import UnavailableError
from scanners import load, parts
from scanners.spark_engine import BATCH_ROWS, explained
from scanners.spark_sql import hadoop_path
from scanners.store import Manifest, ScanStore

# Connections at a time: more of them than PostgreSQL has cores only wait for each other.
TASKS = 16
CONNECT_TIMEOUT_S = 30
FILE_ROWS = 1_000_000


@dataclass(frozen=True)
class Target:
    """The table that the tasks of one load fill; `url` may hold a password."""

    url: str
    table: str
    scan_id: int

    @property
    def notes(self) -> str:
        """The table of the tasks that have committed."""
        return f"{self.table}_done"

    @contextmanager
    def open(self) -> Iterator[Database]:
        """The database, for the process that asks."""
        engine = db.make_engine(sa.make_url(self.url), CONNECT_TIMEOUT_S)
        try:
            yield Database(engine)
        finally:
            engine.dispose()


def load_directories(
    session: SparkSession,
    rows: DataFrame,
    database: Database,
    store: ScanStore,
    manifest: Manifest,
) -> str:
    """Copy the directories of a scan into a table of their own; returns its name.

    The caller holds the scan's row locked until the table is published. A crash leaves tables
    and files, which `retention.clean_up` removes.

    Raises:
        UnavailableError: Spark gave up, or executors reach neither database nor scan store.
    """
    url = database.engine.url.render_as_string(hide_password=False)
    name = load.loading_name(manifest.scan_id, secrets.token_hex(6))
    target = Target(url, name, manifest.scan_id)
    folder = store.scratch(manifest.scan_id) / name
    try:
        with explained("rolling up"):
            _require_reach(session, target, store.path(manifest.scan_id))
            rows.write.option("maxRecordsPerFile", FILE_ROWS).parquet(hadoop_path(folder))
        with explained("loading"):
            _copy_all(session, target, parts.part_files(folder.parent, folder.name))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    with target.open() as own, own.transaction(read_only=True) as reading:
        loaded = reading.scalar(sa.text(f"SELECT sum(rows) FROM {target.notes}"))
    if loaded != manifest.directories:
        raise UnavailableError(
            f"of {manifest.directories} directories {loaded} were loaded; publish the scan again"
        )
    return target.table


def _require_reach(session: SparkSession, target: Target, scan_dir: Path) -> None:
    """Ask executors whether they see the database and the scan.

    Raises:
        UnavailableError: one does not.
    """
    context = session.sparkContext
    probes = range(context.defaultParallelism)
    asked = context.parallelize(probes, len(probes)).map(
        functools.partial(_probe, target, scan_dir)
    )
    for problem in asked.collect():
        if problem:
            raise UnavailableError(problem)


def _probe(target: Target, scan_dir: Path, _: int) -> str | None:
    """On an executor: what it cannot reach."""
    host = socket.gethostname()
    if not scan_dir.is_dir():
        return (
            f"executors on {host} do not see {scan_dir}; put scan.store_dir on a file system that "
            "all of them share"
        )
    try:
        with target.open() as database, database.transaction() as session:
            session.execute(sa.text("SELECT 1"))
    except UnavailableError as error:
        return (
            f"executors on {host} do not reach the database ({error}); name a PostgreSQL server "
            "that they reach in database.url"
        )
    return None


def _copy_all(session: SparkSession, target: Target, files: list[str]) -> None:
    with target.open() as database, database.transaction() as own:
        load.create_detached(own, target.table)
        own.execute(sa.text(f"CREATE TABLE {target.notes} (task int PRIMARY KEY, rows bigint)"))
    shares = [(number, files[number::TASKS]) for number in range(min(TASKS, len(files)))]
    copying = session.sparkContext.parallelize(shares, len(shares))
    copying.foreach(functools.partial(copy_share, target))


def copy_share(target: Target, share: tuple[int, list[str]]) -> None:
    """On an executor: copy the rows of some files, once, whatever happened to earlier attempts.

    An attempt that is still running elsewhere is waited for, for it holds its note.
    """
    number, files = share
    rows = sum(pq.ParquetFile(file).metadata.num_rows for file in files)
    noting = f"INSERT INTO {target.notes} VALUES (:number, :rows) ON CONFLICT DO NOTHING"
    with target.open() as database, database.transaction() as session:
        noted = session.execute(sa.text(noting), {"number": number, "rows": rows})
        if noted.rowcount:  # type: ignore[attr-defined]
            load.copy(session, target.table, target.scan_id, _batches(files))


def _batches(files: list[str]) -> Iterator[pa.RecordBatch]:
    for file in files:
        yield from pq.ParquetFile(file).iter_batches(BATCH_ROWS)
