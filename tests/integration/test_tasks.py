"""The queue itself: order, fairness, cancelling, permissions, recovery, and its commands."""

import json
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from datamgr import claims, daemon, tasks
from datamgr.audit import AuditEvent
from datamgr.cli import main
from datamgr.config import Settings
from datamgr.daemon import Stop
from datamgr.db import Database
from datamgr.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from datamgr.identity import Caller, Role
from datamgr.lease import WorkerConnection
from datamgr.tasks import Progress, State, Task

ANNA = Caller("anna", 1001, frozenset({100}), Role.USER)
BEN = Caller("ben", 1002, frozenset({100}), Role.USER)
STAFF = Caller("root", 0, frozenset({0}), Role.STAFF)

Submit = Callable[..., int]
Claim = Callable[[str], Task | None]


@pytest.fixture
def submit(database: Database) -> Submit:
    """Submit one task in a transaction of its own; its id."""

    def submit_one(key: str, kind: str = "scan", caller: Caller = ANNA) -> int:
        with database.transaction() as session:
            return tasks.submit(session, caller, kind, key, {"path": "/x"}).id

    return submit_one


@contextmanager
def connected(database: Database) -> Iterator[WorkerConnection]:
    connection = WorkerConnection(database, silent_s=60)
    try:
        yield connection
    finally:
        connection.close()


@pytest.fixture
def connection(database: Database) -> Iterator[WorkerConnection]:
    with connected(database) as made:
        yield made


def claim(connection: WorkerConnection, worker: str = "w", kind: str = "scan") -> Task | None:
    with connection.transaction() as session:
        return claims.claim(session, worker, [kind])


def finish(connection: WorkerConnection, task: Task, worker: str = "w") -> None:
    with connection.transaction() as session:
        claims.finish(session, task.id, worker, {})
    with connection.transaction() as session:
        claims.unlock(session)


def state_of(database: Database, task_id: int) -> str:
    with database.transaction() as session:
        return tasks.get(session, task_id).state


def test_a_task_waits_for_all_earlier_ones_of_its_key(
    database: Database, submit: Submit, connection: WorkerConnection
) -> None:
    first, second = submit("alpha"), submit("alpha")
    taken = claim(connection)
    assert taken is not None and taken.id == first
    with connected(database) as other:
        assert claim(other) is None
        finish(connection, taken)
        after = claim(other)
    assert after is not None and after.id == second


def test_keys_are_served_side_by_side_and_the_oldest_task_first(
    database: Database, submit: Submit, connection: WorkerConnection
) -> None:
    """Alpha's long queue holds up nobody: each worker gets the oldest task that may run."""
    alpha = [submit("alpha"), submit("alpha")]
    beta = submit("beta")
    late_alpha = submit("alpha")
    with connected(database) as other:
        one, two = claim(connection, "w1"), claim(other, "w2")
        assert one is not None and two is not None
        assert [one.id, two.id] == [alpha[0], beta]
        finish(connection, one, "w1")
        finish(other, two, "w2")
    order = []
    while (task := claim(connection)) is not None:
        order.append(task.id)
        finish(connection, task)
    assert order == [alpha[1], late_alpha]


def test_a_kind_that_nobody_here_handles_is_not_claimed_and_holds_its_key(
    submit: Submit, connection: WorkerConnection
) -> None:
    submit("alpha", kind="transfer")
    submit("alpha")
    other_key = submit("beta")
    task = claim(connection)
    assert task is not None and task.id == other_key
    finish(connection, task)
    assert claim(connection) is None


def test_an_uncommitted_submission_is_not_overtaken(
    database: Database, connection: WorkerConnection
) -> None:
    """A later submission of the key waits for the commit, whoever drew the lower number."""
    ids: list[int] = []

    def submit_second() -> None:
        with database.transaction() as session:
            ids.append(tasks.submit(session, ANNA, "scan", "alpha", {}).id)

    with ThreadPoolExecutor(1) as pool:
        with database.transaction() as session:
            first = tasks.submit(session, ANNA, "scan", "alpha", {}).id
            second = pool.submit(submit_second)
            wait_for_blocked_backend(database)
            assert claim(connection) is None
        second.result(timeout=120)
    task = claim(connection)
    assert task is not None and task.id == first < ids[0]


