"""The dry run of a policy: on the page, as JSON, as a command; for who may see what."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from dashboard import policy, policy_files
from dashboard.policy_files import Reader
from datamgr.config import Settings
from datamgr.config_tier import PolicySettings, TierSettings
from datamgr.db import Database
from scanners import visibility
from tests.integration.pages.conftest import ADA, MIB, NAMES, STAFF, STRANGER, As, serving, write
from tests.integration.pages.test_selection import archive
from tests.pages import rows_of, text_of

POLICIES = {
    "put": PolicySettings(action="put", older_than_s=30 * 86_400, basis="mtime"),
    "big": PolicySettings(action="put", older_than_s=0, basis="mtime", larger_than_bytes=MIB),
    "cold": PolicySettings(action="punch", older_than_s=30 * 86_400, basis="mtime"),
    "old": PolicySettings(action="punch", older_than_s=0, paths=("old",), project="cosmo"),
    "room": PolicySettings(action="punch", older_than_s=0, basis="mtime", free_share=0.5),
}


@pytest.fixture
def settings(settings: Settings, tree: Path) -> Settings:
    """The project cosmo is a managed root with policies."""
    tier = TierSettings(root=tree / "cosmo", archive=Path("/archive"), policy=POLICIES)
    return settings.model_copy(update={"tier": {"cosmo": tier}})


@pytest.fixture
def as_(settings: Settings, database: Database) -> Iterator[As]:
    with ExitStack() as stack:
        yield lambda caller: stack.enter_context(serving(settings, database, caller))


@pytest.fixture
def filled(tree: Path, rescan: Callable[[], int], database: Database) -> Path:
    """Beside cosmo/runs (3 MiB of 800 days, G, and 1 MiB of 40 days, B): cosmo/old, of 100 days and
    more, each of 2 MiB and on disk and in the archive but for `stub`."""
    folder = os.fsencode(tree) + b"/cosmo/old"
    for number, name in enumerate((b"first", b"second", b"pinned", b"stub", b"linked")):
        write(folder + b"/" + name, 2 * MIB, age_d=500 - 100 * number)
    os.link(folder + b"/linked", folder + b"/linked-too")
    for name in ("old/first", "old/second", "old/linked", "runs/snap_002.hdf5"):
        archive(database, tree, name)
    later = sa.func.now() + sa.text("interval '1 day'")
    archive(database, tree, "old/pinned", pinned_until=later)
    archive(database, tree, "old/stub", "H")
    rescan()
    return tree


def told(client: httpx.Client, name: str) -> tuple[dict[str, int], dict[str, int], list[str]]:
    """Files and bytes of the chosen ones, files left by reason, last names."""
    answer = client.get(f"/api/v1/tiering/policies/cosmo/{name}")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    left = {row["reason"]: row["files"] for row in found["left"]}
    names = [row["path"].rpartition("/")[2] for row in found["rows"]]
    return found["chosen"], left, names


def test_what_is_put_is_what_the_archive_lacks(as_: As, filled: Path) -> None:
    staff = as_(STAFF)
    chosen, left, names = told(staff, "put")
    assert chosen == {"files": 1, "size_bytes": 3 * MIB, "alloc_bytes": 3 * MIB}
    assert left == {"in the archive already": 6}
    assert names == ["snap_001.hdf5"]
    # Larger than 1 MiB: not snap_002, of exactly so much.
    assert told(staff, "big")[1] == {"in the archive already": 5}


def test_what_is_punched_is_what_the_archive_has(as_: As, filled: Path) -> None:
    """first, second and linked of 2 MiB, snap_002 of 1 MiB; oldest first, one link a file."""
    chosen, left, names = told(as_(STAFF), "cold")
    assert (chosen["files"], chosen["size_bytes"]) == (4, 7 * MIB)
    assert left == {
        "not in the archive, or changed since": 1,
        "in the archive alone already": 1,
        "pinned": 1,
    }
    assert names[:2] == ["first", "second"]
    assert names[2] in ("linked", "linked-too")
    assert names[3] == "snap_002.hdf5"


def test_paths_and_project_narrow_it(as_: As, filled: Path) -> None:
    names = told(as_(STAFF), "old")[2]
    assert set(names) <= {"first", "second", "linked", "linked-too"}
    assert len(names) == 3


def test_a_target_takes_the_oldest_first_and_no_more(
    settings: Settings,
    database: Database,
    filled: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 100 MiB 47 are free, 50 wanted: first and second, of 4 MiB, are enough."""
    monkeypatch.setattr(policy, "_disk", lambda of: (47 * MIB, 100 * MIB))
    with database.transaction(read_only=True) as session:
        reader = Reader(session, visibility.EVERYTHING, settings)
        of = policy_files.named(reader, "cosmo", "room")
        found = policy.outcome(reader, of)
        assert found.missing_bytes == 3 * MIB
        assert found.chosen == {"files": 2, "size_bytes": 4 * MIB, "alloc_bytes": 4 * MIB}
        assert {row["reason"]: row["files"] for row in found.left}["not needed for the target"] == 2
        paths = [path.rpartition(b"/")[2] for path in policy.paths(reader, of)]
        assert sorted(paths) == [b"first", b"second"]
        few = policy.outcome(reader, of, 1)
        assert not few.is_whole


