"""A walk to Parquet with all columns takes no longer than `find -printf` of the same fields."""

import argparse
import os
import shutil
import tempfile
from pathlib import Path

from benchmarks import measure, trees
from datamgr import process
from scanners import walk
from scanners.store import ScanStore
from scanners.walker import WalkOptions

FIELDS = r"%y\t%m\t%n\t%U\t%G\t%s\t%b\t%D\t%i\t%A@\t%T@\t%C@\t%p\0"


def run(arguments: argparse.Namespace) -> None:
    """Walk one real tree both ways, warm, in turn."""
    workers = len(os.sched_getaffinity(0))
    with trees.tree(arguments.entries) as root:
        find(root)  # warms the cache for both
        ours, peer = measure.alternated(
            arguments.rounds, lambda: scan(root, workers), lambda: find(root)
        )
    measure.report(
        f"walk of {arguments.entries} entries by {workers} processes / find -printf to a file",
        ratio=ours / peer,
        ours_s=ours,
        find_s=peer,
        entries_per_s=int(arguments.entries / ours),
    )


def scan(root: Path, workers: int) -> walk.WalkResult:
    """Walk into a scan store that is then removed."""
    with tempfile.TemporaryDirectory() as folder:
        store = ScanStore(Path(folder), "bench")
        return walk.walk([os.fsencode(root)], store.begin(1), WalkOptions(workers))


def find(root: Path) -> None:
    """The same fields by findutils, into a file."""
    folder = tempfile.mkdtemp()
    try:
        process.run(["find", str(root), "-fprintf", f"{folder}/list", FIELDS], timeout_s=3600)
    finally:
        shutil.rmtree(folder)
