"""Killed at any moment, again and again, a request ends as if nothing had happened."""

import os
import random
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
import sqlalchemy as sa

from datamgr import tasks
from datamgr.catalog import Project
from datamgr.config import Settings
from datamgr.db import Database
from datamgr.errors import UnavailableError
from pitoolbox import queries
from pitoolbox.requests import Action, ActionKind, Request
from tests import mounts, waits
from tests.accounts import People
from tests.commands import DATAMGR
from tests.integration.pitoolbox import trees

pytestmark = [mounts.needs_root, pytest.mark.root]

ACTIONS = (
    Action(ActionKind.SHARE),
    Action(ActionKind.CHMOD, mode="g+rwX,g+s"),
)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead worker's task is taken over after a second instead of a quarter of a minute."""
    monkeypatch.setenv("DATAMGR_TASKS__LEASE_S", "1")
    monkeypatch.setenv("DATAMGR_TASKS__HEARTBEAT_S", "0.2")


def submit(database: Database, people: People, request: Request) -> int:
    with database.transaction() as session:
        caller = people.caller(people.pi)
        return tasks.submit(session, caller, "perms", request.key, request.to_params()).id


def task(database: Database, task_id: int) -> tasks.Task:
    with database.transaction(read_only=True) as session:
        return tasks.get(session, task_id)


def worker() -> subprocess.Popen[bytes]:
    argv = [*DATAMGR, "perms", "worker"]
    return subprocess.Popen(argv, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)


def serves(database: Database) -> bool:
    with database.transaction(read_only=True) as session:
        return queries.worker_runs(session)


def children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def kill(process: subprocess.Popen[bytes], chance: random.Random) -> None:
    """The worker, one of its privileged processes, or all of them at once."""
    others = children(process.pid)
    whom = chance.choice(["worker", "executor", "all"])
    victims = {"worker": [process.pid], "executor": others[:1], "all": [process.pid, *others]}
    for pid in victims[whom]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    # A worker that lost a privileged process ends by itself.
    if whom != "executor" or not others:
        process.kill()
    process.wait(timeout=60)


def run_and_kill(database: Database, task_id: int, kills: int, chance: random.Random) -> int:
    """Workers that are killed so many times at most, then one that may finish; the kills made."""
    made = 0
    while True:
        process = worker()
        try:
            if made < kills:
                deadline = time.monotonic() + chance.uniform(0.5, 2.5)
            else:
                deadline = time.monotonic() + 120
            while time.monotonic() < deadline and not task(database, task_id).is_finished:
                time.sleep(0.01)
            if task(database, task_id).is_finished:
                process.terminate()
                process.wait(timeout=60)
                return made
            assert made < kills, task(database, task_id).progress
            kill(process, chance)
            made += 1
        finally:
            process.kill()
            process.wait()


def journal(database: Database, task_id: int) -> list[tuple[bytes, trees.State, trees.State]]:
    """What the request changed, in order."""
    found = sa.text(
        "SELECT path, before_uid, before_gid, before_mode, before_acl, after_uid, after_gid,"
        " after_mode, after_acl FROM perm_change c WHERE task_id = :id AND NOT EXISTS (SELECT 1"
        " FROM perm_unapplied u WHERE (u.task_id, u.batch, u.number) ="
        " (c.task_id, c.batch, c.number)) ORDER BY batch, number"
    )
    with database.transaction(read_only=True) as session:
        rows = session.execute(found, {"id": task_id}).all()
    return [(bytes(row[0]), state(*row[1:5]), state(*row[5:9])) for row in rows]


def state(uid: int, gid: int, mode: int, acl: str | None) -> trees.State:
    return trees.State(uid, gid, mode, None if acl is None else bytes.fromhex(acl))


def test_an_idle_worker_ends_when_it_lost_a_privileged_process(
    perms_settings: Settings, database: Database
) -> None:
    """So that the service manager starts a whole one, before a request meets the hole."""
    process = subprocess.Popen([*DATAMGR, "perms", "worker"], stderr=subprocess.PIPE)
    try:
        waits.eventually(lambda: serves(database), "the worker is ready")
        os.kill(children(process.pid)[-1], signal.SIGKILL)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == UnavailableError.exit_code
    assert b"the privileged process has ended; start the worker again" in said


@pytest.mark.soak
def test_killed_requests_end_as_if_undisturbed(
    perms_settings: Settings,
    impatient: None,
    database: Database,
    project: Project,
    people: People,
    pytestconfig: pytest.Config,
) -> None:
    """Change and undo under kills: the same states, every change once in the journal."""
    full = pytestconfig.getoption("full_soak")
    wanted = pytestconfig.getoption("kills") or (300 if full else 6)
    seed = pytestconfig.getoption("seed") or random.randrange(10**6)
    print(f"kills {wanted}, seed {seed}")
    chance = random.Random(seed)
    root = Path(os.fsdecode(project.path))
    trees.fill(root, people, 20_000 if full else 8_000, seed)
    initial = trees.states(root)
    kills, rounds = 0, 0
    expected: dict[Action, dict[bytes, trees.State]] = {}
    while kills < wanted:
        action = ACTIONS[rounds % len(ACTIONS)]
        request = Request("cosmo", action, (b".",), recursive=True)
        if action not in expected:
            undisturbed = submit(database, people, request)
            run_and_kill(database, undisturbed, 0, chance)
            expected[action] = trees.states(root)
            back = Request("cosmo", action, (), undo_of=undisturbed)
            run_and_kill(database, submit(database, people, back), 0, chance)
            assert trees.states(root) == initial
        task_id = submit(database, people, request)
        kills += run_and_kill(database, task_id, wanted - kills, chance)
        compare(database, task_id, initial, expected[action], trees.states(root))
        back = Request("cosmo", action, (), undo_of=task_id)
        undo_id = submit(database, people, back)
        kills += run_and_kill(database, undo_id, wanted - kills, chance)
        compare(database, undo_id, expected[action], initial, trees.states(root))
        rounds += 1
    print(f"{kills} kills in {rounds} rounds")


def compare(
    database: Database,
    task_id: int,
    before: dict[bytes, trees.State],
    expected: dict[bytes, trees.State],
    found: dict[bytes, trees.State],
) -> None:
    """The tree is as it should be, and the journal says just what was done to it."""
    ended = task(database, task_id)
    assert ended.state in ("succeeded", "partial"), ended.error
    wrong = {
        path: (found[path], expected[path]) for path in expected if found[path] != expected[path]
    }
    assert not wrong
    changed = {path for path in expected if before[path] != expected[path]}
    rows = journal(database, task_id)
    repeated = [path for path, number in Counter(path for path, _, _ in rows).items() if number > 1]
    assert not repeated
    assert {path for path, _, _ in rows} == changed
    for path, was, became in rows:
        assert (was, became) == (before[path], expected[path]), path
    assert ended.result is not None
    assert ended.result["changed"] == len(changed)
