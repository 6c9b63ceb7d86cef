"""Staging files from tapes in the order of the archive, beside the order in which they are named.

1 000 random files of `--entries` / 10 (at most 100 000) of 4 KB, which `put` has bundled by the
thousand. Before it stages, the containers are spread over eight volumes, as where others write in
between. What a drive takes is what the model says (`tiering.archive.tape`), so that no noise of
the machine is in it; the seconds that the machine takes are told besides. Needs root.
"""

import argparse
import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import measure
from datamgr import embedded, migrations
from datamgr.config import DatabaseSettings, Settings
from datamgr.config_tier import TapeArchive, TierSettings
from datamgr.db import Database, make_engine
from tiering.archive.segments import SegmentedStore
from tiering.archive.tape import CATALOGUE, Figures, Spent, TapeStore
from tiering.archive.zst import ZstdStore
from tiering.punch import punch
from tiering.put import put
from tiering.root import Report, open_root
from tiering.stage import stage

FILE_BYTES, FOLDER_FILES, BUNDLE_FILES = 4096, 1000, 1000
WANTED, VOLUMES = 1000, 8


def run(arguments: argparse.Namespace) -> None:
    """The factor between both orders."""
    number = min(arguments.entries // 10, 100_000)
    chance = random.Random(1)
    folder = Path(tempfile.mkdtemp(prefix="datamgr-bench-", dir=os.environ.get("BENCHMARK_DIR")))
    try:
        settings = _settings(folder)
        with _database(folder) as database:
            names = _make(folder / "data", number)
            with open_root(settings, database, "bench") as root:
                _whole(put(root, [b"."]))
            containers = _spread(folder / "tapes" / CATALOGUE, chance)
            wanted = chance.sample(names, min(WANTED, number))
            ordered = _staged(settings, database, wanted, [wanted])
            named = _staged(settings, database, wanted, [[name] for name in wanted])
    finally:
        shutil.rmtree(folder)
    for claim, (spent, seconds) in (("in order", ordered), ("as named", named)):
        measure.report(
            f"{len(wanted)} of {number} files from {containers} containers, {claim}",
            drive_s=spent.total_s,
            mounts=spent.mounts,
            locates=spent.locates,
            mounting_s=spent.mounting_s,
            locating_s=spent.locating_s,
            transfer_s=spent.transfer_s,
            machine_s=seconds,
        )
    measure.report("as named / in order", ratio=named[0].total_s / ordered[0].total_s)


def _settings(folder: Path) -> Settings:
    for name in ("data", "tapes"):
        (folder / name).mkdir()
    tier = TierSettings(
        root=folder / "data",
        archive=TapeArchive(kind="tape", path=folder / "tapes"),
        bundle_files=BUNDLE_FILES,
    )
    return Settings(
        state_dir=folder / "state", database=DatabaseSettings(url="embedded"), tier={"bench": tier}
    )


@contextmanager
def _database(folder: Path) -> Iterator[Database]:
    with embedded.running(folder / "postgres") as running:
        engine = make_engine(running.url("postgres"), 10)
        migrations.run_upgrade(engine)
        yield Database(engine)
        engine.dispose()


def _make(tree: Path, number: int) -> list[bytes]:
    block = os.urandom(FILE_BYTES + number)
    names = []
    for n in range(number):
        folder = tree / f"d{n // FOLDER_FILES:04}"
        if n % FOLDER_FILES == 0:
            folder.mkdir()
        (folder / f"f{n:06}").write_bytes(block[n : n + FILE_BYTES])
        names.append(f"{folder.name}/f{n:06}".encode())
    return names


def _spread(catalogue: Path, chance: random.Random) -> int:
    """Give each container a random place on a random volume."""
    figures = Figures()
    lines = [json.loads(line) for line in catalogue.read_bytes().splitlines() if line]
    for line in lines:
        line["volume"] = f"T{chance.randrange(VOLUMES) + 1:05}L9"
        line["position"] = chance.randrange(figures.capacity_bytes - line["size_bytes"])
    catalogue.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return len(lines)


def _staged(
    settings: Settings, database: Database, wanted: list[bytes], requests: list[list[bytes]]
) -> tuple[Spent, float]:
    """Make stubs of what is wanted, and stage it by these requests, with an empty drive."""
    with open_root(settings, database, "bench") as root:
        _whole(punch(root, wanted))
        assert isinstance(root.store, ZstdStore)
        assert isinstance(root.store.inner, SegmentedStore)
        store = root.store.inner.inner
        assert isinstance(store, TapeStore)
        seconds = measure.seconds(lambda: [_whole(stage(root, paths)) for paths in requests])
        return store.drive.spent, seconds


def _whole(report: Report) -> None:
    if report.failures:
        raise SystemExit(f"{report.failures[0].path!r}: {report.failures[0].reason}")