def wait_for_blocked_backend(database: Database) -> None:
    waiting = sa.text(
        "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database"
        " WHERE datname = current_database() AND NOT granted AND locktype = 'advisory'"
    )
    for _ in range(1000):
        with database.transaction() as session:
            if session.scalar(waiting):
                return
        threading.Event().wait(0.01)
    raise AssertionError("no submission waits for the other")


def test_order_per_key_is_exact_under_concurrent_submitters_and_workers(
    database: Database, request: pytest.FixtureRequest
) -> None:
    """6 threads submit 20 tasks each to 3 keys while 3 workers run them: per key, in order."""
    seed = request.config.getoption("--seed") or random.randrange(10**6)
    print(f"seed {seed}")
    submitted: list[tuple[str, int]] = []
    executed: list[tuple[str, int]] = []
    all_submitted = threading.Event()

    def submitter(number: int) -> None:
        dice = random.Random(seed + number)
        for _ in range(20):
            key = dice.choice(["alpha", "beta", "gamma"])
            with database.transaction() as session:
                task_id = tasks.submit(session, ANNA, "scan", key, {}).id
                if dice.random() < 0.3:
                    session.execute(sa.select(sa.func.pg_sleep(dice.random() / 50)))
            submitted.append((key, task_id))

    def worker(number: int) -> None:
        with connected(database) as connection:
            while True:
                was_last_look = all_submitted.is_set()
                task = claim(connection, f"w{number}")
                if task is not None:
                    # While it runs nobody else can run one of its key.
                    executed.append((task.key, task.id))
                    finish(connection, task, f"w{number}")
                elif was_last_look:
                    return

    with ThreadPoolExecutor(9) as pool:
        workers = [pool.submit(worker, number) for number in range(3)]
        for submitter_ in [pool.submit(submitter, number) for number in range(6)]:
            submitter_.result(timeout=60)
        all_submitted.set()
        for worker_ in workers:
            worker_.result(timeout=60)

    assert len(executed) == 6 * 20
    for key in ("alpha", "beta", "gamma"):
        ids = [task_id for its_key, task_id in executed if its_key == key]
        assert ids == sorted(task_id for its_key, task_id in submitted if its_key == key)


def test_two_workers_race_for_one_task_and_one_gets_it(
    database: Database, submit: Submit, connection: WorkerConnection
) -> None:
    barrier = threading.Barrier(2, timeout=120)

    def race(racer: WorkerConnection, name: str) -> Task | None:
        barrier.wait()
        return claim(racer, name)

    with connected(database) as other, ThreadPoolExecutor(2) as pool:
        for number in range(20):
            submit(f"key {number}")
            racers = [(connection, "w1"), (other, "w2")]
            results = [pool.submit(race, *racer) for racer in racers]
            tasks_got = [result.result() for result in results]
            winners = [n for n, task in enumerate(tasks_got) if task is not None]
            assert len(winners) == 1
            won = tasks_got[winners[0]]
            assert won is not None
            finish(racers[winners[0]][0], won, racers[winners[0]][1])


def test_a_queued_task_is_cancelled_at_once_and_frees_its_key(
    database: Database, submit: Submit, connection: WorkerConnection
) -> None:
    first, second = submit("alpha"), submit("alpha")
    with database.transaction() as session:
        cancelled = tasks.cancel(session, ANNA, first)
        assert cancelled.state == State.CANCELLED
        assert cancelled.finished_at is not None
    task = claim(connection)
    assert task is not None and task.id == second


def test_a_running_task_is_asked_to_stop_and_ends_cancelled(
    database: Database, submit: Submit, connection: WorkerConnection
) -> None:
    task_id = submit("alpha")
    claim(connection)
    for _ in range(2):  # asking again changes nothing
        with database.transaction() as session:
            assert tasks.cancel(session, ANNA, task_id).state == State.CANCELLING
    with connection.transaction() as session:
        assert claims.heartbeat(session, task_id, "w", None) is State.CANCELLING
        claims.confirm_cancel(session, task_id, "w")
    assert state_of(database, task_id) == State.CANCELLED


