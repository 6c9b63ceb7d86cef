"""`datamgr nightly` as a process: what it does, and what happens when it is stopped or killed."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from datamgr.config import Settings
from datamgr.db import Database
from scanners import queries
from scanners.lock import NIGHTLY_CLASS, NIGHTLY_RUN, advisory_lock
from scanners.queries import Selection
from tests.commands import DATAMGR, Done, call, run_command
from tests.waits import eventually

from .conftest import Mailbox

# Where a night is killed: how `tests.crash` notices, and how often the crossing is told in all.
KILLS = {
    "before the walk": ("commit", "INSERT INTO scan ", 1),
    "before the publication": ("commit", "INSERT INTO project_history", 1),
    "while the history is thinned": ("commit", "DELETE FROM project_history h", 1),
    "before the crossing is kept": ("commit", "INSERT INTO alert_state", 1),
    "before it is kept that somebody was told": ("statement", "UPDATE alert_state", 2),
}
# Those that leave different things behind.
SLICE = [1, 3, 4]


@dataclass(frozen=True)
class Night:
    """Three file systems of one file each; project `one` is the first one's."""

    tree: Path
    database: Database
    monkeypatch: pytest.MonkeyPatch

    def configure(self, *names: str, **fields: Any) -> None:
        filesystems = [{"name": n, "paths": [str(self.tree / n)], **fields} for n in names]
        self.monkeypatch.setenv("DATAMGR_NIGHTLY__FILESYSTEM", json.dumps(filesystems))

    def alert(self, mailbox: Mailbox) -> None:
        """From now on, one byte is the quota of project `one`."""
        rule = {"name": "full", "bytes_percent": 90, "email": ["ada@example.org"]}
        self.monkeypatch.setenv("DATAMGR_ALERTS__RULE", json.dumps([rule]))
        self.monkeypatch.setenv("DATAMGR_ALERTS__SMTP", mailbox.address)
        with self.database.transaction() as session:
            session.execute(
                sa.text("INSERT INTO project (name, path, quota_bytes) VALUES ('one', :path, 1)"),
                {"path": os.fsencode(self.tree / "one")},
            )

    def current(self) -> dict[str, int]:
        """The numbers of the current scans."""
        with self.database.transaction(read_only=True) as session:
            return {row["filesystem"]: row["id"] for row in queries.scanned(session, Selection())}

    def scans(self) -> list[str]:
        with self.database.transaction(read_only=True) as session:
            return list(session.scalars(sa.text("SELECT state FROM scan ORDER BY id")))

    def start(self, *before: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", *before, "nightly"] if before else [*DATAMGR, "nightly"]
        return subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )


