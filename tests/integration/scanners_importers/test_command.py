"""`datamgr scan import` as people run it, and what remains when it is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from datamgr.cli import main
from datamgr.config import Settings
from datamgr.db import Database
from scanners import queries
from scanners.store import ScanStore
from tests.integration.scanners_importers import rendering

IMPORT = (sys.executable, "-m", "datamgr.cli.main", "scan", "import")


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A small tree as `lfs find` lists it."""
    tree = tmp_path / "tree"
    (tree / "alpha").mkdir(parents=True)
    (tree / "alpha" / "file").write_bytes(b"x" * 5000)
    file = tmp_path / "lfs.list"
    file.write_bytes(rendering.lfs(rendering.find(tree)))
    return file


def scans(database: Database) -> list[queries.Row]:
    with database.transaction(read_only=True) as session:
        return queries.scans(session)


def test_an_import_becomes_the_current_scan(
    settings: Settings, database: Database, listed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the time at which the list was written, with the format as its source."""
    os.utime(listed, (1_700_000_000, 1_700_000_000))
    argv = ["scan", "import", str(listed), "--name", "fs", "--from", "lfs-find"]
    assert main.run([*argv, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema"] == "scan.import"
    [row] = answer["rows"]
    assert (row["source"], row["current"], row["entries"], row["directories"]) == (
        "lfs-find", True, 1, 2,
    )  # fmt: skip
    assert row["started_at"] == "2023-11-14T22:13:20Z"
    assert row["roots"] == [str(listed.parent / "tree")]
    manifest = ScanStore(settings.scan_store_dir, "fs").intact_manifest(row["id"])
    assert manifest.source == "lfs-find"
    assert [scan["id"] for scan in scans(database)] == [row["id"]]


def test_standard_input(database: Database, listed: Path) -> None:
    with listed.open("rb") as stdin:
        done = subprocess.run(
            [*IMPORT, "-", "--name", "fs", "--from", "lfs-find"],
            stdin=stdin, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "scan 1 of fs: 3 entries (2 directories) in import" in done.stdout


def test_a_refused_list_leaves_the_earlier_scan(
    settings: Settings, database: Database, listed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["scan", "import", str(listed), "--name", "fs", "--from", "lfs-find"]
    assert main.run(argv) == 0
    listed.write_bytes(listed.read_bytes() + b"[0x1:0x1:0x0]\tx\n")
    capsys.readouterr()
    assert main.run(argv) == 4
    assert "line 4 cannot be read" in capsys.readouterr().err
    assert [(s["state"], s["current"]) for s in scans(database)] == [
        ("published", True), ("failed", False),
    ]  # fmt: skip
    store = ScanStore(settings.scan_store_dir, "fs").directory
    assert [path.name for path in store.iterdir()] == [str(scans(database)[0]["id"])]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--from", "csv"], "needs --columns"),
        (["--from", "lester", "--columns", "path"], "fixed"),
        (["--from", "lfs-find", "--root", "relative"], "no absolute path"),
        (["--from", "lfs-find", "--root", "/a", "--root", "/a/b"], "name only one"),
        (["--from", "gpfs-list", "--columns", "uid,size"], "no field 'size'"),
    ],
)
def test_contradictions(
    options: list[str],
    said: str,
    settings: Settings,
    database: Database,
    listed: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Said before anything is begun."""
    assert main.run(["scan", "import", str(listed), "--name", "fs", *options]) == 4
    assert said in capsys.readouterr().err
    assert scans(database) == []


def test_killed_imports_leave_nothing(
    settings: Settings, database: Database, listed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """kill -9 while it reads: the earlier scan stays, processes end, the next run cleans up."""
    argv = ["scan", "import", str(listed), "--name", "fs", "--from", "lfs-find"]
    assert main.run(argv) == 0
    fifo = listed.parent / "fifo"
    os.mkfifo(fifo)
    running = subprocess.Popen([*IMPORT, str(fifo), "--name", "fs", "--from", "lfs-find"])
    store = ScanStore(settings.scan_store_dir, "fs").directory
    with fifo.open("wb") as pipe:
        while not list(store.glob("*.partial/scratch/*.parquet")):
            assert running.poll() is None
            pipe.write(listed.read_bytes() * 5000)  # enough for a piece, and without an end
        children = _children(running.pid)
        assert children
        running.send_signal(signal.SIGKILL)
        running.wait()
    assert [(s["state"], s["current"]) for s in scans(database)] == [
        ("published", True), ("walking", False),
    ]  # fmt: skip
    assert list(store.glob("*.partial"))
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline, "a process outlived its parent"
        time.sleep(0.05)
    assert main.run(argv) == 0
    assert [s["state"] for s in scans(database)] == ["published", "failed", "published"]
    assert not list(store.glob("*.partial"))


def _children(pid: int) -> list[int]:
    text = "".join((task / "children").read_text() for task in Path(f"/proc/{pid}/task").iterdir())
    return [
        int(child) for child in text.split()
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]  # fmt: skip
