"""`datamgr perms` as people type it, with a worker beside it and real files."""

import csv
import io
import os
import re
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from datamgr import tasks
from datamgr.catalog import Project
from datamgr.cli import main
from datamgr.config import Settings
from datamgr.daemon import Stop
from datamgr.db import Database
from datamgr.tasks import Task
from datamgr.worker import TaskContext, Worker
from pitoolbox import queries
from pitoolbox.requests import Action, ActionKind, Request
from tests import mounts
from tests.accounts import People
from tests.commands import DATAMGR, call, run_command

pytestmark = [mounts.needs_root, pytest.mark.root]

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def tree(settings: Settings, project: Project, people: People) -> Path:
    """Two files of the PI's, of which one has an odd name, and one of a stranger's."""
    root = Path(os.fsdecode(project.path))
    (root / "data").mkdir()
    for path, owner in ((b"data/a", people.pi), (b"data/b\n\xff", people.pi), (b"data/s", "")):
        whole = os.path.join(project.path, path)
        os.close(os.open(whole, os.O_CREAT | os.O_WRONLY, 0o600))
        os.chown(whole, people.uid(owner or people.stranger), people.other_gid)
    os.chown(root / "data", people.uid(people.pi), people.gid)
    return root


@pytest.fixture
def worker(perms_settings: Settings) -> Iterator[None]:
    """The process that carries requests out."""
    process = subprocess.Popen([*DATAMGR, "perms", "worker"], stderr=subprocess.DEVNULL)
    yield
    process.terminate()
    assert process.wait(timeout=60) == 0


