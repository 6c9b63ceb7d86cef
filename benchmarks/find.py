"""A search in one project reads that project's row groups, not the scan."""

import argparse
import os
import shutil
import tempfile
from pathlib import Path

from benchmarks import measure, stores
from datamgr.config import Settings
from datamgr.db import Database, open_database
from scanners import find, places, publish, sorting
from scanners.find import Question
from scanners.queries import Selection
from scanners.visibility import EVERYTHING

# A project of many alike; no name, so that every row of it is looked at.
PROJECT = "dir-000002"
QUESTION = Question(larger_than_bytes=1 << 30, older_than_s=365 * 86400)


def run(arguments: argparse.Namespace) -> None:
    """The same question to one project and to all, on the largest synthetic store."""
    entries = max(arguments.stores)
    folder = Path(tempfile.mkdtemp(prefix="datamgr-bench-", dir=os.environ.get("BENCHMARK_DIR")))
    try:
        settings = Settings(state_dir=folder)
        with open_database(settings) as database:
            scan_id = stores.register(database, "synthetic")
            stores.make(settings.scan_store_dir, "synthetic", scan_id, entries)
            publish.publish(settings, database, scan_id)
            _compare(settings, database, entries, arguments.rounds)
            _sort(settings, database, entries)
    finally:
        shutil.rmtree(folder)


def _compare(settings: Settings, database: Database, entries: int, rounds: int) -> None:
    def search(project: str | None) -> None:
        with database.transaction(read_only=True) as session:
            selection = Selection(project=project)
            found_in = places.of(session, EVERYTHING, settings.scan_store_dir, selection)
        for _ in find.search(found_in, QUESTION):
            pass

    read = []
    for project in (PROJECT, None):
        before = _read_bytes()
        search(project)
        read.append(_read_bytes() - before)
    one, everything = measure.alternated(rounds, lambda: search(PROJECT), lambda: search(None))
    measure.report(
        f"find in all of {entries} synthetic entries / in one of {stores.PROJECTS} projects",
        ratio=everything / one,
        bytes_ratio=read[1] / read[0],
        one_s=one,
        all_s=everything,
        one_mib=read[0] / measure.MEBI,
        all_mib=read[1] / measure.MEBI,
    )


def _sort(settings: Settings, database: Database, entries: int) -> None:
    with database.transaction(read_only=True) as session:
        found_in = places.of(session, EVERYTHING, settings.scan_store_dir, Selection())

    def stream(*, is_sorted: bool) -> None:
        columns = ("path", "size_bytes")
        batches = find.search(found_in, Question(kinds=frozenset("f")), columns)
        if is_sorted:
            batches = sorting.sorted_batches(settings, batches, columns, "size", "mtime", None)
        for _ in batches:
            pass

    peaks = [
        measure.peak_rss_bytes(lambda is_sorted=is_sorted: stream(is_sorted=is_sorted))
        for is_sorted in (False, True)
    ]
    measure.report(
        f"peak memory of find of {entries} synthetic entries",
        stream_mib=peaks[0] // measure.MEBI,
        sorted_mib=peaks[1] // measure.MEBI,
    )


def _read_bytes() -> int:
    """What this process has read so far. Source: proc_pid_io(5)."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("rchar:"))
