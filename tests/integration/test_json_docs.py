"""docs/json.md says which keys each JSON output has; here every command is asked."""

import json
import os
import pwd
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import pytest
import sqlalchemy as sa

from datamgr import identity, sessions, tasks
from datamgr.cli import main, web
from datamgr.config import Settings
from datamgr.db import Database
from datamgr.sessions import Origin
from hdf5_tools import append
from pitoolbox import journal
from pitoolbox.executor import Issue
from tests import mounts
from tests.commands import DATAMGR

PAGE = Path(__file__).parents[2] / "docs" / "json.md"


def documented() -> dict[str, tuple[set[str], set[str]]]:
    """The keys beside `rows` and the keys of a row, by schema, as the page lists them."""
    found = {}
    for section in PAGE.read_text().split("\n## ")[1:]:
        schema = section.split("\n", 1)[0].strip("` ")
        lines = dict(re.findall(r"^- (head|rows): (.*)$", section, re.MULTILINE))
        found[schema] = tuple(set(re.findall(r"`(\w+)`", lines[k])) for k in ("head", "rows"))
    return found  # type: ignore[return-value]


def ask_nightly(ask: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tree: Path) -> None:
    """The outputs about quotas and nights: alpha is above its quota and nobody can be told."""
    report = tree / "quotas.csv"
    report.write_text(
        "project,quota_bytes,quota_inodes,usage_bytes,usage_inodes\nalpha,4096,,9,9\n"
    )
    ask("project", "quotas", "--from", "csv", str(report))
    ask("usage", "trend", "alpha")
    ask("usage", "reconcile")
    monkeypatch.setenv(
        "DATAMGR_NIGHTLY__FILESYSTEM", json.dumps([{"name": "fs", "paths": [str(tree)]}])
    )
    ask("nightly")
    rule = {"name": "full", "bytes_percent": 90, "email": ["ada@example.org"]}
    monkeypatch.setenv("DATAMGR_ALERTS__RULE", json.dumps([rule]))
    monkeypatch.setenv("DATAMGR_ALERTS__SMTP", "127.0.0.1:1")
    assert main.run(["alerts", "check"]) == 7
    ask("alerts", "check", "--dry-run")
    ask("alerts", "list")


@contextmanager
def permission_worker(root: Path) -> Iterator[None]:
    """The processes that carry permission requests out and list directories below `root`."""
    roots = {"DATAMGR_PITOOLBOX__ROOTS": json.dumps([str(root)])}
    started = [
        subprocess.Popen(
            [*DATAMGR, "perms", name], stderr=subprocess.DEVNULL, env={**os.environ, **roots}
        )
        for name in ("worker", "lister")
    ]
    try:
        yield
    finally:
        for process in started:
            process.terminate()
            process.wait(timeout=60)


def ask_perms(ask: Callable[..., None], database: Database, tree: Path) -> None:
    """The outputs about permissions: one request that is previewed, carried out and undone."""
    override = ("--override",) if os.geteuid() == 0 else ()
    submit = ("--project", "alpha", "-r", *override, "chmod", "g+rwX", ".")
    with database.transaction(read_only=True) as session:
        first = len(tasks.list_tasks(session)) + 1
    with permission_worker(tree):
        ask("perms", "preview", *submit)
        ask("perms", "submit", *submit, "--wait")
        ask("perms", "undo", str(first + 1))
        # The lister began together with the worker, which has done two requests by now.
        ask("perms", "ls", "alpha")
    with database.transaction() as session:
        journal.note_issues(session, first + 1, [Issue(b"gone", "failed", "a reason")])
    ask("perms", "retry", str(first + 1))
    ask("perms", "cancel", str(first + 3))
    ask("perms", "errors", str(first + 1))
    ask("perms", "show", str(first))
    ask("perms", "list")


