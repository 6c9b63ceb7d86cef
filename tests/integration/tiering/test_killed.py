"""A process killed at any step: what it left becomes B, G or a clean stub, and nothing is lost."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from datamgr.config import Settings
from datamgr.config_tier import TierSettings
from datamgr.db import Database
from tests import archived, mounts
from tiering.faults import VARIABLE
from tiering.models import TierContainer, TierFile, TierOperation

pytestmark = mounts.needs_root

PUT = ["begun", "written", "stored", "verified", "recorded"]
PUNCH = ["intended", "marked", "punching", "punched", "recorded"]
STAGE = ["filling", "partly", "filled", "restored", "recorded"]


@pytest.fixture
def data(
    settings: Settings, tier: TierSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The root of a configuration that processes read."""
    config = tmp_path / "datamgr.toml"
    config.write_text(
        f"[tier.data]\nroot = '{tier.root}'\narchive = '{tier.archive}'\nsmall_bytes = 1048576\n"
    )
    monkeypatch.setenv("DATAMGR_CONFIG", str(config))
    for name, size in (("small", 5000), ("large", 3 << 20)):
        (tier.root / name).write_bytes(os.urandom(size))
    with (tier.root / "sparse").open("wb") as file:
        file.truncate(4 << 20)
        file.seek(2 << 20)
        file.write(os.urandom(100_000))
    for name in ("small", "large", "sparse"):
        os.chown(tier.root / name, 60_001, 60_101)
        (tier.root / name).chmod(0o640)
        os.utime(tier.root / name, ns=(10**18, 10**18 + 5))
    return tier.root


def act(action: str, *paths: str, kill_at: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.tier_process", action, "data", *paths],
        env={**os.environ, VARIABLE: kill_at},
        capture_output=True,
        check=False,
    )
    said = done.stdout.decode() + done.stderr.decode()
    assert done.returncode == (-signal.SIGKILL if kill_at else 0), said
    return said


def states(database: Database) -> dict[bytes, str]:
    with database.transaction(read_only=True) as session:
        return {row[0]: row[1] for row in session.execute(sa.select(TierFile.path, TierFile.state))}


def leftovers(database: Database, archive: Path) -> set[str]:
    """Objects that no row knows, and rows of unfinished work."""
    with database.transaction(read_only=True) as session:
        keys = set(session.scalars(sa.select(TierContainer.key)))
        unfinished = session.scalars(
            sa.select(TierOperation.id).where(TierOperation.finished_at.is_(None))
        )
        writing = session.scalars(
            sa.select(TierContainer.key).where(TierContainer.state == "writing")
        )
        return (keys ^ set(os.listdir(archive))) | set(map(str, unfinished)) | set(writing)


@pytest.mark.parametrize("point", PUT)
def test_a_killed_put_leaves_files_as_they_were(
    data: Path, tier: TierSettings, database: Database, point: str
) -> None:
    before = archived.snapshot(data)
    act("put", kill_at=f"put.{point}")
    assert archived.difference(before, archived.snapshot(data)) == {}
    act("recover")
    assert leftovers(database, tier.archive) == set()
    assert set(states(database).values()) == ({"B"} if point == "recorded" else set())
    act("put+punch+stage", "small", "large", "sparse")
    assert set(states(database).values()) == {"B"}
    assert archived.difference(before, archived.snapshot(data)) == {}


@pytest.mark.parametrize("point", PUNCH)
@pytest.mark.parametrize("name", ["large"])
def test_a_killed_punch_ends_as_file_or_stub(
    data: Path, tier: TierSettings, database: Database, point: str, name: str
) -> None:
    before = archived.snapshot(data)
    act("put+punch", name, kill_at=f"punch.{point}")
    (data / name).rename(data / "moved")  # it is known by its inode
    act("recover")
    (data / "moved").rename(data / name)
    assert leftovers(database, tier.archive) == set()
    if point in ("intended", "marked"):
        assert states(database)[name.encode()] == "B"
        assert archived.difference(before, archived.snapshot(data)).keys() <= {b"."}
        act("punch+stage", name)
    else:
        assert states(database)[name.encode()] == "H"
        assert (data / name).stat().st_blocks <= 8
        act("stage", name)
    assert archived.difference(before, archived.snapshot(data)).keys() <= {b"."}


@pytest.mark.parametrize("point", STAGE)
@pytest.mark.parametrize("name", ["sparse"])
def test_a_killed_stage_ends_as_file_or_clean_stub(
    data: Path, tier: TierSettings, database: Database, point: str, name: str
) -> None:
    before = archived.snapshot(data)
    act("put+punch+stage", name, kill_at=f"stage.{point}")
    if point in ("filling", "partly", "filled"):
        # Half filled or not yet known to be whole: nobody can read it.
        assert (data / name).stat().st_mode & 0o777 == 0
    act("recover")
    assert leftovers(database, tier.archive) == set()
    if point in ("filling", "partly"):
        assert states(database)[name.encode()] == "H"
        stub = (data / name).stat()
        assert stub.st_blocks <= 8
        assert (stub.st_mode & 0o777, stub.st_size) == (0, before[name.encode()][4])
        act("stage", name)
    assert states(database)[name.encode()] == "B"
    assert archived.difference(before, archived.snapshot(data)) == {}


def test_what_was_written_after_a_crash_is_kept(data: Path, database: Database) -> None:
    act("put+punch", "small", kill_at="punch.intended")
    (data / "small").write_bytes(b"new")
    act("recover")
    assert (data / "small").read_bytes() == b"new"
    assert states(database)[b"small"] == "B"


def test_a_file_that_is_gone_holds_nothing_up(
    data: Path, tier: TierSettings, database: Database
) -> None:
    act("put+punch", "small", kill_at="punch.punched")
    (data / "small").unlink()
    act("recover")
    assert leftovers(database, tier.archive) == set()
