"""What a scan needs and does not get: space, the database, the file system to itself."""

import os
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from datamgr import catalog
from datamgr.config import ScanSettings, Settings
from datamgr.db import Database
from datamgr.errors import ConflictError, UnavailableError
from scanners import publish, queries, scan
from scanners.scan import ScanRequest
from scanners.visibility import EVERYTHING
from tests import mounts, trees
from tests.commands import Command


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    directory = tmp_path / "tree/top"
    directory.mkdir(parents=True)
    trees.make_file(directory / "file", 1000)
    return tmp_path / "tree"


def request(tree: Path, name: str = "fs") -> ScanRequest:
    return ScanRequest(name, [os.fsencode(tree)], workers=1)


def current(database: Database) -> list[tuple[int, int]]:
    """Number and entries of the scans that answer."""
    with database.transaction(read_only=True) as session:
        return [(row["id"], row["entries"]) for row in queries.scans(session) if row["current"]]


def states(database: Database) -> list[str]:
    with database.transaction(read_only=True) as session:
        return [row["state"] for row in queries.scans(session)]


def make_incompressible_names(directory: Path, number: int) -> None:
    chosen = random.Random(1)
    for _ in range(number):
        (directory / chosen.randbytes(100).hex()).touch()


@mounts.needs_root
@pytest.mark.root
def test_a_full_disk_during_the_walk_ends_it_with_a_sentence(
    settings: Settings, database: Database, tree: Path, tmp_path: Path, in_memory: Path,
    command: Command,
) -> None:  # fmt: skip
    """70,000 names of 200 digits are 7 MB of noise, where the store has 4 MiB."""
    make_incompressible_names(in_memory, 70_000)
    with mounts.tmpfs(tmp_path / "store", 4 * trees.MIB) as store:
        kept = settings.model_copy(update={"scan": ScanSettings(store_dir=store)})
        first = scan.run(kept, database, request(tree))
        done = command("scan", "run", in_memory, "--name", "fs", DATAMGR_SCAN__STORE_DIR=str(store))
        assert done.exit_code == 7
        assert done.stderr.splitlines()[-1] == (
            f"datamgr: no space left for the scan store {store}/fs; the earlier scan stays current"
        )
        assert [path.name for path in (store / "fs").iterdir()] == [str(first)]
        assert current(database) == [(first, 1)]
        assert states(database) == ["published", "failed"]
        assert scan.run(kept, database, request(tree)) > first


@contextmanager
def cut_off(database: Database, before: str) -> Iterator[list[str]]:
    """Ends all sessions of the test's database when a statement like `before` comes up."""
    met: list[str] = []

    def cut(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if before in statement and not met:
            met.append(statement)
            terminate_all(database)

    sa.event.listen(database.engine, "before_cursor_execute", cut)
    try:
        yield met
    finally:
        sa.event.remove(database.engine, "before_cursor_execute", cut)


def terminate_all(database: Database) -> None:
    """As an administrator, or a restart of the server, would."""
    admin = sa.create_engine(database.engine.url.set(database="postgres"))
    with admin.connect() as connection:
        connection.execute(
            sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"),
            {"name": database.engine.url.database},
        )
    admin.dispose()


@pytest.mark.parametrize(
    "moment", ["CREATE TABLE directory_scan", "ATTACH PARTITION", "INSERT INTO project_history"]
)
def test_a_database_that_goes_away_during_the_load_leaves_the_earlier_scan_current(
    settings: Settings, database: Database, tree: Path, moment: str
) -> None:
    first = scan.run(settings, database, request(tree))
    trees.make_file(tree / "another")
    with cut_off(database, moment) as met:
        with pytest.raises(UnavailableError, match="the database does not answer"):
            scan.run(settings, database, request(tree))
        assert met
    assert current(database) == [(first, 1)]
    third = scan.run(settings, database, request(tree))
    assert current(database) == [(third, 2)]


def test_a_database_that_goes_away_for_a_moment_costs_no_walk(
    settings: Settings, database: Database, tree: Path
) -> None:
    """The lock of the file system goes with the connection; the walk of hours does not."""
    first = scan.run(settings, database, request(tree))
    trees.make_file(tree / "another")
    cut = []

    def on_progress(_: object) -> None:
        if not cut:
            cut.append(terminate_all(database))

    second = scan.run(settings, database, request(tree), on_progress)
    assert cut
    assert second > first
    assert current(database) == [(second, 2)]


def test_a_database_that_stays_away_during_the_walk_leaves_the_earlier_scan_current(
    settings: Settings, database: Database, tree: Path
) -> None:
    first = scan.run(settings, database, request(tree))
    trees.make_file(tree / "another")

    def on_progress(_: object) -> None:
        admit(database, False)

    with pytest.raises(UnavailableError, match="the database does not answer"):
        scan.run(settings, database, request(tree), on_progress)
    admit(database, True)
    assert current(database) == [(first, 1)]
    third = scan.run(settings, database, request(tree))
    assert current(database) == [(third, 2)]
    assert states(database) == ["published", "failed", "published"]
    kept = {path.name for path in (settings.scan_store_dir / "fs").iterdir()}
    assert kept == {str(first), str(third)}


def test_a_scan_that_another_one_gave_up_is_not_published(
    settings: Settings, database: Database, tree: Path
) -> None:
    """It lost its connection and with it the lock, and the next scan took its place."""
    taken = []

    def on_progress(_: object) -> None:
        if not taken:
            terminate_all(database)
            taken.append(scan.run(settings, database, request(tree)))

    with pytest.raises(UnavailableError, match=r"scan again|cannot complete|cannot write"):
        scan.run(settings, database, request(tree), on_progress)
    assert current(database) == [(taken[0], 1)]
    assert states(database) == ["failed", "published"]


def admit(database: Database, connections: bool) -> None:
    admin = sa.create_engine(database.engine.url.set(database="postgres"))
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        name = database.engine.url.database
        connection.execute(sa.text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {connections}"))
    admin.dispose()
    if not connections:
        terminate_all(database)


def test_two_scans_of_one_file_system_never_run_at_once_but_of_two_they_do(
    settings: Settings, database: Database, tree: Path, command: Command
) -> None:
    """While the first one walks, a second one of the same name is refused, of another is not."""
    walking, go_on = threading.Event(), threading.Event()

    def on_progress(_: object) -> None:
        walking.set()
        assert go_on.wait(60)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(scan.run, settings, database, request(tree), on_progress)
        try:
            assert walking.wait(60)
            refused = command("scan", "run", tree, "--name", "fs")
            other = scan.run(settings, database, request(tree, "other"))
            with pytest.raises(ConflictError, match="a scan of fs is running"):
                scan.run(settings, database, request(tree))
        finally:
            go_on.set()
        finished = first.result(60)
    assert refused.exit_code == 6
    assert refused.stderr == (
        "datamgr: a scan of fs is running; wait for it, or see `datamgr scan list`\n"
    )
    assert current(database) == [(finished, 1), (other, 1)]


def test_a_new_file_system_may_be_named_by_several_at_once(database: Database) -> None:
    barrier = threading.Barrier(8)

    def ensure(_: int) -> int:
        with database.transaction() as session:
            barrier.wait(30)
            return catalog.ensure_filesystem(session, "new").id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ensure, range(8)))) == 1


