"""People, file systems and privileged processes of the tests of permissions."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from datamgr import catalog
from datamgr.catalog import Project, ProjectChange
from datamgr.config import Settings
from datamgr.config_pitoolbox import PitoolboxSettings
from datamgr.db import Database
from datamgr.identity import Caller, Role
from pitoolbox.executor import Executor
from tests import accounts, mounts, permissions

ROOT = Caller("root", 0, frozenset(), Role.STAFF)


@pytest.fixture(scope="session")
def team(people: accounts.People) -> accounts.Team:
    """Ada and bob of the project, eve who is not; real accounts."""
    return accounts.team(people)


@pytest.fixture(scope="module", params=["ext4", "xfs"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A fresh file system, open to everybody."""
    make = {"ext4": mounts.ext4, "xfs": mounts.xfs}[request.param]
    with make(tmp_path_factory.mktemp(request.param)) as made:
        made.chmod(0o755)
        yield made


@pytest.fixture(scope="module")
def privileged(place: Path) -> Iterator[Executor]:
    """The process that changes what is below `place`."""
    with permissions.executor([place]) as started:
        yield started


@pytest.fixture
def ground() -> Iterator[Path]:
    """A directory for projects that every account may search; those of pytest are not."""
    with tempfile.TemporaryDirectory(prefix="datamgr-ground-") as folder:
        ground = Path(folder)
        ground.chmod(0o755)
        yield ground


@pytest.fixture
def perms_settings(settings: Settings, ground: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings that let a privileged worker work below `ground`, also for commands as processes."""
    monkeypatch.setenv("DATAMGR_PITOOLBOX__ROOTS", f'["{ground}"]')
    section = PitoolboxSettings(roots=(ground,))
    return settings.model_copy(update={"pitoolbox": section})


@pytest.fixture
def project(database: Database, people: accounts.People, ground: Path) -> Project:
    """Project cosmo with an empty directory of the PI's."""
    root = ground / "cosmo"
    root.mkdir()
    os.chown(root, people.uid(people.pi), people.gid)
    change = ProjectChange(path=os.fsencode(root), unix_group=people.group, pis=[people.pi])
    with database.transaction() as session:
        return catalog.add_project(session, ROOT, "cosmo", change)