def test_the_page_says_it_with_units_and_does_nothing(as_: As, filled: Path) -> None:
    staff = as_(STAFF)
    page = staff.get("/tiering/policies/cosmo/cold").text
    words = text_of(page)
    assert "Punch files whose content has not changed for 30 d" in words
    assert "Files it would punch 4 Their size 7.0 MiB" in words
    assert "pinned 1 2.0 MiB" in words
    assert "cosmo 7.0 MiB 4" in words
    assert "<form" not in page.replace('<form action="/logout"', "")
    rows = rows_of(staff.get("/tiering/policies/cosmo/cold/files.csv").text)
    assert [row["size_bytes"] for row in rows] == [str(n * MIB) for n in (2, 2, 2, 1)]
    assert "/tiering/policies/cosmo/cold" in staff.get("/tiering").text


def test_it_tells_nobody_of_what_they_may_not_list(as_: As, filled: Path) -> None:
    """ada may list cosmo and old, not runs; a stranger nothing."""
    (filled / "cosmo").chmod(0o755)
    for path in ("/tiering/policies/cosmo/cold", "/tiering/policies/cosmo/cold/files.csv"):
        assert as_(STRANGER).get(path).status_code == 404
        assert as_(STRANGER).get("/api/v1" + path.removesuffix("/files.csv")).status_code == 404
    assert as_(ADA).get("/tiering/policies/cosmo/cold").status_code == 200
    for wrong in ("cosmo/nosuch", "nosuch/cold", "..%2Fcosmo/cold", "cosmo/%00"):
        assert as_(STAFF).get(f"/tiering/policies/{wrong}").status_code in (404, 422), wrong


def test_hidden_directories_are_not_in_it(as_: As, filled: Path, rescan: Callable[[], int]) -> None:
    (filled / "cosmo/old").chmod(0o700)
    rescan()
    names = told(as_(ADA), "cold")[2]
    assert names == ["snap_002.hdf5"]
    assert len(told(as_(STAFF), "cold")[2]) == 4


def test_hostile_names_stay_text(as_: As, tree: Path, rescan: Callable[[], int]) -> None:
    folder = os.fsencode(tree) + b"/cosmo/odd"
    for name in NAMES:
        write(folder + b"/" + name, 4096, age_d=100)
    rescan()
    staff = as_(STAFF)
    page = staff.get("/tiering/policies/cosmo/put").text
    assert "<img" not in page.replace('<img src="/static', "")
    assert chr(0x202E) not in page
    rows = rows_of(staff.get("/tiering/policies/cosmo/put/files.csv").text)
    assert len(rows) == len(NAMES) + 2
    assert not any(value.startswith(("=", "+", "-", "@")) for row in rows for value in row.values())


@pytest.mark.parametrize(
    "wrong",
    [
        {"paths": ("/etc",)},
        {"paths": ("a/../../etc",)},
        {"paths": ("a", "a/b")},
        {"paths": ("",)},
        {"free_share": 0.5},
        {"older_than_s": "soon"},
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"paths|free_share|older_than_s"):
        PolicySettings.model_validate({"action": "put", **wrong})
