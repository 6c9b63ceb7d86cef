"""A scan that is killed at any moment leaves the earlier one current, and nothing behind."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa

from datamgr.config import ScanSettings, Settings
from datamgr.db import Database
from datamgr.errors import UnavailableError
from scanners import leaders, queries, scan
from scanners.visibility import EVERYTHING
from tests import trees
from tests.waits import eventually

NAME = "soaked"
KEEP = 2
SCAN = ("scan", "run", "--name", NAME)

# Where a scan is killed: what is about to happen then, and how `tests.crash` notices.
POINTS = {
    "before the walk": ("commit", "INSERT INTO scan "),
    "before the manifest": ("event", r"open .*manifest\.json"),
    "before the store is complete": ("event", r"os\.rename .*\.partial"),
    "after the store is complete": ("commit", "UPDATE scan SET state=.*entries"),
    "before the roll-up": ("event", r"import .*'scanners\.rollup'"),
    "during the load": ("statement", "ATTACH PARTITION"),
    "before the commit": ("commit", "INSERT INTO project_history"),
    "while old files are removed": ("event", r"shutil\.rmtree .*\.removed\.partial"),
    "before old files are removed": ("event", r"os\.rename .*\.removed\.partial"),
}
# Those that leave different things behind.
SLICE = [3, 6, 7, 8]


@dataclass(frozen=True)
class Soak:
    """A file system with published scans, and commands that scan it once more."""

    settings: Settings
    database: Database
    tree: Path

    def run(self) -> int:
        request = scan.ScanRequest(NAME, [os.fsencode(self.tree)], workers=1)
        return scan.run(self.settings, self.database, request)

    def start(self, *before: str) -> subprocess.Popen[bytes]:
        """`datamgr scan run` in a process group of its own."""
        argv = [sys.executable, "-m", *(before or ("datamgr.cli.main",)), *SCAN, self.tree]
        return subprocess.Popen(
            argv,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={
                **os.environ,
                "DATAMGR_STATE_DIR": str(self.settings.state_dir),
                "DATAMGR_DATABASE__URL": self.settings.database.url,
                "DATAMGR_SCAN__KEEP_SCANS": str(KEEP),
            },
        )

    def answers(self) -> list[Any]:
        """What users are told: the current scan, and figures from every roll-up."""
        selection = queries.Selection(NAME)
        with self.database.transaction(read_only=True) as session:
            return [
                [row["id"] for row in queries.scans(session) if row["current"]],
                queries.projects(session, EVERYTHING, selection),
                queries.by_owner(session, EVERYTHING, selection, "user"),
                leaders.files(session, EVERYTHING, selection, 1000),
                leaders.directories(session, EVERYTHING, selection, 1000),
                queries.ages_of_files(session, EVERYTHING, selection, "mtime"),
            ]

    def change(self) -> None:
        """Something that another scan would see."""
        with (self.tree / "growing").open("ab") as file:
            file.write(b"x" * 10_000)

    def assert_clean(self) -> None:
        """Tables, files and states are those of the published scans."""
        with self.database.transaction(read_only=True) as session:
            states = {row["id"]: row["state"] for row in queries.scans(session)}
            tables = session.scalars(
                sa.text("SELECT relname FROM pg_class WHERE relname ~ '^directory_scan_[0-9]+$'")
            ).all()
        published = {number for number, state in states.items() if state == "published"}
        assert set(states.values()) <= {"published", "failed"}
        assert len(published) <= KEEP
        assert set(tables) == {f"directory_scan_{number}" for number in published}
        store = self.settings.scan_store_dir / NAME
        assert {path.name for path in store.iterdir()} == {str(number) for number in published}


def descendants_left(session_id: int, timeout_s: float = 60) -> list[psutil.Process]:
    """Processes of a session that are still alive after a while."""
    end = time.monotonic() + timeout_s
    while True:
        left = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, ProcessLookupError):
                alive = process.status() != psutil.STATUS_ZOMBIE
                if alive and os.getsid(process.pid) == session_id:
                    left.append(process)
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.05)


@pytest.fixture(scope="module")
def soak(
    module_settings: Settings,
    module_database: Database,
    tmp_path_factory: pytest.TempPathFactory,
) -> Soak:
    """With as many scans as are kept, so that the next one has one to remove."""
    tree = tmp_path_factory.mktemp("soaked")
    for top in range(4):
        for below in range(20):
            directory = tree / f"top{top}/below{below}"
            directory.mkdir(parents=True)
            trees.make_file(directory / "file", 1000 * below)
    kept = module_settings.model_copy(update={"scan": ScanSettings(keep_scans=KEEP)})
    made = Soak(kept, module_database, tree)
    for _ in range(KEEP):
        made.run()
    return made


def killed(process: subprocess.Popen[bytes], when: str) -> None:
    """Wait for the end of a process that was killed, and look at what it left."""
    _, said = process.communicate(timeout=60)
    assert descendants_left(process.pid) == [], when
    assert process.returncode == -9, f"{when}: not killed but ended; {said.decode()}"


@pytest.mark.soak
def test_a_scan_killed_at_any_step_leaves_the_earlier_one_current(
    soak: Soak, request: pytest.FixtureRequest
) -> None:
    """What each of them leaves is gone once the next has ended."""
    points = list(POINTS)
    if not request.config.getoption("--full-soak"):
        points = [points[index] for index in SLICE]
    for point in points:
        kind, pattern = POINTS[point]
        before = soak.answers()
        soak.change()
        killed(soak.start("tests.crash", kind, pattern), point)
        after = soak.answers()
        if "old files" in point:
            assert after[0] != before[0], "it was published already"
        else:
            assert after == before, point
    assert_next_run_succeeds(soak)


def assert_next_run_succeeds(soak: Soak) -> None:
    finished = soak.run()
    assert soak.answers()[0] == [finished]
    soak.assert_clean()


@pytest.mark.soak
def test_scans_killed_at_random_moments_leave_the_earlier_one_current(
    soak: Soak, request: pytest.FixtureRequest
) -> None:
    option: Callable[[str], Any] = request.config.getoption
    number = time.time_ns() if option("--seed") is None else option("--seed")
    kills = option("--kills") or (200 if option("--full-soak") else 3)
    print(f"--seed {number} --kills {kills}")
    chosen = random.Random(number)
    for _ in range(kills):
        before = soak.answers()
        soak.change()
        process = soak.start()
        moment_s = chosen.uniform(0.2, 5.0)
        with suppress(subprocess.TimeoutExpired):
            process.wait(moment_s)
        process.kill()
        process.communicate(timeout=60)
        assert descendants_left(process.pid) == [], f"after {moment_s:.3f} s"
        after = soak.answers()
        if after[0] == before[0]:
            assert after == before, f"after {moment_s:.3f} s"
        if chosen.random() < 0.5:
            soak.run()
            soak.assert_clean()
    assert_next_run_succeeds(soak)


def test_a_scan_killed_during_the_walk_takes_its_processes_with_it(
    soak: Soak, in_memory: Path
) -> None:
    """The walk of 20,000 directories is under way when only the parent is killed."""
    before = soak.answers()
    trees.make_many_directories(in_memory, 20_000)
    process = replace(soak, tree=in_memory).start()
    try:
        eventually(lambda: len(descendants_left(process.pid, 0)) >= 3, "the walkers start")
        written = soak.settings.scan_store_dir / NAME
        eventually(lambda: list(written.glob("*.partial/dirs/part-*")), "a part is written")
    except BaseException:
        process.kill()
        process.communicate()
        raise
    process.kill()
    killed(process, "during the walk")
    assert soak.answers() == before
    assert_next_run_succeeds(soak)


def test_the_files_of_another_database_are_neither_taken_nor_overwritten(soak: Soak) -> None:
    """A database that was made anew counts from 1 again, where the store has a scan 1."""
    before = soak.answers()
    with soak.database.transaction() as session:
        last = session.scalar(sa.text("SELECT last_value FROM scan_id_seq"))
    stranger = soak.settings.scan_store_dir / NAME / str(last + 1)
    stranger.mkdir()
    with pytest.raises(UnavailableError, match=f"{stranger} is there already"):
        soak.run()
    assert soak.answers() == before
    stranger.rmdir()
    assert_next_run_succeeds(soak)
