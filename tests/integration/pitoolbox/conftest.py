"""People, file systems and privileged processes of the tests of permissions."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pitoolbox.executor import Executor
from tests import mounts, permissions, teams


@pytest.fixture(scope="module")
def team() -> Iterator[teams.Team]:
    """Ada and bob of the project, eve who is not; real accounts."""
    with teams.team() as made:
        yield made


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
