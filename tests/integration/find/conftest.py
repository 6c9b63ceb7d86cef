"""A hostile tree of two projects, scanned once, and commands that ask about it."""

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from datamgr import catalog
from datamgr.catalog import ProjectChange
from datamgr.config import Settings
from datamgr.db import Database, make_engine
from datamgr.identity import Caller, Role
from scanners import scan
from tests import databases, trees
from tests.trees import DAY_S, MIB

ROOT = Caller("root", 0, frozenset(), Role.STAFF)


@dataclass(frozen=True)
class Scanned:
    """A published scan."""

    root: Path
    started_s: int
    settings: Settings
    database: Database

    def again(self) -> int:
        return scan_it(self.root, self.settings, self.database)


def scan_it(root: Path, settings: Settings, database: Database) -> int:
    return scan.run(settings, database, scan.ScanRequest("fs", [os.fsencode(root)], workers=1))


def fill(root: Path) -> None:
    """`alpha` and `beta` with files of many sizes and ages, `odd` with every hostile name."""
    now_s = int(time.time())
    for project, owner in (("alpha", (60_001, 60_101)), ("beta", (60_002, 60_102))):
        for run in range(4):
            folder = root / project / f"run{run}"
            folder.mkdir(parents=True)
            for number in range(6):
                name = f"data{number}.{'h5' if number % 2 else 'txt'}"
                when = now_s - (number * 100 + run) * DAY_S
                trees.make_sparse(
                    folder / name, number**3 * 10_000 * (run + 1), owner=owner, read_s=now_s - when,
                    changed_s=when,
                )  # fmt: skip
            (folder / "link").symlink_to("data1.h5")
    os.mkfifo(root / "beta/pipe")
    trees.make_sparse(root / "beta/large", 5 * MIB, read_s=now_s, changed_s=-3 * 365 * DAY_S)
    trees.make_sparse(root / "beta/of-tomorrow", 7, read_s=now_s, changed_s=now_s + 9 * DAY_S)
    (root / "odd").mkdir()
    trees.hostile(root / "odd")


@pytest.fixture(scope="session")
def scanned_once(server: sa.Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scanned]:
    """For tests that only read."""
    folder = tmp_path_factory.mktemp("find")
    with (
        databases.fresh(server) as url,
        tempfile.TemporaryDirectory(prefix="datamgr-test-", dir="/var/tmp") as place,
    ):
        settings = databases.settings(url, folder / "state")
        database = Database(make_engine(url, 10))
        root = Path(place) / "fs"
        root.mkdir()
        fill(root)
        with database.transaction() as session:
            for project in ("alpha", "beta"):
                change = ProjectChange(os.fsencode(root / project))
                catalog.add_project(session, ROOT, project, change)
        scan_it(root, settings, database)
        with database.transaction(read_only=True) as session:
            started_s = session.scalar(
                sa.text("SELECT extract(epoch FROM started_at)::bigint FROM scan")
            )
        assert started_s is not None
        yield Scanned(root, started_s, settings, database)
        database.engine.dispose()


@pytest.fixture
def scanned(scanned_once: Scanned, monkeypatch: pytest.MonkeyPatch) -> Scanned:
    """The scan, with commands asking about it."""
    monkeypatch.setenv("DATAMGR_DATABASE__URL", scanned_once.settings.database.url)
    monkeypatch.setenv("DATAMGR_STATE_DIR", str(scanned_once.settings.state_dir))
    return scanned_once
