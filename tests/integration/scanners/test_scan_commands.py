"""The commands around scans and usage: JSON, errors by name, removal, pruning, publishing again."""

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from datamgr.cli import main
from datamgr.config import ScanSettings, Settings
from datamgr.db import Database
from scanners import queries, scan
from scanners.visibility import EVERYTHING
from tests import mounts, trees
from tests.commands import Done, call

READS = [
    ["scan", "list"],
    ["scan", "show", "2"],
    ["usage"],
    ["usage", "top"],
    ["usage", "--by", "user"],
    ["usage", "--by", "group"],
    ["usage", "top", "--files", "5"],
    ["usage", "top", "--dirs", "5"],
    ["usage", "dir", "{}"],
    ["usage", "age"],
    ["usage", "age", "--basis", "atime"],
    ["usage", "growth"],
    ["project", "list"],
    ["task", "list"],
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("commands") / "tree"
    root.mkdir()
    trees.hostile(root)
    (root / "..." / "below").mkdir()
    return root


@pytest.fixture(scope="module")
def scanned(module_settings: Settings, module_database: Database, tree: Path) -> Settings:
    """Two scans of a tree with odd names, between which one directory grew."""
    request = scan.ScanRequest("fs", [bytes(tree)], workers=1)
    scan.run(module_settings, module_database, request)
    trees.make_file(tree / "--" / "grown", 100_000)
    scan.run(module_settings, module_database, request)
    return module_settings


@pytest.fixture
def environment(scanned: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATAMGR_DATABASE__URL", scanned.database.url)
    monkeypatch.setenv("DATAMGR_STATE_DIR", str(scanned.state_dir))


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("arguments", READS, ids=" ".join)
def test_every_read_prints_one_json_object_with_schema_and_rows(
    arguments: list[str], tree: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    filled = [argument.replace("{}", str(tree)) for argument in arguments]
    done = call(capfd, *filled, "--json")
    assert done.stderr == ""
    assert set(done.json) >= {"schema", "rows"}
    assert isinstance(done.json["rows"], list)
    if arguments[0] not in ("project", "task") and arguments[:2] != ["scan", "show"]:
        assert done.json["rows"]


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("arguments", READS, ids=" ".join)
def test_every_read_prints_for_people_what_no_terminal_obeys(
    arguments: list[str], tree: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Names with newlines, escapes and invalid bytes are shown, never sent."""
    filled = [argument.replace("{}", str(tree)) for argument in arguments]
    done = call(capfd, *filled)
    assert (done.exit_code, done.stderr) == (0, "")
    assert [line for line in done.stdout.split("\n") if not line.isprintable()] == []


@pytest.mark.usefixtures("environment")
def test_growth_names_the_directory_the_project_and_the_user(
    tree: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = call(capfd, "usage", "growth", "--json").json["rows"]
    [grown] = [row for row in rows if row["by"] == "directory"]
    projects = [row for row in rows if row["by"] == "project" and row["grown_bytes"]]
    users = [row for row in rows if row["by"] == "user" and row["grown_bytes"]]
    assert grown["path"] == str(tree / "--")
    assert [row["project"] for row in projects] == ["--"]
    # One file of 100,000 bytes: 25 blocks of 4 KiB.
    for row in (grown, *projects, *users):
        assert (row["grown_inodes"], row["grown_bytes"]) == (1, 102_400)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    directory = tmp_path / "small/top"
    directory.mkdir(parents=True)
    trees.make_file(directory / "file", 1000)
    return tmp_path / "small"


def scan_it(settings: Settings, database: Database, root: Path) -> int:
    return scan.run(settings, database, scan.ScanRequest("fs", [bytes(root)], workers=1))


def numbers(database: Database) -> list[int]:
    with database.transaction(read_only=True) as session:
        return [row["id"] for row in queries.scans(session)]


@mounts.needs_root
@pytest.mark.root
def test_scan_show_lists_what_was_not_counted(
    settings: Settings, database: Database, small: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (small / "other\nsystem").mkdir()
    with mounts.tmpfs(small / "other\nsystem", trees.MIB):
        scan_id = scan_it(settings, database, small)
    shown = call(capfd, "scan", "show", str(scan_id))
    assert "1 is a mount point or another file system and was not entered" in shown.stdout
    assert "other\\nsystem" in shown.stdout
    rows = call(capfd, "scan", "show", str(scan_id), "--json").json
    assert [(row["path"], row["reason"]) for row in rows["rows"]] == [
        (f"{small}/other\nsystem", "mount")
    ]
    assert rows["scan"]["error_count"] == 1
    assert call(capfd, "scan", "show", str(scan_id), "--errors", "0", "--json").json["rows"] == []
    assert "1 entries not counted" in call(capfd, "usage").stdout


def test_only_the_newest_scans_are_kept_with_tables_and_files(
    settings: Settings, database: Database, small: Path
) -> None:
    """Four scans of which two are kept; the history of all four stays."""
    kept = settings.model_copy(update={"scan": ScanSettings(keep_scans=2)})
    made = [scan_it(kept, database, small) for _ in range(4)]
    assert numbers(database) == made[2:]
    store = settings.scan_store_dir / "fs"
    assert sorted(path.name for path in store.iterdir()) == [str(number) for number in made[2:]]
    with database.transaction() as session:
        history = session.scalars(
            sa.text("SELECT scan_id FROM project_history WHERE project = 'top'")
        )
        assert history.all() == made
        for table in ("usage", "age_bin", "top_file", "scan_project", "directory"):
            found = session.scalars(sa.text(f"SELECT DISTINCT scan_id FROM {table} ORDER BY 1"))
            assert found.all() == made[2:], table


def test_scan_remove_takes_one_away_and_tells_the_audit(
    settings: Settings, database: Database, small: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """--dry-run changes nothing; the current one needs --force, and the one before answers then."""
    first, second = scan_it(settings, database, small), scan_it(settings, database, small)
    store = settings.scan_store_dir / "fs"

    def remove(*arguments: str) -> Done:
        return call(capfd, "scan", "remove", *arguments)

    done = remove(str(first), "--dry-run")
    assert (done.exit_code, done.stdout) == (
        0, f"would remove scan {first} of fs and its files in {store}/{first}\n",
    )  # fmt: skip
    assert remove(str(second)).exit_code == 6
    assert remove(str(second), "--dry-run").exit_code == 6
    assert numbers(database) == [first, second]
    assert events(database) == []
    assert remove(str(second), "--force").exit_code == 0
    assert [path.name for path in store.iterdir()] == [str(first)]
    with database.transaction(read_only=True) as session:
        assert [row["id"] for row in queries.scans(session) if row["current"]] == [first]
        assert queries.projects(session, EVERYTHING, queries.Selection("fs"))
    assert events(database) == [("scan.remove", f"scan {second}", {"filesystem": "fs"})]
    assert remove(str(second)).exit_code == 3


def events(database: Database) -> list[tuple[Any, ...]]:
    with database.transaction() as session:
        rows = session.execute(sa.text("SELECT action, subject, detail FROM audit_event"))
        return [tuple(row) for row in rows]


def test_publishing_again_splits_by_projects_registered_since(
    settings: Settings, database: Database, small: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (small / "top/inner").mkdir()
    trees.make_file(small / "top/inner/file", 5000)
    scan_id = scan_it(settings, database, small)
    assert shares(capfd) == {"top": (2, 6000), "(no project)": (0, 0)}
    call(capfd, "project", "add", "nested", small / "top/inner", "--quota-bytes", "4K")
    assert shares(capfd) == {"top": (2, 6000), "(no project)": (0, 0)}
    assert call(capfd, "scan", "publish").stdout == f"published scan {scan_id}\n"
    assert shares(capfd) == {"nested": (1, 5000), "(no project)": (1, 1000)}
    [nested] = [row for row in usage(capfd) if row["project"] == "nested"]
    # 5000 bytes and the directory take 8192 + 4096 bytes: three times the quota of 4096.
    assert nested["bytes_percent"] == 300.0
    assert "300.0 %" in call(capfd, "usage").stdout


def usage(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = call(capfd, "usage", "--json").json["rows"]
    return rows


def shares(capfd: pytest.CaptureFixture[str]) -> dict[str, tuple[int, int]]:
    return {row["project"]: (row["files"], row["size_bytes"]) for row in usage(capfd)}


def test_publishing_waits_for_no_scan_of_the_same_file_system(
    settings: Settings, database: Database, small: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A scan that runs clears up what others left, so nothing else may write meanwhile."""
    scan_id = scan_it(settings, database, small)
    refused = []

    def on_progress(_: object) -> None:
        refused.append(main.run(["scan", "publish", str(scan_id)]))

    scan.run(settings, database, scan.ScanRequest("fs", [bytes(small)], workers=1), on_progress)
    assert set(refused) == {6}
    assert json.loads(call(capfd, "scan", "list", "--json").stdout.splitlines()[-1])
