"""Executors and drivers die at work: what is published is right, or nothing is."""

import functools
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa
from pyspark.sql import SparkSession

from datamgr.config import Settings
from datamgr.db import Database
from datamgr.errors import UnavailableError
from scanners import load, parts, publish, spark_load
from scanners.spark_load import Target
from tests.integration.scanners_spark.complete_scans import by_duckdb, generate
from tests.integration.scanners_spark.conftest import Tables
from tests.integration.scanners_spark.gates import LOADING, WAITING, count, gate, wait_until


def test_executors_killed_in_the_roll_up_and_in_the_load(
    spark: SparkSession,
    spark_settings: Settings,
    spark_database: Database,
    tables: Callable[[int], Tables],
    executors: Callable[[], list[psutil.Process]],
) -> None:
    scan_id = generate(spark_settings, spark_database, "killed", 20_000)
    publish.publish(by_duckdb(spark_settings), spark_database, scan_id)
    expected = tables(scan_id)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            publish.publish(spark_settings, spark_database, scan_id)
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    working = threading.Thread(target=work)
    with gate(spark_database.engine) as open_gate:
        working.start()
        tracker = spark.sparkContext.statusTracker()
        wait_until(tracker.getActiveStageIds)
        first = executors()[0]
        first.kill()
        wait_until(lambda: count(spark_database.engine, WAITING) >= 1)
        second = next(one for one in executors() if one != first)
        second.kill()
        open_gate()
        working.join()
    assert not failures, failures
    assert tables(scan_id) == expected
    assert count(spark_database.engine, LOADING) == 0


def test_a_share_is_copied_once_whoever_tries(
    spark: SparkSession, spark_database: Database, spark_settings: Settings
) -> None:
    """Two attempts at once, and one more after a commit of which nobody heard."""
    scan_id = generate(spark_settings, spark_database, "twice", 3_000)
    publish.publish(by_duckdb(spark_settings), spark_database, scan_id)
    folder = spark_settings.state_dir / "rows"
    rows = spark.range(1000).selectExpr(
        "id AS dir_id", "id AS project_number", "0 AS depth", "0 AS mode",
        "binary(string(id)) AS path",
        *(f"id AS {name}" for name in (
            "uid", "gid", "mtime_s", "files", "directories", "size_bytes", "alloc_bytes",
            "files_all_links", "size_all_bytes", "alloc_all_bytes")),
    )  # fmt: skip
    rows.write.parquet(f"file://{folder}")
    url = spark_database.engine.url.render_as_string(hide_password=False)
    target = Target(url, load.loading_name(scan_id, "0"), scan_id)
    files = parts.part_files(folder.parent, folder.name)
    spark_load._copy_all(spark, target, files)
    again = [(0, files[:1]), (0, files[:1])]
    copying = functools.partial(spark_load.copy_share, target)
    spark.sparkContext.parallelize(again, 2).foreach(copying)
    spark_load.copy_share(target, again[0])
    with spark_database.transaction() as session:
        assert session.scalar(sa.text(f"SELECT count(*) FROM {target.table}")) == 1000
        assert session.scalar(sa.text(f"SELECT sum(rows) FROM {target.notes}")) == 1000
        load.drop_unpublished(session, scan_id)


def test_a_database_out_of_reach_is_named(spark: SparkSession, tmp_path: Path) -> None:
    """As for executors on other hosts, which do not see the socket of the embedded PostgreSQL."""
    target = Target(f"postgresql+psycopg2://x@/x?host={tmp_path}", "directory", 1)
    with pytest.raises(UnavailableError, match=r"do not reach the database .* in database.url"):
        spark_load._require_reach(spark, target, tmp_path)
    with pytest.raises(UnavailableError, match=r"scan\.store_dir"):
        spark_load._require_reach(spark, target, tmp_path / "elsewhere")
