"""Spark and DuckDB publish the same rows, bit for bit."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from benchmarks import stores
from datamgr import catalog, db
from datamgr.catalog import ProjectChange
from datamgr.config import Settings
from datamgr.db import Database
from datamgr.identity import Caller, Role
from scanners import parts, publish, record, scan
from scanners.importers import importing
from scanners.importers.source import ListSource
from scanners.store import Manifest, ScanStore
from tests import mounts, trees
from tests.integration.scanners_importers import rendering
from tests.integration.scanners_spark.complete_scans import by_duckdb, generate
from tests.integration.scanners_spark.conftest import Tables

STAFF = Caller("root", 0, frozenset({0}), Role.STAFF)
BIGGEST = 2**63 - 1

ReadTables = Callable[[int], Tables]

pytestmark = pytest.mark.usefixtures("spark")


def published_by_both(
    settings: Settings, database: Database, scan_id: int, tables: ReadTables
) -> Tables:
    """Publish a complete scan by each engine and compare; returns the rows."""
    publish.publish(by_duckdb(settings), database, scan_id)
    expected = tables(scan_id)
    publish.publish(settings, database, scan_id)
    found = tables(scan_id)
    for table, rows in expected.items():
        assert found[table] == rows, table
    return found


@mounts.needs_root
@pytest.mark.root
def test_golden_trees(
    spark_settings: Settings, spark_database: Database, tables: ReadTables, tmp_path: Path
) -> None:
    """Hostile names, links in and across projects, nested projects, sparse files, odd times."""
    (tmp_path / "mounted").mkdir()
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    trees.hostile(hostile)
    with mounts.ext4(tmp_path / "mounted") as place:
        root = place / "tree"
        trees.fixed(root, int(time.time()))
        with spark_database.transaction() as session:
            for name, path in (("alpha", "alpha"), ("inner", "alpha/nested/inner")):
                change = ProjectChange(path=os.fsencode(root / path), quota_bytes=10_000)
                catalog.add_project(session, STAFF, name, change)
        request = scan.ScanRequest("golden", [os.fsencode(root), os.fsencode(hostile)])
        scan_id = scan.run(by_duckdb(spark_settings), spark_database, request)
        found = published_by_both(spark_settings, spark_database, scan_id, tables)
    assert len(found["scan_project"]) == 3
    assert len(found["top_file"]) > len(trees.HOSTILE_NAMES) + 10


def test_an_imported_list(
    spark_settings: Settings, spark_database: Database, tables: ReadTables, tmp_path: Path
) -> None:
    """A GPFS list with hostile names, imported and published by Spark alone, then by both."""
    tree, listed = tmp_path / "tree", tmp_path / "list"
    tree.mkdir()
    trees.hostile(tree)
    found = [one for one in rendering.find(tree) if one.kind in "fdl"]
    listed.write_bytes(rendering.gpfs(found))
    request = importing.ImportRequest("gpfs", ListSource((str(listed),), "gpfs-list"))
    scan_id = importing.run(spark_settings, spark_database, request)
    by_spark = tables(scan_id)
    assert published_by_both(spark_settings, spark_database, scan_id, tables) == by_spark
    assert len(by_spark["directory"]) == sum(one.kind == "d" for one in found) > 1


def test_a_root_without_files(
    spark_settings: Settings, spark_database: Database, tables: ReadTables, tmp_path: Path
) -> None:
    """Then the scan has no files of entries either."""
    request = scan.ScanRequest("bare", [os.fsencode(tmp_path)])
    scan_id = scan.run(by_duckdb(spark_settings), spark_database, request)
    found = published_by_both(spark_settings, spark_database, scan_id, tables)
    assert [len(found[table]) for table in ("directory", "top_file")] == [1, 0]


def test_sizes_at_the_limits_of_classes_and_of_64_bits(
    spark_settings: Settings, spark_database: Database, tables: ReadTables
) -> None:
    """Sums beyond a bigint end at its largest; 60 links of one inode count its size once."""
    scan_id = stores.register(spark_database, "limits")
    allocated = [0, *(2**power + add for power in range(9, 53) for add in (-512, 0, 512))]
    rows = [(b"f%d" % n, n + 10, 1, alloc, alloc) for n, alloc in enumerate(allocated)]
    rows += [(b"link%d" % n, 5, 60, BIGGEST // 2, 512) for n in range(60)]
    rows += [(b"huge%d" % n, 1000 + n, 1, BIGGEST, 512) for n in range(3)]
    write_scan(spark_settings, "limits", scan_id, rows)
    settings = spark_settings.model_copy(
        update={"scan": spark_settings.scan.model_copy(update={"top_files": 7})}
    )
    found = published_by_both(settings, spark_database, scan_id, tables)
    assert any(BIGGEST in row for row in found["usage"])
    assert len(found["top_file"]) == 7


def write_scan(
    settings: Settings, filesystem: str, scan_id: int, files: list[tuple[Any, ...]]
) -> None:
    """A root with files of (name, inode, links, size, allocated bytes)."""
    store = ScanStore(settings.scan_store_dir, filesystem)
    partial = store.begin(scan_id)
    now = int(time.time())
    inode = {"mode": 0o100644, "dev": 1, "uid": 7, "gid": 8, "atime_s": now, "mtime_s": -now,
             "ctime_s": 0}  # fmt: skip
    root = inode | {
        "dir_id": 1, "parent_id": None, "path": b"/synth", "depth": 0, "ancestors": [1],
        "error": None, "access": None, "ino": 2, "nlink": 2, "size_bytes": 0, "alloc_bytes": 4096,
    }  # fmt: skip
    entries = [
        inode | {"dir_id": 1, "name": name, "kind": "f", "ino": ino, "nlink": nlink,
                 "size_bytes": size, "alloc_bytes": alloc}
        for name, ino, nlink, size, alloc in files
    ]  # fmt: skip
    for dataset, rows in (("dirs", [root]), ("entries", entries)):
        writer = parts.PartWriter(partial, dataset, 0)
        writer.write(pa.Table.from_pylist(rows, record.SCHEMAS[dataset]).to_batches()[0].columns)
        writer.close()
    begun = db.utc_now()
    manifest = Manifest(
        filesystem=filesystem, scan_id=scan_id, source="walk", host="", roots_b64=("L3N5bnRo",),
        started_at=begun, finished_at=begun, entries=len(files), directories=1, errors={},
        atime_policy="relatime",
    )  # fmt: skip
    store.complete(scan_id, manifest)


@pytest.mark.soak
def test_a_generated_scan(
    spark_settings: Settings,
    spark_database: Database,
    tables: ReadTables,
    pytestconfig: pytest.Config,
) -> None:
    """5 million entries in full."""
    entries = 5_000_000 if pytestconfig.getoption("full_soak") else 20_000
    scan_id = generate(spark_settings, spark_database, "generated", entries)
    found = published_by_both(spark_settings, spark_database, scan_id, tables)
    assert len(found["directory"]) == entries // 31


def test_spark_is_the_one_that_runs(spark: SparkSession, spark_settings: Settings) -> None:
    assert spark.sparkContext.master == spark_settings.scan.spark_master
    assert spark.conf.get("spark.sql.session.timeZone") == "UTC"
    assert spark.sparkContext.uiWebUrl is None
