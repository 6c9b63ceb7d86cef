"""Requests run in order within a project, and projects in turn, however many somebody queues."""

import random
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from datamgr import claims, tasks
from datamgr.config import Settings
from datamgr.daemon import Stop
from datamgr.db import Database
from datamgr.identity import Caller, Role
from datamgr.lease import WorkerConnection
from datamgr.tasks import State, Task
from datamgr.worker import TaskContext, Worker
from pitoolbox.requests import KIND, Action, ActionKind, Request

PIS = [Caller(f"pi{n}", 5000 + n, frozenset({100}), Role.USER) for n in range(20)]


def queue(database: Database, caller: Caller) -> int:
    """A request of the caller's own project."""
    request = Request(f"of-{caller.username}", Action(ActionKind.SHARE), (b".",), recursive=True)
    with database.transaction() as session:
        return tasks.submit(session, caller, KIND, request.key, request.to_params()).id


def drain(settings: Settings, database: Database, *, fair: bool = True) -> list[tuple[str, int]]:
    """Run all that is queued; who was served with which task, in order."""
    served: list[tuple[str, int]] = []

    def note(context: TaskContext, params: Mapping[str, Any]) -> Mapping[str, Any]:
        served.append((context.task.owner, context.task.id))
        return {}

    worker = Worker(settings, database, [KIND], {KIND: note}, fair=fair)
    stop = Stop()
    try:
        worker.drain(stop)
    finally:
        worker.close()
        stop.close()
    return served


def require_in_turn(queued: Mapping[str, list[int]], served: list[tuple[str, int]]) -> None:
    """Whoever still waits was served as often as anybody else who waits, or once less or more."""
    left = Counter({owner: len(ids) for owner, ids in queued.items()})
    so_far = Counter(dict.fromkeys(queued, 0))
    for owner, _ in served:
        waiting = [so_far[name] for name, number in left.items() if number]
        assert max(waiting) - min(waiting) <= 1, so_far
        left[owner] -= 1
        so_far[owner] += 1
    for owner, ids in queued.items():
        assert [task for name, task in served if name == owner] == ids


def test_a_thousand_requests_of_twenty_pis_at_once(settings: Settings, database: Database) -> None:
    queued: dict[str, list[int]] = {pi.username: [] for pi in PIS}
    # 10 to 90 requests a PI, 1,000 together, submitted by many at the same time.
    shares = [10 + 80 * n // 19 for n in range(20)]
    shares[-1] += 1000 - sum(shares)
    todo = [pi for pi, share in zip(PIS, shares, strict=True) for _ in range(share)]
    random.Random(5).shuffle(todo)
    with ThreadPoolExecutor(8) as pool:
        for pi, task_id in zip(todo, pool.map(lambda pi: queue(database, pi), todo), strict=True):
            queued[pi.username].append(task_id)
    for ids in queued.values():
        ids.sort()
    served = drain(settings, database)
    assert len(served) == len(set(served)) == 1000
    require_in_turn(queued, served)
    with database.transaction() as session:
        states = session.execute(sa.select(Task.state, sa.func.count()).group_by(Task.state)).all()
    assert [tuple(row) for row in states] == [(State.SUCCEEDED, 1000)]


def test_without_turns_the_oldest_comes_first(settings: Settings, database: Database) -> None:
    """The check of turns finds what is not in turn."""
    ids = {PIS[n].username: [queue(database, PIS[n]) for _ in range(3)] for n in range(2)}
    served = drain(settings, database, fair=False)
    assert [task for _, task in served] == sorted(task for some in ids.values() for task in some)
    with pytest.raises(AssertionError):
        require_in_turn(ids, served)


def test_who_comes_late_waits_for_one_request_and_not_for_hundreds(
    settings: Settings, database: Database
) -> None:
    first, late = PIS[:2]
    before = [queue(database, first) for _ in range(4)]
    connection = WorkerConnection(database, silent_s=60)
    try:

        def serve() -> int:
            with connection.transaction() as session:
                task = claims.claim(session, "w", [KIND], fair=True)
                assert task is not None
            with connection.transaction() as session:
                claims.finish(session, task.id, "w", {})
            with connection.transaction() as session:
                claims.unlock(session)
            return task.id

        assert [serve(), serve()] == before[:2]
        after = [queue(database, late) for _ in range(2)]
        assert [serve() for _ in range(4)] == [after[0], before[2], after[1], before[3]]
    finally:
        connection.close()


def test_an_interrupted_request_keeps_its_place_in_the_project(
    settings: Settings, database: Database
) -> None:
    ids = [queue(database, PIS[0]) for _ in range(2)]
    connection = WorkerConnection(database, silent_s=60)
    try:
        with connection.transaction() as session:
            task = claims.claim(session, "w", [KIND], fair=True)
        assert task is not None and task.id == ids[0]
        with connection.transaction() as session:
            claims.release(session, task.id, "w")
            claims.unlock(session)
    finally:
        connection.close()
    assert [task for _, task in drain(settings, database)] == ids
