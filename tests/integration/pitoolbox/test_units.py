"""The systemd units of the permission worker and the lister: valid, tight, and enough to work."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from datamgr import tasks
from datamgr.catalog import Project
from datamgr.config import Settings
from datamgr.db import Database
from pitoolbox import listing, submission
from pitoolbox.requests import Action, ActionKind, Request
from tests import mounts, under_unit
from tests.accounts import People
from tests.commands import DATAMGR
from tests.people import make

UNITS = [under_unit.DEPLOY / f"datamgr-perms-{name}.service" for name in ("worker", "lister")]
HOWTO = under_unit.DEPLOY.parent / "docs" / "howto" / "pi-toolbox.md"

# Changes the group of what is below the root, as the worker's processes do it.
CHANGE = """
import json, os, sys
from pitoolbox.executor import Executor, ExecutorPolicy, Order
told = json.loads(sys.argv[1])
executor = Executor(ExecutorPolicy([told["above"]], 1000, 1000, [], [], None))
assert executor.capabilities == [0, 2, 3, 4], executor.capabilities
found = os.stat(told["root"])
clauses = [("+", "rX"), ("+", "s")]
executor.begin(Order(os.fsencode(told["root"]), found.st_dev, found.st_ino, [told["gid"]],
    told["uid"], False, False, gid=told["gid"], clauses=clauses, recursive=True))
stack = []
def report(heard):
    stack.extend(heard.found)
    assert not heard.issues and not heard.applied, (heard.issues, heard.applied)
    return "go"
executor.entries([b"."], report)
while stack:
    executor.walk([stack.pop()], report)
