"""What the walk records of modes, owners and lists is what the kernel decides, for random trees."""

import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from scanners import access
from tests.mounts import needs_root
from tests.people import grant, listable, make, person
from tests.walked import walked

UIDS, GIDS = (60_001, 60_002, 60_003), (60_101, 60_102, 60_103)
OPEN = (0o755, 0o755, 0o755, 0o775, 0o770, 0o750)
MODES = (*OPEN * 2, 0o711, 0o710, 0o700, 0o705, 0o070, 0o007, 0o444, 0)
CALLERS = (
    person("one", 60_001, 60_101),
    person("two", 60_002, 60_101, 60_102),
    person("three", 60_003, 60_103, 60_102, 60_101),
    person("four", 60_004, 60_103),
    person("none", 60_005),
)
pytestmark = [needs_root, pytest.mark.root]


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="datamgr-test-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def grow(root: Path, chance: random.Random, number: int) -> set[bytes]:
    """A random tree below `root`; returns the directories that have an access control list."""
    made, listed = [root], set()
    for index in range(number):
        above = chance.choice(made)
        path = make(above / f"d{index}", 0o755, chance.choice(UIDS), chance.choice(GIDS))
        made.append(path)
    for path in made[1:]:
        path.chmod(chance.randrange(0o1000) if chance.random() < 0.15 else chance.choice(MODES))
        if chance.random() < 0.05:
            grant(path, chance.choice(UIDS), chance.choice((0, 5, 7)))
            listed.add(os.fsencode(path))
    return listed


@pytest.mark.parametrize("seed", range(3))
def test_requirements_decide_as_the_kernel(seed: int, place: Path, tmp_path: Path) -> None:
    root = make(place / "root", 0o751, 0, 60_101)
    with_list = grow(root, random.Random(seed), 120)
    rows = walked([root], tmp_path / "scan", workers=1).dirs
    paths = [row["path"] for row in rows]
    by_path = {row["path"]: row["access"] for row in rows}
    top = os.fsencode(root)
    seen = hidden = 0
    for caller in CALLERS:
        can_list = listable(caller, paths)
        for path, text in by_path.items():
            # Once as if the root were a project, once as if what is directly in it were.
            for project_level in (access.level(top), access.level(top) + 1):
                if access.level(path) < project_level:
                    continue
                requirement = access.resolved(text, project_level)
                found = access.is_met(requirement, caller.uid, caller.gids)
                chain = [path]
                while access.level(chain[-1]) > project_level:
                    chain.append(os.path.dirname(chain[-1]))
                if with_list.intersection(above_and_itself(path, top)):
                    assert not found or can_list.issuperset(chain)
                else:
                    assert found == can_list.issuperset(chain), (path, text, caller)
                seen, hidden = seen + found, hidden + (not found)
    assert min(seen, hidden) > 50


def above_and_itself(path: bytes, top: bytes) -> list[bytes]:
    found = [path]
    while found[-1] != top:
        found.append(os.path.dirname(found[-1]))
    return found


def test_directories_above_the_root_must_be_searched(place: Path, tmp_path: Path) -> None:
    outer = make(place / "outer", 0o710, 0, 60_102)
    root = make(outer / "root", 0o755)
    [row] = walked([root], tmp_path / "scan", workers=1).dirs
    requirement = access.resolved(row["access"], access.level(row["path"]))
    for caller in CALLERS:
        found = access.is_met(requirement, caller.uid, caller.gids)
        assert found == (60_102 in caller.gids) == bool(listable(caller, [row["path"]]))


def test_what_could_not_be_read_is_hidden(place: Path, tmp_path: Path) -> None:
    root = make(place / "root", 0o755)
    make(root / "deep", 0o755)
    make(root / "deep/deeper", 0o755)
    found = walked([root], tmp_path / "scan", workers=1, max_depth=1)
    top = access.level(os.fsencode(root))
    accesses = {os.path.basename(r["path"]): access.resolved(r["access"], top) for r in found.dirs}
    assert accesses == {b"root": "", b"deep": "", b"deeper": access.HIDDEN}


def test_the_processes_of_a_walk_agree(place: Path, tmp_path: Path) -> None:
    """Directories are handed from one to another with what is demanded on the way to them."""
    root = make(place / "root", 0o755)
    grow(root, random.Random(9), 150)
    one, other = (
        {row["path"]: row["access"] for row in walked([root], tmp_path / n, workers=int(n)).dirs}
        for n in "13"
    )
    assert one == other
