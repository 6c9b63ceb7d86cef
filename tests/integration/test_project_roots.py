"""A project remembers which directory it is, and who acts for its PIs."""

import os
import subprocess
from pathlib import Path

import pytest

from datamgr import born, catalog
from datamgr.catalog import ProjectChange
from datamgr.config import Settings
from datamgr.db import Database
from datamgr.identity import Caller, Role
from tests.commands import call

STAFF = Caller("root", 0, frozenset({0}), Role.STAFF)


def test_the_directory_is_pinned_whenever_its_path_is_set(
    database: Database, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    (tmp_path / "way").symlink_to(second)

    def pin(change: ProjectChange, how: object = catalog.set_project) -> tuple[object, ...]:
        with database.transaction() as session:
            found = how(session, STAFF, "cosmo", change)  # type: ignore[operator]
        with database.transaction(read_only=True) as session:
            found = catalog.project(session, "cosmo")
            return found.path, found.root_device, found.root_inode, found.root_born_ns

    def of(directory: Path) -> tuple[object, ...]:
        status, path = directory.stat(), os.fsencode(directory)
        return path, status.st_dev, status.st_ino, born.born_ns(path)

    assert pin(ProjectChange(path=os.fsencode(first)), catalog.add_project) == of(first)
    # A path through a link is that of the directory itself.
    assert pin(ProjectChange(path=os.fsencode(tmp_path / "way"))) == of(second)
    before = of(second)
    second.rename(tmp_path / "moved")
    second.mkdir()
    assert pin(ProjectChange(quota_bytes=1)) == before
    assert pin(ProjectChange(path=os.fsencode(second))) == of(second) != before


def test_the_time_of_birth_is_that_of_the_system(tmp_path: Path) -> None:
    said = subprocess.run(
        ["stat", "--format=%W", tmp_path], capture_output=True, text=True, check=True
    ).stdout
    found = born.born_ns(os.fsencode(tmp_path))
    assert (0 if found is None else found // 10**9) == int(said)
    with pytest.raises(FileNotFoundError):
        born.born_ns(os.fsencode(tmp_path / "nothing"))


def test_proxies_are_set_and_shown_beside_the_pis(
    settings: Settings, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def row(*arguments: str) -> tuple[list[str], list[str]]:
        [found] = call(capfd, "project", *arguments, "--json").json["rows"]
        return found["pis"], found["proxies"]

    add = ("add", "cosmo", str(tmp_path))
    assert row(*add, "--pi", "root", "--proxy", "daemon", "--proxy", "bin") == (
        ["root"],
        ["bin", "daemon"],
    )
    assert row("set", "cosmo", "--quota-bytes", "1G") == (["root"], ["bin", "daemon"])
    assert row("set", "cosmo", "--proxy", "sys") == (["root"], ["sys"])
    # Who becomes PI is no proxy any more, and the reverse.
    assert row("set", "cosmo", "--pi", "sys") == (["sys"], [])
    assert row("set", "cosmo", "--proxy", "sys") == ([], ["sys"])
    assert row("set", "cosmo", "--pi", "root", "--proxy", "sys") == (["root"], ["sys"])
    assert "sys" in call(capfd, "project", "list").stdout
    done = call(capfd, "project", "set", "cosmo", "--proxy", "no-such-account")
    assert (done.exit_code, done.stderr.count("\n")) == (3, 1)
    assert row("list") == (["root"], ["sys"])