@pytest.mark.parametrize("end", ["finish", "fail", "cancel"])
def test_a_task_that_has_ended_cannot_be_cancelled(
    database: Database, submit: Submit, connection: WorkerConnection, end: str
) -> None:
    task_id = submit("alpha")
    claim(connection)
    with connection.transaction() as session:
        if end == "finish":
            claims.finish(session, task_id, "w", {})
        elif end == "fail":
            claims.fail(session, task_id, "w", "no space")
        else:
            claims.confirm_cancel(session, task_id, "w")
    with database.transaction() as session, pytest.raises(ConflictError, match="already"):
        tasks.cancel(session, ANNA, task_id)


def test_only_its_owner_and_staff_may_cancel_and_that_is_audited(
    database: Database, submit: Submit
) -> None:
    of_anna, also_of_anna = submit("alpha"), submit("alpha")
    with database.transaction() as session, pytest.raises(ForbiddenError, match="belongs to anna"):
        tasks.cancel(session, BEN, of_anna)
    with database.transaction() as session:
        tasks.cancel(session, ANNA, of_anna)
        tasks.cancel(session, STAFF, also_of_anna)
    with database.transaction() as session:
        events = session.scalars(sa.select(AuditEvent).order_by(AuditEvent.id)).all()
    assert [(event.actor, event.action, event.subject) for event in events] == [
        ("anna", "task.cancel", f"task {of_anna}"),
        ("root", "task.cancel", f"task {also_of_anna}"),
    ]


def test_a_task_that_does_not_exist_is_not_found(database: Database) -> None:
    with database.transaction() as session, pytest.raises(NotFoundError, match="task 99"):
        tasks.cancel(session, STAFF, 99)
    with database.transaction() as session, pytest.raises(NotFoundError, match=f"task {10**30}"):
        tasks.get(session, 10**30)
    with database.transaction() as session, pytest.raises(NotFoundError, match="task 99"):
        tasks.get(session, 99)


@pytest.mark.parametrize(
    "params", [{"p": Path("/")}, {"n": float("nan")}, {"s": "\0"}, {"s": "\udc80"}]
)
def test_parameters_that_jsonb_cannot_hold_are_refused(
    database: Database, params: dict[str, object]
) -> None:
    with database.transaction() as session, pytest.raises(InvalidError, match="JSON"):
        tasks.submit(session, ANNA, "scan", "alpha", params)


def test_whoever_lost_a_task_cannot_write_to_it(
    database: Database, submit: Submit, connection: WorkerConnection
) -> None:
    task_id = submit("alpha")
    claim(connection)
    writes: list[Callable[[orm.Session], object]] = [
        lambda session: claims.heartbeat(session, task_id, "another", Progress(1)),
        lambda session: claims.finish(session, task_id, "another", {}),
        lambda session: claims.fail(session, task_id, "another", "no"),
        lambda session: claims.confirm_cancel(session, task_id, "another"),
        lambda session: claims.release(session, task_id, "another"),
    ]
    for write in writes:
        with database.transaction() as session, pytest.raises(ConflictError, match="no longer"):
            write(session)
    with connection.transaction() as session:
        claims.finish(session, task_id, "w", {})
    with connection.transaction() as session, pytest.raises(ConflictError):
        claims.finish(session, task_id, "w", {})


def test_a_task_is_orphaned_when_its_lock_is_free_and_its_worker_silent(
    database: Database, submit: Submit
) -> None:
    first, second = submit("alpha"), submit("alpha")
    with connected(database) as dies:
        claim(dies)
        with database.transaction() as session:
            assert claims.recover(session, silent_s=0) == []
    wait_until_unlocked(database)
    with database.transaction() as session:
        assert claims.recover(session, silent_s=60) == []
    with database.transaction() as session:
        (task,) = claims.recover(session, silent_s=0)
        assert (task.id, task.state, task.attempts, task.worker) == (first, State.QUEUED, 1, None)
    with connected(database) as next_worker:
        again = claim(next_worker)
        assert again is not None
        assert again.id == first < second


def wait_until_unlocked(database: Database) -> None:
    """A backend frees its locks a moment after its client is gone."""
    held = sa.text(
        "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database"
        " WHERE datname = current_database() AND locktype = 'advisory'"
    )
    for _ in range(1000):
        with database.transaction() as session:
            if not session.scalar(held):
                return
        threading.Event().wait(0.01)
    raise AssertionError("the lock of a closed connection stays")


