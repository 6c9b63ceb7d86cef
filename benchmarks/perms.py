"""Changes with a journal against coreutils without one: two passes of `chgrp -R` and `chmod -R`.

A request that has nothing to change is compared with `find`. Needs root.
"""

import argparse
import grp
import os
import pwd
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import measure, trees
from datamgr import catalog, process, tasks, worker
from datamgr.catalog import ProjectChange
from datamgr.config import Settings
from datamgr.config_pitoolbox import PitoolboxSettings
from datamgr.db import Database, open_database
from datamgr.identity import Caller, Role
from pitoolbox import worker as perms
from pitoolbox.crew import Crew
from pitoolbox.executor import Answer, Executor, Order, Report
from pitoolbox.requests import KIND, Action, ActionKind, Request

# An account and two groups that every Debian has; the account is in the second.
OWNER, OTHER, OWN = "games", "users", "games"
ROOT = Caller("root", 0, frozenset({0}), Role.STAFF)
NAME = "benchmark"


def run(arguments: argparse.Namespace) -> None:
    """One tree, changed to and fro by both in turn."""
    if os.geteuid() != 0:
        measure.report("permissions: skipped, this needs root")
        return
    with trees.tree(arguments.entries) as tree, _stage(tree) as stage:
        for shown, work, peer in [
            ("executors alone", stage.alone, stage.coreutils),
            ("requests with a journal, one for each", stage.two_requests, stage.coreutils),
            ("a request to share with a journal", stage.share, stage.share_by_coreutils),
        ]:
            ours, theirs = _prepared(arguments.rounds, stage.reset, work, peer)
            measure.report(
                f"{shown} / chgrp -R and chmod -R of {arguments.entries} entries",
                ratio=ours / theirs,
                ours_s=ours,
                coreutils_s=theirs,
            )
        stage.share()
        ours, theirs = measure.alternated(arguments.rounds, stage.share, stage.find)
        measure.report(
            f"a request with nothing to do / find -printf '%g %m' of {arguments.entries} entries",
            ratio=ours / theirs,
            ours_s=ours,
            find_s=theirs,
        )
        stage.reset()
        peak = measure.peak_rss_bytes(stage.share)
        measure.report("worker and executors", peak_mib=peak / measure.MEBI)


def _prepared(rounds: int, reset: Callable[[], None], *works: Callable[[], object]) -> list[float]:
    """The median seconds of each, without those of `reset` before it."""
    taken = [[(reset(), measure.seconds(work))[1] for work in works] for _ in range(rounds)]
    return [sorted(times)[rounds // 2] for times in zip(*taken, strict=True)]


@dataclass
class Stage:
    """A tree, and those who change it."""

    tree: Path
    settings: Settings
    database: Database
    crew: Crew

    def reset(self) -> None:
        """Everything is the owner's and the first group's, who may do little."""
        _tool("chown", "-R", f"{OWNER}:{OWN}", self.tree)
        _tool("chmod", "-R", "u=rwX,go-rwx,g-s", self.tree)
        os.sync()

    def coreutils(self) -> None:
        """The two passes."""
        _tool("chgrp", "-R", OTHER, self.tree)
        _tool("chmod", "-R", "g+rwX", self.tree)

    def share_by_coreutils(self) -> None:
        """The two passes that make what `share` makes, but for setgid on directories."""
        _tool("chgrp", "-R", OTHER, self.tree)
        _tool("chmod", "-R", "g+rX", self.tree)

    def find(self) -> None:
        """What a look at everything costs."""
        _tool("find", self.tree, "-fprintf", "/dev/null", "%g %m\n")

    def alone(self) -> None:
        """Both changes in one pass by the executors, with nobody who writes down."""
        found = self.tree.stat()
        order = Order(
            root=os.fsencode(self.tree),
            device=found.st_dev,
            inode=found.st_ino,
            groups=[grp.getgrnam(name).gr_gid for name in (OTHER, OWN)],
            requester=0,
            override=False,
            dry_run=False,
            gid=grp.getgrnam(OTHER).gr_gid,
            clauses=[("+", "rwX")],
            recursive=True,
        )
        self.crew.begin(order)
        self.crew.change([b"."], _go)

    def two_requests(self) -> None:
        """A request for the group and one for the mode."""
        self._submit(Action(ActionKind.CHGRP, group=OTHER))
        self._submit(Action(ActionKind.CHMOD, mode="g+rwX"))
        self._work()

    def share(self) -> None:
        """One request for both."""
        self._submit(Action(ActionKind.SHARE))
        self._work()

    def _submit(self, action: Action) -> None:
        request = Request(NAME, action, paths=(b".",), recursive=True)
        with self.database.transaction() as session:
            tasks.submit(session, ROOT, KIND, request.key, request.to_params())

    def _work(self) -> None:
        served = perms.PermsWorker(self.settings, self.database, self.crew)
        with served.alone:
            worker.run(served, once=True)
        with self.database.transaction(read_only=True) as session:
            states = {task.state for task in tasks.list_tasks(session)}
        if states != {tasks.State.SUCCEEDED}:
            raise RuntimeError(f"a request ended as {states}")


@contextmanager
def _stage(tree: Path) -> Iterator[Stage]:
    section = PitoolboxSettings(roots=(tree.parent,), min_uid=1, min_gid=1, groups={NAME: (OWN,)})
    uid = pwd.getpwnam(OWNER).pw_uid
    os.chown(tree, uid, grp.getgrnam(OWN).gr_gid)
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCHMARK_DIR")) as folder:
        settings = Settings(state_dir=Path(folder), pitoolbox=section)
        crew = Crew([Executor(perms.policy(settings)) for _ in range(section.executors)])
        try:
            with open_database(settings) as database:
                with database.transaction() as session:
                    change = ProjectChange(path=os.fsencode(tree), unix_group=OTHER)
                    catalog.add_project(session, ROOT, NAME, change)
                yield Stage(tree, settings, database, crew)
        finally:
            crew.close()


def _go(_: Report) -> Answer:
    return "go"


def _tool(*argv: str | Path) -> None:
    process.run([str(argument) for argument in argv], timeout_s=3600)