@pytest.fixture
def night(
    database: Database, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Night:
    tree = tmp_path / "tree"
    for name in ("one", "two", "three"):
        (tree / name).mkdir(parents=True)
        (tree / name / "file").write_bytes(b"x" * 5000)
    made = Night(tree.resolve(), database, monkeypatch)
    made.configure("one", workers=1)
    return made


def ended(process: subprocess.Popen[str]) -> Done:
    stdout, stderr = process.communicate(timeout=60)
    return Done(process.returncode, stdout, stderr)


def test_a_night_scans_thins_and_tells(night: Night, mailbox: Mailbox) -> None:
    """In a process: one line a step on standard output, the log as JSON lines on the other."""
    night.configure("one", "two", workers=1)
    night.alert(mailbox)
    done = run_command("nightly", "--json")
    rows = done.json["rows"]
    assert [(r["step"], r["filesystem"], r["state"], r["scan_id"]) for r in rows] == [
        ("scan", "one", "done", 1), ("scan", "two", "done", 2),
        ("history", None, "done", None), ("alerts", None, "done", None),
    ]  # fmt: skip
    assert rows[0]["timings_s"].keys() == {"walk", "publish"}
    assert sum(rows[0]["timings_s"].values()) <= rows[0]["duration_s"]
    assert rows[0]["message"] == "scan 1: 2 entries"
    assert rows[3]["message"] == "1 notices sent"
    assert len(mailbox.messages) == 1
    logged = [json.loads(line) for line in done.stderr.splitlines()]
    steps = [line for line in logged if "step" in line]
    assert [(line["step"], line["filesystem"]) for line in steps] == [
        ("scan", "one"), ("scan", "two"), ("history", None), ("alerts", None),
    ]  # fmt: skip
    assert all(line["duration_s"] >= 0 and line["level"] == "info" for line in steps)


def test_one_that_fails_leaves_its_scan_current_and_the_others_are_scanned(
    night: Night, capfd: pytest.CaptureFixture[str]
) -> None:
    night.configure("one", "two", "three", workers=1)
    assert call(capfd, "nightly", "--only", "two").exit_code == 0
    (night.tree / "two").rename(night.tree / "away")
    done = call(capfd, "nightly")
    assert done.exit_code == 3
    assert night.current() == {"one": 2, "two": 1, "three": 3}
    (line,) = [line for line in done.stdout.splitlines() if "failed" in line]
    assert "two" in line
    assert "does not exist" in line


def test_different_failures_end_with_7(night: Night, capfd: pytest.CaptureFixture[str]) -> None:
    """A path that is gone is 3, one that is a file is 4."""
    filesystems = [
        {"name": "gone", "paths": [str(night.tree / "gone")]},
        {"name": "file", "paths": [str(night.tree / "one" / "file")]},
    ]
    night.monkeypatch.setenv("DATAMGR_NIGHTLY__FILESYSTEM", json.dumps(filesystems))
    done = call(capfd, "nightly", "--json")
    assert [row["exit_code"] for row in json.loads(done.stdout)["rows"]] == [3, 4, 0, 0]
    assert done.exit_code == 7


def test_a_notice_that_is_not_delivered_fails_the_night_and_is_tried_again(
    night: Night, mailbox: Mailbox, capfd: pytest.CaptureFixture[str]
) -> None:
    night.alert(mailbox)
    night.monkeypatch.setenv("DATAMGR_ALERTS__SMTP", "127.0.0.1:1")
    assert call(capfd, "nightly").exit_code == 7
    night.monkeypatch.setenv("DATAMGR_ALERTS__SMTP", mailbox.address)
    assert call(capfd, "alerts", "check").exit_code == 0
    assert len(mailbox.messages) == 1


def test_a_dry_run_changes_nothing(
    night: Night, mailbox: Mailbox, capfd: pytest.CaptureFixture[str]
) -> None:
    night.configure("one", "two", workers=1)
    assert call(capfd, "nightly").exit_code == 0
    night.alert(mailbox)
    rows = call(capfd, "nightly", "--dry-run", "--only", "one", "--json").json["rows"]
    assert [(row["step"], row["state"]) for row in rows] == [
        ("scan", "planned"), ("history", "planned"), ("alerts", "planned"),
    ]  # fmt: skip
    assert rows[0]["message"] == f"would scan {night.tree}/one"
    assert (night.scans(), mailbox.messages) == (["published"] * 2, [])


def test_a_list_can_stand_for_a_walk(night: Night, capfd: pytest.CaptureFixture[str]) -> None:
    listed = night.tree / "list.csv"
    columns = "path,kind,mode,uid,gid,nlink,ino,size_bytes,alloc_bytes,atime_s,mtime_s,ctime_s"
    listed.write_text("/cfs,d,755,0,0,2,1,0,4096,1,1,1\n/cfs/a,f,644,0,0,1,2,5,4096,1,1,1\n")
    filesystem = {"name": "cfs", "import": [str(listed)], "from": "csv", "columns": columns}
    night.monkeypatch.setenv("DATAMGR_NIGHTLY__FILESYSTEM", json.dumps([filesystem]))
    (row, *_) = call(capfd, "nightly", "--json").json["rows"]
    assert (row["state"], row["message"]) == ("done", "scan 1: 2 entries")
    planned = call(capfd, "nightly", "--dry-run", "--json").json["rows"][0]
    assert planned["message"] == f"would import {listed}"


@pytest.mark.parametrize(
    ("filesystems", "only", "exit_code", "sentence"),
    [
        ([], None, 4, "no file system is configured"),
        ([{"name": "one", "paths": ["/"]}], "two", 3, "there are one"),
        ([{"name": "one"}], None, 4, "one needs paths, or import and from"),
        ([{"name": "one", "paths": ["/"], "from": "csv"}], None, 4, "import and from together"),
        ([{"name": "one", "paths": ["/"]}] * 2, None, 4, "two file systems have the same name"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    night: Night, capfd: pytest.CaptureFixture[str],
    filesystems: list[object], only: str | None, exit_code: int, sentence: str,
) -> None:  # fmt: skip
    night.monkeypatch.setenv("DATAMGR_NIGHTLY__FILESYSTEM", json.dumps(filesystems))
    done = call(capfd, "nightly", *(("--only", only) if only else ()))
    assert (done.exit_code, done.stdout) == (exit_code, "")
    assert sentence in done.stderr


def test_a_second_run_is_refused(night: Night, capfd: pytest.CaptureFixture[str]) -> None:
    with advisory_lock(night.database, NIGHTLY_CLASS, NIGHTLY_RUN, "busy"):
        done = call(capfd, "nightly")
    assert done.exit_code == 6
    assert "datamgr: a nightly run is under way" in done.stderr
    assert night.scans() == []


def test_the_lock_is_held_for_the_whole_night(
    night: Night, capfd: pytest.CaptureFixture[str]
) -> None:
    """A real second run, while a first one hangs in its roll-up on a locked table."""
    with night.database.engine.connect() as connection:
        connection.execute(sa.text("LOCK TABLE usage IN ACCESS EXCLUSIVE MODE"))
        first = night.start()
        eventually(lambda: night.scans() == ["walked"], "the first run waits")
        assert call(capfd, "nightly").exit_code == 6
        connection.rollback()
    assert ended(first).exit_code == 0
    assert night.current() == {"one": 1}


def test_a_signal_stops_a_walk_and_leaves_the_old_scan_current(
    night: Night, capfd: pytest.CaptureFixture[str]
) -> None:
    """What comes after is skipped; nothing is left in the store."""
    night.configure("one", "two", workers=1)
    assert call(capfd, "nightly", "--only", "one").exit_code == 0
    process = night.start()
    eventually(lambda: "walking" in night.scans(), "the walk")
    process.send_signal(signal.SIGTERM)
    done = ended(process)
    assert done.exit_code == 130
    states = [line.split()[:4] for line in done.stdout.splitlines() if "signal" in line]
    assert [(words[0], words[1]) for words in states[:2]] == [("scan", "one"), ("scan", "two")]
    assert [next(w for w in words if w in ("stopped", "skipped")) for words in states] == [
        "stopped", "skipped", "skipped", "skipped",
    ]  # fmt: skip
    assert night.current() == {"one": 1}
    assert night.scans() == ["published", "failed"]


@pytest.mark.root
def test_an_account_with_the_one_capability_of_the_unit_scans_what_it_may_not_read(
    night: Night,
) -> None:
    """As deploy/datamgr-nightly.service runs it: nobody, with CAP_DAC_READ_SEARCH only, and an
    embedded database of its own."""
    (night.tree / "one").chmod(0o700)
    nobody = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    capability = ("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search")
    only = ("--bounding-set", "-all,+dac_read_search")
    # Elsewhere than the test's other files: DuckDB asks access(2), which knows no capabilities.
    with tempfile.TemporaryDirectory() as state_dir:
        os.chown(state_dir, 65534, 65534)
        done = run_command(
            "nightly",
            "--json",
            before=(*nobody, *capability, *only),
            DATAMGR_DATABASE__URL="embedded",
            DATAMGR_STATE_DIR=state_dir,
        )
    assert done.json["rows"][0]["message"] == "scan 1: 2 entries"


@pytest.mark.soak
def test_a_night_that_is_killed_is_made_good_by_the_next_one(
    night: Night,
    mailbox: Mailbox,
    capfd: pytest.CaptureFixture[str],
    pytestconfig: pytest.Config,
) -> None:
    """The old scan stays current, and a crossing is told once; twice, under one id, only if the
    kill came between the telling and the keeping of it."""
    night.alert(mailbox)
    assert call(capfd, "nightly").exit_code == 0
    points = list(KILLS) if pytestconfig.getoption("full_soak") else [list(KILLS)[n] for n in SLICE]
    for point in points:
        kind, pattern, told = KILLS[point]
        with night.database.transaction() as session:
            session.execute(sa.text("DELETE FROM alert_state"))
        mailbox.messages.clear()
        before = night.current()["one"]
        killed = ended(night.start("tests.crash", kind, pattern))
        assert killed.exit_code == -signal.SIGKILL, point
        published = "publication" not in point and "walk" not in point
        assert (night.current()["one"] > before) == published, point
        assert call(capfd, "nightly").exit_code == 0, point
        assert night.current()["one"] > before + published, point
        assert night.scans()[-1] == "published", point
        assert len(mailbox.messages) == told, point
        assert len({message["Message-ID"] for _, message in mailbox.messages}) == 1, point
        assert call(capfd, "alerts", "check", "--json").json["rows"] == [], point
