"""Spark on the cores of one machine takes at most 8 times DuckDB's time to publish a large scan.

Then the same on one executor and on two, which are processes of one core each.
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path

from benchmarks import measure, stores
from datamgr.config import ScanSettings, Settings
from datamgr.db import Database, open_database
from scanners import publish, spark_engine

MASTERS = ("local[2]", "local-cluster[1,1,3072]", "local-cluster[2,1,3072]")


def run(arguments: argparse.Namespace) -> None:
    """The largest of the synthetic scan stores by each engine, Spark's start not counted."""
    entries = max(arguments.stores)
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    folder = Path(tempfile.mkdtemp(prefix="datamgr-bench-", dir=os.environ.get("BENCHMARK_DIR")))
    try:
        settings = Settings(state_dir=folder)
        with open_database(settings) as database:
            scan_id = stores.register(database, "synthetic")
            stores.make(settings.scan_store_dir, "synthetic", scan_id, entries)
            _publish(settings, database, scan_id)  # loads the engine and warms the cache
            duckdb_s = _publish(settings, database, scan_id)
            spark_s, one_s, two_s = (
                _on_spark(settings, database, scan_id, master) for master in MASTERS
            )
    finally:
        shutil.rmtree(folder)
    measure.report(
        f"publication of {entries} synthetic entries by Spark {MASTERS[0]} / by DuckDB",
        ratio=spark_s / duckdb_s,
        spark_s=spark_s,
        duckdb_s=duckdb_s,
    )
    measure.report(
        f"publication of {entries} synthetic entries by one executor / by two",
        ratio=one_s / two_s,
        one_s=one_s,
        two_s=two_s,
    )


def _publish(settings: Settings, database: Database, scan_id: int) -> float:
    return measure.seconds(lambda: publish.publish(settings, database, scan_id))


def _on_spark(settings: Settings, database: Database, scan_id: int, master: str) -> float:
    scan = ScanSettings(
        engine="spark",
        spark_master=master,
        engine_memory="3GiB",
        spark_conf={"spark.executor.memory": "2g"},
    )
    on_spark = settings.model_copy(update={"scan": scan})
    with spark_engine.running(on_spark):
        return _publish(on_spark, database, scan_id)
