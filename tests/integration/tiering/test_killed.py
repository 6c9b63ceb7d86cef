"""A process killed at any step: what it left becomes B, G or a clean stub, and nothing is lost."""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from datamgr.config import Settings
from datamgr.config_tier import TierSettings
from datamgr.db import Database
from tests import archived, forked, mounts, tier_process
from tiering import faults, held
from tiering.models import TierContainer, TierFile, TierOperation

pytestmark = mounts.needs_root

Act = Callable[..., str]

PUT = ["begun", "written", "stored", "verified", "recorded"]
PUNCH = ["intended", "marked", "punching", "punched", "recorded"]
STAGE = ["filling", "partly", "filled", "unmarked", "restored", "recorded"]


@pytest.fixture
def data(
    settings: Settings, tier: TierSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The root of a configuration that processes read."""
    config = tmp_path / "datamgr.toml"
    config.write_text(
        f"[tier.data]\nroot = '{tier.root}'\narchive = '{tier.archive}'\n"
        "small_bytes = 1048576\nsegment_bytes = 1048576\n"
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


@pytest.fixture
def act(tmp_path: Path) -> Act:
    """Does something in a process of its own, which is killed at a point; what it said."""

    def act(action: str, *paths: str, kill_at: str = "", fails: bool = False) -> str:
        def work() -> int:
            faults.arm(kill_at)
            return tier_process.main(action, "data", *paths)

        done = forked.call(work, tmp_path / "said")
        said = done.stdout + done.stderr
        assert done.exit_code == (-signal.SIGKILL if kill_at else fails), said
        return said

    return act


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
        # Of a container in segments each counts as the whole.
    names = {re.sub(r"\.\d{4}$", "", name) for name in os.listdir(archive)}
    return (keys ^ names) | set(map(str, unfinished)) | set(writing)


@pytest.mark.parametrize("point", PUT)
def test_a_killed_put_leaves_files_as_they_were(
    act: Act, data: Path, tier: TierSettings, database: Database, point: str
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
    act: Act, data: Path, tier: TierSettings, database: Database, point: str, name: str
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
    act: Act, data: Path, tier: TierSettings, database: Database, point: str, name: str
) -> None:
    before = archived.snapshot(data)
    act("put+punch+stage", name, kill_at=f"stage.{point}")
    if point in ("filling", "partly", "filled", "unmarked"):
        # Half filled or not yet an ordinary file: nobody can read it.
        assert (data / name).stat().st_mode & 0o777 == 0
    act("recover")
    assert leftovers(database, tier.archive) == set()
    if point in ("filling", "partly", "filled"):
        assert states(database)[name.encode()] == "H"
        stub = (data / name).stat()
        assert stub.st_blocks <= 8
        assert (stub.st_mode & 0o777, stub.st_size) == (0, before[name.encode()][4])
        act("stage", name)
    assert states(database)[name.encode()] == "B"
    assert archived.difference(before, archived.snapshot(data)) == {}


@pytest.mark.parametrize("point", STAGE)
def test_of_batches_that_overlap_each_ends_as_files_or_stubs(
    act: Act,
    data: Path,
    tier: TierSettings,
    database: Database,
    point: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed at its second batch: one is being ended while the next is filled."""
    monkeypatch.setattr(held, "BATCH_FILES", 1)
    names = ("large", "small", "sparse")
    before = archived.snapshot(data)
    act("put+punch+stage", *names, kill_at=f"stage.{point}:1")
    act("recover")
    assert leftovers(database, tier.archive) == set()
    act("stage", *names)
    assert set(states(database).values()) == {"B"}
    assert archived.difference(before, archived.snapshot(data)) == {}


def test_what_was_written_after_a_crash_is_kept(act: Act, data: Path, database: Database) -> None:
    act("put+punch", "small", kill_at="punch.intended")
    (data / "small").write_bytes(b"new")
    act("recover")
    assert (data / "small").read_bytes() == b"new"
    assert states(database)[b"small"] == "B"


def test_a_file_that_is_gone_holds_nothing_up(
    act: Act, data: Path, tier: TierSettings, database: Database
) -> None:
    act("put+punch", "small", kill_at="punch.punched")
    (data / "small").unlink()
    act("recover")
    assert leftovers(database, tier.archive) == set()


def test_what_was_written_after_a_stage_that_was_not_recorded_is_kept(
    act: Act, data: Path, database: Database
) -> None:
    """Of the same size, and known to the archive by nothing but its content."""
    act("put+punch+stage", "small", kill_at="stage.restored")
    (data / "small").write_bytes(b"x" * 5000)
    (data / "small").chmod(0o604)
    act("recover")
    assert states(database)[b"small"] == "B"
    assert (data / "small").stat().st_mode & 0o777 == 0o604
    assert "it changed since it was archived" in act("punch", "small", fails=True)
    assert (data / "small").read_bytes() == b"x" * 5000