def test_lost_or_damaged_files_are_never_published(
    settings: Settings, database: Database, tree: Path
) -> None:
    """A scan with a part less would be a wrong answer that nobody sees."""

    scan_id = scan.run(settings, database, request(tree))
    [part] = (settings.scan_store_dir / f"fs/{scan_id}/entries").iterdir()
    content = part.read_bytes()
    part.write_bytes(content[: len(content) // 2])
    with pytest.raises(UnavailableError, match="is damaged"):
        publish.publish(settings, database, scan_id)
    part.unlink()
    with pytest.raises(UnavailableError, match="is damaged"):
        publish.publish(settings, database, scan_id)
    assert current(database) == [(scan_id, 1)]
    part.write_bytes(content)
    publish.publish(settings, database, scan_id)


@mounts.needs_root
@pytest.mark.root
def test_apparent_sizes_beyond_a_bigint_do_not_stop_a_scan(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    """Anybody may make sparse files of 2^63 - 1 bytes, three of which are beyond any bigint."""
    with mounts.tmpfs(tmp_path / "tree", trees.MIB) as place:
        for directory in ("one", "two"):
            (place / directory).mkdir()
            for name in ("a", "b", "c"):
                trees.make_sparse(place / directory / name, 2**63 - 1)
        scan.run(settings, database, request(place))
    most = 2**63 - 1
    selection = queries.Selection("fs")
    with database.transaction(read_only=True) as session:
        root = queries.directory(session, EVERYTHING, os.fsencode(place))
        projects = queries.projects(session, EVERYTHING, selection)
        users = queries.by_owner(session, EVERYTHING, selection, "user")
        ages = queries.ages_of_files(session, EVERYTHING, selection, "mtime")
    assert root["files"] == 6
    # Per directory, and per project and owner, a total ends there; totals over those go on.
    assert root["size_bytes"] == most
    assert [row["size_bytes"] for row in projects if row["number"] > 0] == [most, most]
    assert [row["size_bytes"] for row in users] == [2 * most]
    assert ages[0]["size_bytes"] == 2 * most


def test_a_roll_up_without_memory_can_be_published_later(
    settings: Settings, database: Database, tree: Path, in_memory: Path
) -> None:
    """10 MB are too few for 100,000 files; the walk is not lost, and nothing else is left."""
    first = scan.run(settings, database, request(tree))
    trees.make_many_files(in_memory, 100_000)
    poor = settings.model_copy(update={"scan": ScanSettings(engine_memory="10MB")})
    with pytest.raises(UnavailableError, match="the roll-up ran out of memory"):
        scan.run(poor, database, request(in_memory))
    assert current(database) == [(first, 1)]
    assert states(database) == ["published", "walked"]
    store = settings.scan_store_dir / "fs"
    assert {path.name for path in store.iterdir()} == {str(first), str(first + 1)}
    publish.publish_again(settings, database, first + 1)
    assert current(database) == [(first + 1, 100_000)]
