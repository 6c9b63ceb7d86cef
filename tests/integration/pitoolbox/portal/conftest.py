"""A project of a PI, the processes that serve it, and browsers of who is logged in."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from datamgr import identity
from datamgr.catalog import Project
from datamgr.config import Settings
from datamgr.db import Database
from tests.accounts import People
from tests.commands import DATAMGR
from tests.integration.pitoolbox.portal.browsers import HOSTILE, Browser, LogIn, serving


@pytest.fixture
def ground() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="datamgr-portal-") as made:
        Path(made).chmod(0o711)
        yield Path(made)


@pytest.fixture
def place(perms_settings: Settings, monkeypatch: pytest.MonkeyPatch, ground: Path) -> Settings:
    """The settings, with the lister where the processes find it."""
    (ground / "run").mkdir(mode=0o711)
    socket = ground / "run" / "socket"
    monkeypatch.setenv("DATAMGR_PITOOLBOX__LISTER_SOCKET", str(socket))
    section = perms_settings.pitoolbox.model_copy(update={"lister_socket": socket})
    return perms_settings.model_copy(update={"pitoolbox": section})


@pytest.fixture
def lister(place: Settings) -> Iterator[None]:
    argv = [*DATAMGR, "perms", "lister"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("lists directories" in line for line in process.stderr)
        yield
        process.kill()


@pytest.fixture
def worker(place: Settings) -> Iterator[None]:
    argv = [*DATAMGR, "perms", "worker"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("waits for tasks" in line for line in process.stderr)
        yield
        process.terminate()
        process.communicate(timeout=60)
        assert process.returncode == 0


@pytest.fixture
def tree(project: Project, people: People) -> Path:
    """Files of the PI's with names to fear, in a directory that only the PI may read."""
    root = Path(os.fsdecode(project.path))
    (root / "data").mkdir()
    for name in HOSTILE:
        path = os.path.join(project.path, b"data", name)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        os.chown(path, people.uid(people.pi), people.second_gid)
    (root / "data").chmod(0o700)
    os.chown(root / "data", people.uid(people.pi), people.second_gid)
    return root


@pytest.fixture
def log_in(
    place: Settings, database: Database, people: People, project: Project
) -> Iterator[LogIn]:
    """Browsers of accounts."""
    with ExitStack() as stack:
        address = stack.enter_context(serving(place, database))

        def log_in(name: str) -> Browser:
            who = identity.by_uid(place, identity.uid_of(name))
            return stack.enter_context(Browser(address, place, database, who))

        yield log_in
