"""Roll-up and load take at most half the time of the walk, and grow with the entries."""

import argparse
import os
import shutil
import tempfile
from pathlib import Path

from benchmarks import measure, stores, trees
from datamgr.config import Settings
from datamgr.db import Database, open_database
from scanners import publish, scan
from scanners.models import Scan


def run(arguments: argparse.Namespace) -> None:
    """A real tree end to end, then synthetic scans of growing size."""
    folder = Path(tempfile.mkdtemp(prefix="datamgr-bench-", dir=os.environ.get("BENCHMARK_DIR")))
    try:
        settings = Settings(state_dir=folder)
        with open_database(settings) as database:
            _real(settings, database, arguments.entries)
            _synthetic(settings, database, arguments.stores)
    finally:
        shutil.rmtree(folder)


def _real(settings: Settings, database: Database, entries: int) -> None:
    with trees.tree(entries) as root:
        request = scan.ScanRequest("real", [os.fsencode(root)])
        scan.run(settings, database, request)  # warms the cache and loads the engine
        scan_id = scan.run(settings, database, request)
    with database.transaction() as session:
        seconds = session.get_one(Scan, scan_id).timings_s
    measure.report(
        f"roll-up and load of {entries} entries / their walk",
        ratio=seconds["publish"] / seconds["walk"],
        publish_s=seconds["publish"],
        walk_s=seconds["walk"],
    )


def _synthetic(settings: Settings, database: Database, sizes: list[int]) -> None:
    smallest = None
    for number, entries in enumerate(sizes):
        name = f"synthetic{number}"
        scan_id = stores.register(database, name)
        stores.make(settings.scan_store_dir, name, scan_id, entries)
        taken: list[float] = []
        peak = measure.peak_rss_bytes(
            lambda scan_id=scan_id, taken=taken: taken.append(
                measure.seconds(lambda: publish.publish(settings, database, scan_id))
            )
        )
        smallest = smallest or taken[0] / entries
        measure.report(
            f"roll-up and load of {entries} synthetic entries",
            seconds=taken[0],
            entries_per_s=int(entries / taken[0]),
            time_per_entry_to_smallest=taken[0] / entries / smallest,
            peak_mib=peak // measure.MEBI,
        )