def test_a_task_that_was_being_cancelled_when_its_worker_died_is_cancelled(
    database: Database, submit: Submit
) -> None:
    task_id = submit("alpha")
    with connected(database) as dies:
        claim(dies)
    with database.transaction() as session:
        tasks.cancel(session, ANNA, task_id)
    wait_until_unlocked(database)
    with database.transaction() as session:
        (task,) = claims.recover(session, silent_s=0)
        assert task.state == State.CANCELLED
        assert task.finished_at is not None


def test_a_task_that_kills_its_workers_fails_in_the_end(database: Database, submit: Submit) -> None:
    task_id = submit("alpha")
    for death in (1, 2, 3):
        with connected(database) as dies:
            assert claim(dies) is not None
        wait_until_unlocked(database)
        with database.transaction() as session:
            (task,) = claims.recover(session, silent_s=0, max_attempts=3)
            assert task.attempts == death
    assert (task.id, task.state, task.error) == (task_id, State.FAILED, "its worker died 3 times")


def test_a_waiting_worker_is_woken_by_submission_and_by_cancellation(
    database: Database, submit: Submit, connection: WorkerConnection
) -> None:
    """Within a wait of 30 s; the notification may come before the wait or during it."""
    stop = Stop()
    first = submit("alpha")
    connection.wait(stop, 30)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(connection.wait, stop, 30)
        with database.transaction() as session:
            tasks.cancel(session, ANNA, first)
        waiting.result(timeout=120)
    stop.close()


def test_the_stop_flag_ends_a_wait(connection: WorkerConnection) -> None:
    stop = Stop()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(connection.wait, stop, 30)
        stop.set()
        waiting.result(timeout=120)
    assert daemon.run_daemon(lambda _: 0, stop) is None
    stop.close()


def test_task_commands_list_show_and_cancel(
    settings: Settings, submit: Submit, connection: WorkerConnection, capsys: pytest.CaptureFixture
) -> None:
    done, queued = submit("alpha"), submit("beta", kind="transfer")
    task = claim(connection)
    assert task is not None
    with connection.transaction() as session:
        claims.heartbeat(session, done, "w", Progress(5, 20, "files", "in /data"))
    finish(connection, task)

    def rows(*argv: str) -> list[dict]:
        assert main.run(["task", *argv, "--json"]) == 0
        printed = json.loads(capsys.readouterr().out)
        assert printed["schema"] == f"task.{argv[0]}"
        return printed["rows"]

    assert [row["id"] for row in rows("list")] == [queued]
    assert [row["id"] for row in rows("list", "--all")] == [queued, done]
    assert [row["id"] for row in rows("list", "--state", "succeeded")] == [done]
    assert [row["id"] for row in rows("list", "--all", "--kind", "scan")] == [done]
    assert [row["id"] for row in rows("list", "--all", "--limit", "1")] == [queued]
    (shown,) = rows("show", str(done))
    assert shown["params"] == {"path": "/x"}
    assert shown["progress"] == {"done": 5, "total": 20, "unit": "files", "message": "in /data"}
    assert main.run(["task", "show", str(done)]) == 0
    assert "25.0 %, 5 of 20 files (in /data)" in capsys.readouterr().out
    assert main.run(["task", "list", "--all"]) == 0
    assert "succeeded" in capsys.readouterr().out
    assert main.run(["task", "show", "99"]) == NotFoundError.exit_code
    assert main.run(["task", "cancel", str(done)]) == ConflictError.exit_code
    assert "succeeded already" in capsys.readouterr().err


def test_the_account_that_may_cancel_is_the_one_that_runs_the_command(
    settings: Settings,
    submit: Submit,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    task_id = submit("alpha")
    monkeypatch.setattr("datamgr.identity.current", lambda _: BEN)
    assert main.run(["task", "cancel", str(task_id)]) == ForbiddenError.exit_code
    monkeypatch.setattr("datamgr.identity.current", lambda _: ANNA)
    assert main.run(["task", "cancel", str(task_id)]) == 0
    assert capsys.readouterr().out == f"Task {task_id} is cancelled.\n"
