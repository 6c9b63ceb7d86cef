"""Commands start quickly: beside the two imports that they cannot do without."""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks import measure
from datamgr import process
from datamgr.config import Settings
from datamgr.db import open_database
from scanners import scan


def run(arguments: argparse.Namespace) -> None:
    """`datamgr --help` and `datamgr usage --json` beside `import click, sqlalchemy`."""
    folder = Path(tempfile.mkdtemp(prefix="datamgr-bench-"))
    environment = {**os.environ, "DATAMGR_STATE_DIR": str(folder)}

    def python(*argv: str) -> None:
        process.run([sys.executable, *argv], timeout_s=60, env=environment)

    try:
        settings = Settings(state_dir=folder)
        with open_database(settings) as database:  # kept running, as beside `datamgr up`
            scan.run(settings, database, scan.ScanRequest("here", [os.fsencode(Path.cwd())]))
            peer, help_, usage = measure.alternated(
                5 * arguments.rounds,
                lambda: python("-c", "import click, sqlalchemy"),
                lambda: python("-m", "datamgr.cli.main", "--help"),
                lambda: python("-m", "datamgr.cli.main", "usage", "--json"),
            )
    finally:
        shutil.rmtree(folder)
    for name, taken in (("datamgr --help", help_), ("datamgr usage --json", usage)):
        measure.report(
            f'{name} / python -c "import click, sqlalchemy"',
            ratio=taken / peer,
            ours_s=taken,
            peer_s=peer,
        )
