"""A managed root on a real file system, and its archive on another."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from datamgr.config import Settings
from datamgr.config_tier import TierSettings
from datamgr.db import Database
from tests import mounts
from tiering.root import ManagedRoot, open_root


@pytest.fixture(params=["ext4", "xfs"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A real file system of its own."""
    with (
        mounts.ext4(tmp_path, 128 << 20) if request.param == "ext4" else mounts.xfs(tmp_path) as at
    ):
        yield at


@pytest.fixture
def tier(disk: Path, tmp_path: Path) -> TierSettings:
    (disk / "data").mkdir()
    (tmp_path / "archive").mkdir()
    return TierSettings(
        root=disk / "data",
        archive=tmp_path / "archive",
        small_bytes=1 << 20,
        bundle_bytes=2 << 20,
        bundle_files=50,
    )


@pytest.fixture
def tier_settings(settings: Settings, tier: TierSettings) -> Settings:
    return settings.model_copy(update={"tier": {"data": tier}})


@pytest.fixture
def root(tier_settings: Settings, database: Database) -> Iterator[ManagedRoot]:
    with ExitStack() as stack:
        yield stack.enter_context(open_root(tier_settings, database, "data"))
