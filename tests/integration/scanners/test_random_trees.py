"""Random trees: the roll-ups equal the oracle, whatever the number of walking processes."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from scanners import engines, walk
from scanners.record import SCHEMAS
from scanners.rollup import Rollup, ScanProject
from scanners.walker import WalkOptions
from tests import mounts, oracle, trees

TOP_FILES = 3
IS_ROOT = os.geteuid() == 0


@dataclass(frozen=True)
class Node:
    """One entry to make; `where`, `target` and `project` pick among what is there already."""

    kind: str
    where: int
    name: bytes
    size_bytes: int
    uid: int
    read_days: int
    changed_days: int
    target: int
    project: bool


names = st.one_of(
    st.sampled_from(trees.HOSTILE_NAMES),
    st.binary(min_size=1, max_size=8).filter(lambda n: not set(n) & {0, ord("/")}),
).filter(lambda name: name not in (b".", b".."))

# Ages around the bins' limits, in the future, and beyond 1970.
days = st.sampled_from([-400, -1, 0, 6, 7, 8, 29, 30, 31, 89, 90, 364, 365, 729, 730, 25_000])

nodes = st.builds(
    Node,
    kind=st.sampled_from(["file", "file", "file", "directory", "directory", "link", "symlink"]),
    where=st.integers(0, 1000),
    name=names,
    size_bytes=st.sampled_from([0, 1, 4095, 4096, 4097, 20_000, 5 * trees.GIB]),
    uid=st.sampled_from([trees.ADA, trees.BOB]),
    read_days=days,
    changed_days=days,
    target=st.integers(0, 1000),
    project=st.booleans(),
)


@contextmanager
def built(root: Path, plan: list[Node], now_s: int) -> Iterator[dict[bytes, str]]:
    """The tree of a plan, and its projects by path."""
    root.mkdir()
    try:
        yield build(root, plan, now_s)
    finally:
        shutil.rmtree(root)


def build(root: Path, plan: list[Node], now_s: int) -> dict[bytes, str]:
    directories, files = [os.fsencode(root)], list[bytes]()
    projects = {directories[0]: "(no project)"}
    for node in plan:
        parent = directories[node.where % len(directories)]
        path = os.path.join(parent, node.name)
        if os.path.lexists(path) or len(path) > 3000:
            continue
        if node.kind == "directory":
            os.mkdir(path)
            directories.append(path)
            if node.project:
                projects[path] = f"project {len(projects)}"
        elif node.kind == "link" and files:
            os.link(files[node.target % len(files)], path, follow_symlinks=False)
            continue
        elif node.kind == "symlink":
            os.symlink(directories[node.target % len(directories)], path)
        else:
            trees.make_file(Path(os.fsdecode(path)), min(node.size_bytes, 20_000))
            os.truncate(path, node.size_bytes)
            files.append(path)
        if IS_ROOT:
            os.chown(path, node.uid, trees.LAB, follow_symlinks=False)
        if node.kind != "directory":
            read, changed = (now_s - d * trees.DAY_S for d in (node.read_days, node.changed_days))
            os.utime(path, (read, changed), follow_symlinks=False)
    return projects


def rolled_up(
    root: Path, folder: Path, projects: dict[bytes, str], as_of_s: int, workers: int
) -> oracle.RollUps:
    for dataset in SCHEMAS:
        (folder / dataset).mkdir(parents=True)
    walked = walk.walk([os.fsencode(root)], folder, WalkOptions(workers))
    assert walked.errors == {}
    numbered = [ScanProject(i, name, path) for i, (path, name) in enumerate(projects.items())]
    with engines.duckdb_engine(folder / "scratch") as engine:
        dirs, entries = engine.dataset(folder, "dirs"), engine.dataset(folder, "entries")
        rollup = Rollup(engine, dirs, entries, numbered, as_of_s)
        return oracle.computed(rollup, numbered, TOP_FILES)


@pytest.mark.soak
@mounts.needs_root
def test_roll_ups_of_random_trees_equal_the_oracle(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Each plan is walked by one process and by three."""
    full = request.config.getoption("--full-soak")
    number = request.config.getoption("--seed")
    number = time.time_ns() if number is None else number
    print(f"--seed {number}")
    # In memory, where the blocks of a file are final once it is written.
    with mounts.tmpfs(tmp_path / "trees", 256 * trees.MIB) as place:

        @seed(number)
        @settings(
            max_examples=200 if full else 3,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink] if full else [Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(plan=st.lists(nodes, min_size=30, max_size=150))
        def compare(plan: list[Node]) -> None:
            now_s = int(time.time())
            with built(place / "tree", plan, now_s) as projects:
                expected = oracle.expected([place / "tree"], projects, now_s, TOP_FILES)
                for workers in (1, 3):
                    folder = tmp_path / f"scan-{workers}"
                    found = rolled_up(place / "tree", folder, projects, now_s, workers)
                    shutil.rmtree(folder)
                    assert found == expected, f"with {workers} walking processes"

        compare()
