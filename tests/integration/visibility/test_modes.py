"""Visible is what `ls`, as that account, really lists below the top of a project one may see."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from datamgr.errors import NotFoundError
from datamgr.identity import Caller
from scanners import find, growth, leaders, parts, places, publish, queries, tables, visibility
from scanners.find import Question
from scanners.queries import Selection
from scanners.store import ScanStore
from tests.integration.visibility.conftest import PEOPLE, STAFF, STRANGER, Scanned
from tests.mounts import needs_root
from tests.people import listable

pytestmark = [needs_root, pytest.mark.root]
ALL = Selection()


def expected(scanned: Scanned, caller: Caller) -> set[bytes]:
    """The directories that an account reaches by listing from the tops of its projects down."""
    tops = {os.fsencode(path): people for path, people in scanned.tops.items()}
    can_list = listable(caller, scanned.directories)
    found = set()
    for path in scanned.directories:
        on_path, here = [path], path
        while here not in tops and here != os.fsencode(scanned.root):
            here = os.path.dirname(here)
            on_path.append(here)
        if caller in tops.get(here, ()) and can_list.issuperset(on_path):
            found.add(path)
    return found


def by_directory(
    scanned: Scanned, session: orm.Session, visible: visibility.Visibility
) -> set[bytes]:
    found = set()
    for path in scanned.directories:
        with contextlib.suppress(NotFoundError):
            found.add(queries.directory(session, visible, path)["path"])
    return found


def seen_by_each_query(scanned: Scanned, caller: Caller) -> dict[str, set[bytes]]:
    """The directories that the answers name, themselves or by what is in them."""
    with scanned.database.transaction(read_only=True) as session:
        visible = visibility.of(session, caller)
        found = by_directory(scanned, session, visible)
        seen = {"directory": found}
        parents = [queries.directory(session, visible, path) for path in found]
        below = {row["path"] for p in parents for row in queries.children(session, visible, p)}
        seen["children"] = below | {p["path"] for p in parents if p["path"] not in below}
        try:
            files = leaders.files(session, visible, ALL, 1000)
            here = places.of(session, visible, scanned.settings.scan_store_dir, ALL)
            source = tables.Source(session, visible, scanned.settings.scan_store_dir, ALL)
            exported = list(tables.TABLES["directories"].rows(source))
        except NotFoundError:
            files, here, exported = [], [], []
        seen["top files"] = {os.path.dirname(row["path"]) for row in files}
        seen["export"] = {row["path"] for row in exported}
    rows = [row for batch in find.search(here, Question()) for row in batch.to_pylist()]
    seen["find directories"] = {row["path"] for row in rows if row["kind"] == "d"}
    seen["find files"] = {os.path.dirname(row["path"]) for row in rows if row["kind"] == "f"}
    return seen


@pytest.mark.parametrize("caller", PEOPLE, ids=lambda caller: caller.username)
@pytest.mark.parametrize("kind", ["registered", "unregistered"])
def test_every_query_shows_what_ls_lists(
    kind: str, caller: Caller, request: pytest.FixtureRequest
) -> None:
    scanned: Scanned = request.getfixturevalue(kind)
    wanted = expected(scanned, caller)
    # Where a list grants more than the mode is sure of, less is shown.
    wanted -= {os.fsencode(scanned.root / "cosmo/listed")}
    for query, found in seen_by_each_query(scanned, caller).items():
        owned = {os.fsencode(scanned.root / "cosmo/listed")} if caller.username == "ada" else set()
        assert found == wanted | owned, query


def test_somebody_sees_something(registered: Scanned) -> None:
    """The arithmetic of the test above, once by hand."""
    seen = {
        caller.username: {
            os.path.relpath(os.fsdecode(path), registered.root)
            for path in expected(registered, caller)
        }
        for caller in PEOPLE
    }
    assert seen["ada"] == {
        "cosmo", "cosmo/wide", "cosmo/wide/wider", "cosmo/secret", "cosmo/secret/below",
        "cosmo/shut-to-owner", "cosmo/shut-to-group", "cosmo/passage", "cosmo/passage/chamber",
        "cosmo/names-only", "cosmo/nested", "cosmo/listed",
    }  # fmt: skip
    # Nobody lists `nested`, and yet bob, who may search cosmo, reaches the project in it.
    assert seen["bob"] == {
        "cosmo", "cosmo/wide", "cosmo/wide/wider", "cosmo/listed", "cosmo/nested/project",
        "cosmo/nested/project/innermost", "lab", "lab/raw-data", "lab/bobs",
    }  # fmt: skip
    assert seen["cy"] == {"lab", "lab/raw-data"}
    assert seen["pi"] == seen["proxy"] == seen["stranger"] == seen["60007"] == set()


def test_staff_and_the_owner_of_the_database_see_everything(registered: Scanned) -> None:
    everything = set(registered.directories)
    for caller in (STAFF, Caller("me", os.getuid(), frozenset(), STRANGER.role)):
        for query, found in seen_by_each_query(registered, caller).items():
            assert found == everything, query


def test_projects_are_seen_by_members_pi_and_proxy(changing: Scanned) -> None:
    """Totals are theirs, whatever the modes inside say."""
    expected = {
        "ada": {"cosmo"}, "bob": {"cosmo", "lab", "inner"}, "cy": {"lab", "inner"},
        "pi": {"cosmo"}, "proxy": {"lab"}, "stranger": set(), "60007": set(),
        "staff": {"cosmo", "lab", "inner", "(no project)"},
    }  # fmt: skip
    changing.again()
    with changing.database.transaction(read_only=True) as session:
        totals = {
            row["project"]: row["alloc_bytes"]
            for row in queries.projects(session, visibility.EVERYTHING, ALL)
        }
        for caller in (*PEOPLE, STAFF):
            visible = visibility.of(session, caller)
            rows = queries.projects(session, visible, ALL)
            wanted = expected[caller.username]
            assert {row["project"]: row["alloc_bytes"] for row in rows} == {
                name: totals[name] for name in wanted
            }
            for measured in (
                sum(row["alloc_bytes"] for row in queries.by_owner(session, visible, ALL, "user")),
                sum(row["alloc_bytes"] for row in queries.by_owner(session, visible, ALL, "group")),
            ):
                assert measured == sum(totals[name] for name in wanted)
            files = sum(row["files"] for row in rows)
            ages = queries.ages_of_files(session, visible, ALL, "mtime")
            assert sum(row["files"] for row in ages) == files
            [pair] = growth.scan_pairs(session, visible, ALL)
            grown = growth.by_project(session, visible, pair, ALL)
            assert {row["project"] for row in grown} == wanted
            assert bool(growth.by_user(session, visible, pair, ALL)) == bool(wanted)


def test_a_hidden_project_is_unknown(registered: Scanned) -> None:
    """The answer is that to a project that does not exist."""
    questions: list[Callable[..., object]] = [
        queries.projects,
        lambda *a: queries.by_owner(*a, "user"),
        lambda *a: leaders.files(*a, 5),
        lambda *a: leaders.directories(*a, 5),
        lambda *a: queries.ages_of_files(*a, "mtime"),
        growth.scan_pairs,
        lambda session, visible, selection: places.of(session, visible, Path("/"), selection),
    ]
    with registered.database.transaction(read_only=True) as session:
        visible = visibility.of(session, STRANGER)
        for ask in questions:
            for name in ("cosmo", "nosuch"):
                with pytest.raises(NotFoundError, match=f"there is no project '{name}'"):
                    ask(session, visible, Selection(project=name))


def test_growth_names_no_hidden_directory(changing: Scanned) -> None:
    """Where a hidden directory grew, the nearest visible one above it is named."""
    secret = changing.root / "cosmo/secret"
    (secret / "more").write_bytes(b"x" * 2_000_000)
    changing.again()
    cosmo = os.fsencode(changing.root / "cosmo")
    for caller, name in ((PEOPLE[0], os.fsencode(secret)), (PEOPLE[1], cosmo)):
        with changing.database.transaction(read_only=True) as session:
            visible = visibility.of(session, caller)
            [pair] = growth.scan_pairs(session, visible, ALL)
            rows = growth.by_directory(session, visible, pair, ALL, 10)
        assert [row["path"] for row in rows] == [name]


def test_a_mode_that_changed_counts_with_the_next_scan(changing: Scanned) -> None:
    (changing.root / "cosmo/wide").chmod(0o700)
    bob = PEOPLE[1]
    wide = os.fsencode(changing.root / "cosmo/wide")
    with changing.database.transaction(read_only=True) as session:
        visible = visibility.of(session, bob)
        assert queries.directory(session, visible, wide)["path"] == wide
    changing.again()
    with changing.database.transaction(read_only=True) as session, pytest.raises(NotFoundError):
        queries.directory(session, visibility.of(session, bob), wide)


def test_scans_without_rules_are_for_staff(changing: Scanned) -> None:
    """As those are that were published by an earlier version."""
    with changing.database.transaction() as session:
        session.execute(sa.text("UPDATE directory SET access_id = NULL"))
        session.execute(sa.text("UPDATE top_file SET access_id = NULL"))
        session.execute(sa.text("DELETE FROM access_rule"))
    for query, found in seen_by_each_query(changing, PEOPLE[0]).items():
        assert found == set(), query
    assert seen_by_each_query(changing, STAFF)["directory"] == set(changing.directories)


def test_a_scan_without_accesses_is_published_for_staff(changing: Scanned) -> None:
    """As a walk of an earlier version has left it in the store."""
    scan_id = changing.again()
    folder = ScanStore(changing.settings.scan_store_dir, "fs").path(scan_id)
    for file in parts.part_files(folder, "dirs"):
        rows = pq.read_table(file).drop_columns("access")
        pq.write_table(rows, file)
    publish.publish_again(changing.settings, changing.database, scan_id)
    for query, found in seen_by_each_query(changing, PEOPLE[0]).items():
        assert found == set(), query
    for query, found in seen_by_each_query(changing, STAFF).items():
        assert found == set(changing.directories), query