@contextmanager
def acting_as(uid: int) -> Iterator[None]:
    """Commands take the real user id as the caller's; the effective one keeps the rights."""
    os.setresuid(uid, 0, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def group_of(path: bytes | Path) -> int:
    return os.lstat(path).st_gid


def queued(database: Database) -> int:
    with database.transaction() as session:
        return session.execute(sa.select(sa.func.count()).select_from(Task)).scalar_one()


def test_a_request_from_preview_to_undo(
    worker: None, database: Database, people: People, tree: Path, capfd: Capture
) -> None:
    share = ("--project", "cosmo", "share")
    with acting_as(people.uid(people.pi)):
        done = call(capfd, "perms", "preview", *share)
        assert done.exit_code == 0, done.stderr
        assert "Preview 1 (share, project cosmo): succeeded" in done.stdout
        assert "4 would be changed (2 directories, 2 files, 2 groups, 4 modes)" in done.stdout
        assert "its owner does not belong to the project" in done.stdout
        assert group_of(tree / "data" / "a") == people.other_gid
        with database.transaction() as session:
            assert queries.worker_runs(session)

        done = call(capfd, "perms", "submit", *share, "--wait", "--json")
        assert done.exit_code == 8  # the stranger's file is left alone
        assert '"state": "partial"' in done.stdout
        assert group_of(tree / "data" / "a") == people.gid
        assert os.lstat(tree / "data" / "a").st_mode & 0o777 == 0o640
        assert group_of(tree / "data" / "s") == people.other_gid
        assert os.lstat(tree / "data").st_mode & stat.S_ISGID

        shown = call(capfd, "perms", "show", "2").stdout
        assert "done, but not for all entries" in shown
        assert "command line on" in shown
        rows = call(capfd, "perms", "list", "--json").json["rows"]
        assert [(row["id"], row["state"], row["changed"]) for row in rows] == [
            (2, "partial", 4),
            (1, "succeeded", 4),
        ]
        done = call(capfd, "perms", "undo", "2", "--dry-run")
        assert done.exit_code == 0
        assert group_of(tree / "data" / "a") == people.gid
        done = call(capfd, "perms", "undo", "2", "--wait")
        assert done.exit_code == 0, done.stdout
        assert group_of(tree / "data" / "a") == people.other_gid
        assert os.lstat(tree / "data" / "a").st_mode & 0o777 == 0o600
        assert call(capfd, "perms", "show", "2", "--json").json["rows"][0]["undone_by"] == [3, 4]


def test_what_was_left_alone_can_be_downloaded(
    worker: None, people: People, tree: Path, capfd: Capture
) -> None:
    strange = os.fsencode(tree) + b"/data/z\n\xff"
    os.close(os.open(strange, os.O_CREAT | os.O_WRONLY, 0o600))
    os.chown(strange, people.uid(people.stranger), people.other_gid)
    submit = ("perms", "submit", "--project", "cosmo", "-r", "--wait")
    assert call(capfd, *submit, "chgrp", people.group, "data").exit_code == 8
    why = "its owner does not belong to the project"
    done = call(capfd, "perms", "errors", "1")
    assert done.stdout.splitlines() == [
        f"skipped  data/s: {why}",
        rf"skipped  data/z\n\xff: {why}",
    ]
    rows = call(capfd, "perms", "errors", "1", "--json").json["rows"]
    assert [row["path"] for row in rows] == ["data/s", "data/z\n�"]
    assert "path_b64" in rows[1]
    text = call(capfd, "perms", "errors", "1", "--csv").stdout
    found = list(csv.reader(io.StringIO(text, newline="")))
    assert found[0] == ["path", "path_b64", "kind", "reason"]
    assert found[1] == ["data/s", "", "skipped", why]
    process = subprocess.run(
        [*DATAMGR, "perms", "errors", "1", "--null"], capture_output=True, check=True
    )
    assert process.stdout == b"data/s\0data/z\n\xff\0"
    assert call(capfd, "perms", "errors", "1", "--failed", "--json").json["rows"] == []
    assert call(capfd, "perms", "errors", "1", "--csv", "--null").exit_code == 2
    # The policy that skipped it can be overridden by staff; this is root.
    assert call(capfd, *submit, "--override", "chgrp", people.group, "data").exit_code == 0
    assert group_of(strange) == people.gid


@pytest.mark.parametrize(
    ("exit_code", "arguments"),
    [
        (3, "--project nope share"),
        (3, "--project cosmo chgrp no-such-group ."),
        (3, "--project cosmo chown no-such-user ."),
        (3, "--project cosmo chmod g+r missing"),
        (4, "--project cosmo chgrp root ."),
        (4, "--project cosmo chown root ."),
        (4, "--project cosmo chmod u+rwx ."),
        (4, "--project cosmo chmod 755 ."),
        (4, "--project cosmo chmod g+r"),
        (4, "--project cosmo chmod g+r /"),
        (4, "--project cosmo chmod g+r ../other"),
        (4, "--project cosmo chmod g+r data/../.."),
        (4, "--project cosmo chmod g+r /etc/passwd"),
        (4, "--project cosmo --max-depth 2 chmod g+r ."),
        (2, "--project cosmo chgrp"),
        (2, "--project cosmo --files-only --directories-only share"),
        (2, "--project cosmo remove ."),
        (2, "share"),
        (5, "--project cosmo --override share"),
    ],
)
def test_bad_input_is_one_sentence_with_its_exit_code(
    database: Database, people: People, tree: Path, capfd: Capture,
    exit_code: int, arguments: str,
) -> None:  # fmt: skip
    with acting_as(people.uid(people.pi)):
        done = call(capfd, "perms", "submit", *arguments.split())
    assert done.exit_code == exit_code, done.stderr
    assert done.stdout == ""
    if exit_code != 2:
        assert done.stderr.startswith("datamgr: ")
        assert done.stderr.count("\n") == 1
        assert "internal" not in done.stderr
    assert queued(database) == 0


def test_names_of_any_bytes_and_a_trailing_slash_are_fine(
    database: Database, people: People, tree: Path, capfd: Capture
) -> None:
    submit = [*DATAMGR, "perms", "submit", "--project", "cosmo", "chmod", "g+r"]
    given = [b"data/b\n\xff", os.fsencode(tree) + b"/data/"]
    done = subprocess.run([*submit, *given], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    row = call(capfd, "perms", "show", "1", "--json").json["rows"][0]
    assert row["paths"] == ["data/b\n�", "data"]
    assert row["paths_b64"][0] is not None
    assert row["path_count"] == 2


def test_nobody_else_may_ask_or_look(
    database: Database, people: People, tree: Path, capfd: Capture
) -> None:
    assert call(capfd, "perms", "submit", "--project", "cosmo", "share").exit_code == 0
    with acting_as(people.uid(people.stranger)):
        for arguments in (
            "submit --project cosmo share", "preview --project cosmo share", "show 1", "errors 1",
            "cancel 1", "list --project cosmo",
        ):  # fmt: skip
            done = call(capfd, "perms", *arguments.split())
            assert (done.exit_code, done.stdout) == (5, ""), arguments
            assert done.stderr.count("\n") == 1
        assert call(capfd, "perms", "list", "--json").json["rows"] == []
    assert queued(database) == 1


def test_ctrl_c_ends_the_waiting_and_not_the_request(
    database: Database, settings: Settings, tree: Path, capfd: Capture
) -> None:
    argv = [*DATAMGR, "perms", "submit", "--project", "cosmo", "share", "--wait"]
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    # Nobody works: whoever waits is told so.
    assert "start" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=120)
    assert process.returncode == main.INTERRUPTED
    assert "Request 1 goes on; look by `datamgr perms show 1`" in error
    assert out == ""
    assert call(capfd, "perms", "show", "1", "--json").json["rows"][0]["state"] == "queued"
    assert "is cancelled" in call(capfd, "perms", "cancel", "1").stdout
    done = call(capfd, "perms", "cancel", "1")
    assert (done.exit_code, "cancelled already" in done.stderr) == (6, True)
    assert call(capfd, "perms", "show", "2").exit_code == 3


def test_who_waits_for_a_cancelled_request_learns_it(
    database: Database, settings: Settings, tree: Path, capfd: Capture
) -> None:
    argv = [*DATAMGR, "perms", "submit", "--project", "cosmo", "share", "--wait"]
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while queued(database) == 0:
        time.sleep(0.05)
    assert call(capfd, "perms", "cancel", "1").exit_code == 0
    out, _ = process.communicate(timeout=120)
    assert (process.returncode, "cancelled" in out) == (8, True)


def test_who_waits_sees_how_far_it_is(database: Database, settings: Settings, tree: Path) -> None:
    """On a terminal: what was seen and done until now, and how fast."""
    enough = threading.Event()

    def work(context: TaskContext, params: Mapping[str, Any]) -> Mapping[str, Any]:
        seen = 0
        while not enough.wait(0.01):
            seen += 100
            context.progress(seen, None, "entries", "7 changed, 1 skipped, 0 failed")
        return {}

    worker = Worker(settings, database, ["perms"], {"perms": work})
    stop = Stop()
    thread = threading.Thread(target=lambda: [worker.step(stop) for _ in iter(stop.is_set, True)])
    terminal, other_end = os.openpty()
    argv = [*DATAMGR, "perms", "submit", "--project", "cosmo", "share", "--wait", "--json"]
    process = subprocess.Popen(argv, stderr=other_end, stdout=subprocess.PIPE)
    os.close(other_end)
    thread.start()
    shown = b""
    line = (
        rb"\rrequest 1: [^\r]*\d entries seen, 7 changed, 1 skipped, 0 failed, [^\r]*[1-9][^\r]*/s"
    )
    try:
        with suppress(OSError):  # as a terminal ends
            while more := os.read(terminal, 4096):
                shown += more
                if re.search(line, shown):
                    enough.set()
        out, _ = process.communicate(timeout=60)
    finally:
        enough.set()
        stop.set()
        thread.join()
        worker.close()
        stop.close()
        os.close(terminal)
    assert (process.returncode, b'"state": "succeeded"' in out) == (0, True)
    assert re.search(line, shown)


def test_the_worker_refuses_what_was_queued_past_the_checks(
    database: Database, perms_settings: Settings, people: People, tree: Path, capfd: Capture
) -> None:
    """Whoever can write to the table gets no more than who asks properly."""
    share = Request("cosmo", Action(ActionKind.SHARE), (b".",), recursive=True)
    pi, stranger = people.caller(people.pi), people.caller(people.stranger)
    tampered = [
        (stranger, share.to_params(), "that is for its PIs"),
        (pi, share.to_params() | {"override": True}, "that is for staff"),
        (pi, share.to_params() | {"paths": ["../other"]}, "no path below the project"),
        (pi, share.to_params() | {"project": "other"}, "was queued as perms:cosmo"),
        (pi, {"argv": ["rm", "-rf", "/"]}, "no permission request"),
    ]
    for caller, params, _ in tampered:
        with database.transaction() as session:
            tasks.submit(session, caller, "perms", "perms:cosmo", params)
    assert run_command("perms", "worker", "--once").exit_code == 0
    for number, (_, _, why) in enumerate(tampered, start=1):
        [row] = call(capfd, "task", "show", str(number), "--json").json["rows"]
        assert row["state"] == "failed"
        assert why in row["error"]
    assert group_of(tree / "data" / "a") == people.other_gid


def test_every_command_says_what_it_does(capfd: Capture) -> None:
    listed = call(capfd, "perms", "--help").stdout
    commands = ("submit", "preview", "list", "show", "errors", "cancel", "undo", "retry", "worker")
    for name in commands:
        assert f"\n  {name} " in listed
        done = call(capfd, "perms", name, "--help")
        assert done.exit_code == 0
        assert len(done.stdout.splitlines()) > 5