executor.close()
"""


@pytest.fixture(autouse=True)
def systemd() -> None:
    """Loudly missing: these tests are the only ones that read the units."""
    if shutil.which("systemd-analyze") is None:
        pytest.fail("systemd-analyze is missing, so the units are not checked: apt install systemd")


@pytest.fixture
def installed(tmp_path: Path) -> list[Path]:
    """All units with the program where it is here."""
    made = []
    for unit in under_unit.DEPLOY.glob("*.service"):
        program = Path(sys.executable).with_name("datamgr")
        copy = tmp_path / unit.name
        copy.write_text(unit.read_text().replace("/opt/datamgr/.venv/bin/datamgr", str(program)))
        made.append(copy)
    return made


def test_systemd_takes_the_units_without_a_word(installed: list[Path]) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *installed], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")


def test_the_exposure_is_what_the_page_says(installed: list[Path]) -> None:
    """From 0 (none) to 10; newer systemds look at more, and may count a little more."""
    for unit in (unit for unit in installed if unit.name in {each.name for each in UNITS}):
        done = subprocess.run(
            ["systemd-analyze", "security", "--offline=yes", "--threshold=20", unit],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        score = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
        assert score is not None
        written = re.search(rf"`{unit.name}` \| ([0-9.]+)", HOWTO.read_text())
        assert written is not None and abs(float(score[1]) - float(written[1])) <= 0.3


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_nothing_is_set_that_makes_openat2_fail(unit: Path) -> None:
    assert under_unit.values(unit, "RestrictSUIDSGID") == ["no"]
    assert under_unit.values(unit, "DynamicUser") == []
    assert "openat2" in under_unit.allowed(unit)
    forbidden = {"setuid", "setgid", "mount", "ptrace", "bpf", "chroot", "init_module", "reboot"}
    assert not forbidden & under_unit.allowed(unit)


def test_only_the_worker_may_change_owners() -> None:
    worker, lister = UNITS
    assert "fchownat" in under_unit.allowed(worker)
    assert "fchownat" not in under_unit.allowed(lister)
    caps = "CAP_CHOWN CAP_FOWNER CAP_DAC_READ_SEARCH CAP_FSETID"
    for key in ("AmbientCapabilities", "CapabilityBoundingSet"):
        assert under_unit.values(worker, key) == [caps]
        assert under_unit.values(lister, key) == ["CAP_DAC_READ_SEARCH"]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `python -m tests.under_unit` finds itself, in any directory."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))


@mounts.needs_root
@pytest.mark.root
@pytest.mark.usefixtures("here")
def test_with_the_system_calls_of_its_unit_the_worker_changes_files(
    project: Project, people: People, ground: Path
) -> None:
    root = Path(os.fsdecode(project.path))
    (root / "dir").mkdir(mode=0o700)
    (root / "dir" / "file").touch(0o600)
    for path in (root / "dir", root / "dir" / "file"):
        os.chown(path, people.uid(people.member), people.second_gid)
    told = {"above": str(ground), "root": str(root), "gid": people.gid}
    told["uid"] = people.uid(people.pi)
    argv = [sys.executable, "-c", CHANGE, json.dumps(told)]
    done = subprocess.run(
        [*under_unit.before(UNITS[0], people.uid(people.stranger)), *argv],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    changed = {path.name: path.stat() for path in (root / "dir", root / "dir" / "file")}
    assert {found.st_gid for found in changed.values()} == {people.gid}
    assert changed["dir"].st_mode & 0o7777 == 0o2750
    assert changed["file"].st_mode & 0o7777 == 0o640


@pytest.fixture
def database_for_all(database_url: sa.URL) -> Iterator[None]:
    """The server's socket open to every account, as that of a site's PostgreSQL is."""
    place = Path(str(database_url.query["host"]))
    opened = [*place.glob(".s.PGSQL.*[0-9]"), place, place.parent, place.parent.parent]
    modes = {path: path.stat().st_mode for path in opened if path != Path(tempfile.gettempdir())}
    for path, mode in modes.items():
        path.chmod(mode & 0o7777 | 0o011 | (0o077 if stat.S_ISSOCK(mode) else 0))
    yield
    for path, mode in modes.items():
        path.chmod(mode & 0o7777)


@mounts.needs_root
@pytest.mark.root
@pytest.mark.usefixtures("here", "database_for_all")
def test_with_the_system_calls_of_its_unit_the_worker_carries_out_a_request(
    database: Database, perms_settings: Settings, project: Project, people: People
) -> None:
    """The whole of it: capabilities dropped before the database is opened, by its socket."""
    root = Path(os.fsdecode(project.path))
    closed = make(root / "closed", 0o700, people.uid(people.member), people.second_gid)
    request = Request("cosmo", Action(ActionKind.SHARE), (b"closed",), recursive=True)
    with database.transaction() as session:
        task = submission.submit(session, perms_settings, people.caller(people.pi), request)
    uid = people.uid(people.stranger)
    done = subprocess.run(
        [*under_unit.before(UNITS[0], uid), *DATAMGR, "perms", "worker", "--once"],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with database.transaction(read_only=True) as session:
        ended = tasks.get(session, task.id)
    assert (ended.state, ended.error) == ("partial", None), done.stderr
    # What is in it belongs to root, so it is skipped; the directory is shared.
    assert closed.stat().st_mode & 0o7777 == 0o2750 and closed.stat().st_gid == people.gid


@contextmanager
def lister(uid: int) -> Iterator[None]:
    argv = [*under_unit.before(UNITS[1], uid), *DATAMGR, "perms", "lister"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        try:
            said = []
            for line in process.stderr or ():
                said.append(line)
                if "lists directories" in line:
                    break
            else:
                raise AssertionError(f"it has ended: {said}")
            assert "Seccomp:\t2\n" in Path(f"/proc/{process.pid}/status").read_text()
            yield
        finally:
            process.kill()


@mounts.needs_root
@pytest.mark.root
@pytest.mark.usefixtures("here")
def test_with_the_system_calls_of_its_unit_the_lister_lists(
    database: Database,
    perms_settings: Settings,
    project: Project,
    people: People,
) -> None:
    uid = people.uid(people.stranger)
    state = perms_settings.state_dir
    state.mkdir()
    os.chown(state, uid, -1)
    make(Path(os.fsdecode(project.path)) / "closed", 0o700)
    with lister(uid), database.transaction(read_only=True) as session:
        caller = people.caller(people.pi)
        found = listing.list_directory(perms_settings, session, caller, "cosmo", b"closed")
    assert [entry.name for entry in found.entries] == [b"file-in-closed"]
    assert found.is_privileged