def ask_hdf5(ask: Callable[..., None], folder: Path) -> None:
    """The outputs about HDF5 files: one that grew, and one that is made of it and of nothing."""
    with h5py.File(folder / "grown.h5", "w") as file:
        append.Writer(append.create(file, "data", (2,), "f4")).close()
        file["three"] = [1, 2, 3]
    ask("hdf5", "recover", str(folder / "grown.h5"))
    (folder / "broken.h5").write_bytes(b"nothing")
    index = str(folder / "hdf5.index")
    ask("hdf5", "index", str(folder / "grown.h5"), str(folder / "broken.h5"), "--into", index)
    ask("hdf5", "search", index, "has frames_written_in")
    ask("hdf5", "attributes", index)
    ask("hdf5", "show", str(folder / "grown.h5"))
    out = str(folder / "virtual.h5")
    ask("hdf5", "virtual", "build", out, str(folder / "grown.h5"), "--dataset", "three")
    socket = folder / "mirror.socket"
    (folder / "replicas").mkdir()
    (folder / "replicas/grown.h5").write_bytes(b"another")
    serving = subprocess.Popen(
        [*DATAMGR, "hdf5", "mirror", "serve", "--listen", f"unix:{socket}", "--into",
         folder / "replicas"],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert serving.stdout is not None
        serving.stdout.readline()
        url = f"h5m+unix:{socket}?grown.h5"
        ask("hdf5", "mirror", "verify", str(folder / "grown.h5"), url, exit_code=6)
    finally:
        serving.terminate()
        serving.communicate()
    (folder / "grown.h5").unlink()
    ask("hdf5", "virtual", "verify", out, exit_code=1)


def ask_tiering(
    ask: Callable[..., None], database: Database, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    """The outputs about managed roots: one file that is put, freed, removed and brought back."""
    with mounts.ext4(folder) as disk:
        root, archive = disk / "data", folder / "archive"
        root.mkdir()
        archive.mkdir()
        path = root / "file"
        path.write_bytes(b"content" * 1000)
        policy = {"all": {"action": "put", "older_than_s": 0}}
        tier = {"data": {"root": str(root), "archive": str(archive), "policy": policy}}
        monkeypatch.setenv("DATAMGR_TIER", json.dumps(tier))
        (root / "other").write_bytes(b"other")
        ask("ghi", "put", str(path), str(root / "missing"), exit_code=8)
        ask("ghi", "pin", str(path))
        ask("ghi", "unpin", str(path))
        ask("ghi", "lock", str(path))
        ask("ghi", "unlock", str(path))
        ask("ghi", "verify", str(path))
        ask("ghi", "punch", "--unguarded", str(path))
        ask("ghi", "stage", str(path))
        ask("ghi", "ls", str(root))
        ask("ghi", "df")
        ask("scan", "run", str(disk), "--name", "disk")
        ask("policy", "data", "all")
        path.unlink()
        ask("tier", "reconcile")
        ask("ghi", "undelete", str(path))
        ask("ghi", "status", "--all")
        ask("tier", "expire")
        next(iter(archive.iterdir())).write_bytes(b"damaged")
        ask("tier", "scrub", exit_code=8)
        with database.transaction() as session:
            session.execute(sa.text("TRUNCATE tier_file, tier_container CASCADE"))
        ask("tier", "rebuild", "data", exit_code=8)
        monkeypatch.delenv("DATAMGR_TIER")


def ask_identity(ask: Callable[..., None], settings: Settings, database: Database) -> None:
    """The outputs about logins: one who is mapped, with a session and a link."""
    issuer, caller = "https://idp.example.org", identity.current(settings)
    ask("identity", "map", issuer, "42", "nobody")
    ask("identity", "list")
    ask("identity", "unmap", issuer, "42")
    with database.transaction() as session:
        sessions.begin(session, settings, caller, Origin("link", "127.0.0.1", "a browser"))
    ask("identity", "sessions")
    ask("identity", "revoke", "--account", caller.username)
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    web.address_file(settings).write_text("http://127.0.0.1:8765\n")
    ask("identity", "link")


@pytest.fixture
def outputs(
    settings: Settings,
    database: Database,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """One output of each schema, from a small tree with a project, a user and an error."""
    tree = tmp_path / "tree"
    (tree / "alpha" / "deep").mkdir(parents=True)
    (tree / "alpha" / "deep" / "file").write_bytes(b"x" * 5000)
    os.environ["DATAMGR_SCAN__MAX_DEPTH"] = "1"  # so that `deep` is an error
    collected: dict[str, dict[str, Any]] = {}

    def ask(*argv: str, exit_code: int = 0) -> None:
        assert main.run([*argv, "--json"]) == exit_code
        said = capsys.readouterr().out
        answer = json.loads(said[said.rindex('{"schema"') :])
        collected[answer["schema"]] = answer

    try:
        path, name = str(tree), "fs"
        ask_hdf5(ask, tmp_path)
        ask_identity(ask, settings, database)
        ask("db", "upgrade")
        ask("project", "add", "alpha", f"{path}/alpha", "--quota-bytes", "1G", "--pi", "root",
            "--proxy", pwd.getpwuid(os.getuid()).pw_name,
            "--group", str(os.getgid() or 65534))  # fmt: skip
        ask("project", "set", "alpha", "--quota-inodes", "10")
        ask("scan", "run", path, "--name", name)
        for folder in (tree, tree / "alpha"):
            (folder / "second").write_bytes(b"y" * 9000)
        ask("scan", "run", path, "--name", name)
        (tmp_path / "list").write_text("/imported/file,f,1,2,3,4\n")
        columns = "path,kind,uid,gid,size_bytes,mtime_s"
        ask("scan", "import", str(tmp_path / "list"), "--name", "imported", "--from", "csv",
            "--columns", columns)  # fmt: skip
        ask("scan", "run", path, "--name", name, "--no-wait")
        for argv in (
            "scan list", "scan show 2", "scan publish", "project list", "usage", "usage --by user",
            "usage --by group", "usage top --files", "usage top --dirs", "usage age",
            f"usage dir {path}", "usage growth", "usage duplicates --larger-than 1", "find",
            "db status", "config show", "task list",
            "task show 1", "task cancel 1", "scan remove 1", "project remove alpha",
        ):  # fmt: skip
            if argv == "scan remove 1":
                ask_nightly(ask, monkeypatch, tree)
                ask_perms(ask, database, tree)
            ask(*argv.split(" "))
        # Last, for it has tasks too, and those above are known by their numbers.
        ask_tiering(ask, database, monkeypatch, tmp_path)
    finally:
        del os.environ["DATAMGR_SCAN__MAX_DEPTH"]
    return collected


def test_every_json_output_has_exactly_the_documented_keys(outputs: Any) -> None:
    """A key that appears or goes is a change for every program that reads it."""
    actual = {
        schema: (
            set(answer) - {"schema", "rows"},
            {key for row in answer["rows"] for key in row},
        )
        for schema, answer in outputs.items()
    }
    assert actual == documented()
    # Programs get whole bytes; only people get units.
    for answer in outputs.values():
        for row in answer["rows"]:
            for key, value in row.items():
                if key.endswith("_bytes"):
                    assert value is None or isinstance(value, int), (answer["schema"], key)
