"""Workers as real processes that are killed, paused, cut off and stopped."""

import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from datamgr import daemon, tasks, worker
from datamgr.cli import main
from datamgr.config import Settings, TaskSettings
from datamgr.daemon import Backoff, Stop
from datamgr.db import Database
from datamgr.errors import InvalidError, UnavailableError
from datamgr.identity import Caller, Role
from datamgr.tasks import State, Task
from datamgr.worker import Worker

FAKES = Path(__file__).parents[1] / "fakes"
ANNA = Caller("anna", 1001, frozenset({100}), Role.USER)
LEASE_S = 0.5

EXECUTION_TABLE = """
    CREATE TABLE execution (
        number bigint GENERATED ALWAYS AS IDENTITY, task_id bigint, event text,
        at timestamptz DEFAULT clock_timestamp());
"""
# Which states each task went through, as the table itself saw it.
TRANSITION_TABLE = """
    CREATE TABLE transition (number bigint GENERATED ALWAYS AS IDENTITY, task_id bigint,
        before text, after text);
    CREATE FUNCTION note_transition() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO transition (task_id, before, after) VALUES (NEW.id, OLD.state, NEW.state);
        RETURN NULL;
    END $$;
    CREATE TRIGGER note_transition AFTER UPDATE ON task FOR EACH ROW
        WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION note_transition();
"""


@pytest.fixture
def tables(database: Database) -> None:
    with database.transaction() as session:
        session.execute(sa.text(EXECUTION_TABLE))
        session.execute(sa.text(TRANSITION_TABLE))


@pytest.fixture
def hasty(settings: Settings, tables: None, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with short times, for this process and its children, and the tests' tables."""
    monkeypatch.syspath_prepend(str(FAKES))
    monkeypatch.setenv("DATAMGR_TASKS__LEASE_S", str(LEASE_S))
    monkeypatch.setenv("DATAMGR_TASKS__HEARTBEAT_S", "0.1")
    return settings.model_copy(update={"tasks": TaskSettings(lease_s=LEASE_S, heartbeat_s=0.1)})


@pytest.fixture
def stop() -> Iterator[Stop]:
    made = Stop()
    yield made
    made.close()


@pytest.fixture
def here(hasty: Settings, database: Database) -> Iterator[Worker]:
    """A worker in this process."""
    from task_handlers import HANDLERS

    made = Worker(hasty, database, list(HANDLERS), handlers=HANDLERS)
    yield made
    made.close()


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """The file that lets `hold` end."""
    return tmp_path / "release"


@contextmanager
def worker_process() -> Iterator[subprocess.Popen[bytes]]:
    """A worker that is ready to claim; killed at the end of the block."""
    with subprocess.Popen(
        [sys.executable, str(FAKES / "task_handlers.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()


def eventually(condition: Callable[[], object], what: str, deadline_s: float = 120) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"
        time.sleep(0.01)


def submit(database: Database, kind: str, key: str = "alpha", **params: object) -> int:
    with database.transaction() as session:
        return tasks.submit(session, ANNA, kind, key, params).id


def get(database: Database, task_id: int) -> Task:
    with database.transaction() as session:
        return tasks.get(session, task_id)


def events(database: Database, task_id: int) -> list[str]:
    query = sa.text("SELECT event FROM execution WHERE task_id = :id ORDER BY number")
    with database.transaction() as session:
        return list(session.scalars(query, {"id": task_id}))


def is_state(database: Database, task_id: int, state: State) -> Callable[[], bool]:
    return lambda: get(database, task_id).state == state


def has_begun(database: Database, task_id: int) -> Callable[[], bool]:
    return lambda: "begin" in events(database, task_id)


@pytest.mark.parametrize(
    ("kind", "state", "error"),
    [
        ("partly", State.PARTIAL, None),
        ("refuse", State.FAILED, "the directory is no directory"),
        ("crash", State.FAILED, "internal error: ZeroDivisionError: division by zero, see the log"),
        ("no_json", State.FAILED, "the result of a task must be a JSON object: "),
        ("nothing", State.FAILED, "the result of a task must be a JSON object: "),
    ],
)
def test_how_a_handler_ends_is_how_its_task_ends(
    database: Database, here: Worker, stop: Stop, kind: str, state: State, error: str | None
) -> None:
    task_id = submit(database, kind)
    here.drain(stop)
    task = get(database, task_id)
    assert task.state == state
    assert (task.error or "").startswith(error or "")
    assert task.result == ({"done": 1, "failed": 2} if state is State.PARTIAL else None)


def test_an_internal_error_is_in_the_log_with_its_traceback(
    database: Database, here: Worker, stop: Stop, caplog: pytest.LogCaptureFixture
) -> None:
    submit(database, "crash")
    here.drain(stop)
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.levelno == logging.ERROR
    assert "ZeroDivisionError" in caplog.text


def test_progress_is_seen_while_the_task_runs_and_after(
    database: Database, hasty: Settings, release: Path
) -> None:
    task_id = submit(database, "report", until=str(release))
    with worker_process():
        eventually(lambda: get(database, task_id).progress, "progress")
        assert get(database, task_id).progress == {
            "done": 3,
            "total": 10,
            "unit": "files",
            "message": r"in /a\udc80\x00b",
        }
        release.touch()
        eventually(is_state(database, task_id, State.SUCCEEDED), "the end")
    progress = get(database, task_id).progress
    assert progress is not None
    assert progress["done"] == 10


def test_a_running_task_is_cancelled(database: Database, hasty: Settings, release: Path) -> None:
    task_id = submit(database, "hold", until=str(release))
    with worker_process():
        eventually(has_begun(database, task_id), "the beginning")
        with database.transaction() as session:
            tasks.cancel(session, ANNA, task_id)
        eventually(is_state(database, task_id, State.CANCELLED), "the end")
    assert events(database, task_id) == ["begin", "Cancelled"]


def test_sigterm_puts_the_task_back_in_its_place(
    database: Database, hasty: Settings, release: Path
) -> None:
    first = submit(database, "hold", until=str(release))
    second = submit(database, "hold", until=str(release))
    with worker_process() as process:
        eventually(has_begun(database, first), "the beginning")
        process.terminate()
        assert process.wait(timeout=120) == 0
    task = get(database, first)
    assert (task.state, task.attempts, task.worker) == (State.QUEUED, 0, None)
    release.touch()
    with worker_process():
        eventually(is_state(database, second, State.SUCCEEDED), "the second task")
    assert events(database, first) == ["begin", "Interrupted", "begin", "end"]
    assert events(database, second) == ["begin", "end"]


def test_a_second_ctrl_c_stops_a_handler_that_does_not_look(
    database: Database, hasty: Settings, tmp_path: Path
) -> None:
    """A step of five minutes; the first SIGINT waits for the next progress call."""
    lock_file = str(tmp_path / "lock")
    task_id = submit(database, "steps", lock_file=lock_file, steps=1, step_s=300)
    with worker_process() as process:
        eventually(has_begun(database, task_id), "the beginning")
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.3)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) != 0


def test_a_paused_worker_keeps_its_task(
    database: Database, hasty: Settings, here: Worker, stop: Stop, release: Path
) -> None:
    task_id = submit(database, "hold", until=str(release))
    silent = sa.text("SELECT now() - heartbeat_at > make_interval(secs => :s) FROM task")
    with worker_process() as process:
        eventually(has_begun(database, task_id), "the beginning")
        os.kill(process.pid, signal.SIGSTOP)

        def silent_for_long() -> bool:
            with database.transaction() as session:
                return bool(session.scalar(silent, {"s": 3 * LEASE_S}))

        eventually(silent_for_long, "a silence longer than the lease")
        assert not here.run_one(stop)
        assert get(database, task_id).state == State.RUNNING
        os.kill(process.pid, signal.SIGCONT)
        release.touch()
        eventually(is_state(database, task_id, State.SUCCEEDED), "the end")
    assert events(database, task_id) == ["begin", "end"]
    assert get(database, task_id).attempts == 0


def test_a_worker_whose_connection_is_cut_stops_and_the_task_is_run_once_more(
    database: Database, hasty: Settings, release: Path
) -> None:
    task_id = submit(database, "hold", until=str(release))
    with worker_process():
        eventually(has_begun(database, task_id), "the beginning")
        assert cut_connections(database) == 1
        eventually(lambda: events(database, task_id).count("begin") == 2, "the second run")
        release.touch()
        eventually(is_state(database, task_id, State.SUCCEEDED), "the end")
    assert events(database, task_id) == ["begin", "Lost", "begin", "end"]
    assert get(database, task_id).attempts == 1


def test_only_named_kinds_with_handlers_are_worked_on() -> None:
    assert worker.known_kinds([], {"a": "m:a", "b": "m:b"}) == ["a", "b"]
    assert worker.known_kinds(["b"], {"a": "m:a", "b": "m:b"}) == ["b"]
    with pytest.raises(InvalidError, match="known are a, b"):
        worker.known_kinds(["c"], {"a": "m:a", "b": "m:b"})


def test_the_worker_command_runs_what_is_queued_and_exits(
    settings: Settings, database: Database, capsys: pytest.CaptureFixture
) -> None:
    task_id = submit(database, "not a kind")
    assert main.run(["worker", "--once"]) == 0
    assert get(database, task_id).state == State.QUEUED
    assert main.run(["worker", "--kind", "not a kind"]) == InvalidError.exit_code
    assert "there is no kind of task 'not a kind'" in capsys.readouterr().err


def test_a_daemon_waits_for_what_is_away_and_says_so_once(
    stop: Stop, caplog: pytest.LogCaptureFixture
) -> None:
    """Away three times, back, away once, back."""
    caplog.set_level(logging.INFO)
    outcomes = iter([False, False, False, True, True, False, True])

    def step(stop: Stop) -> float:
        available = next(outcomes, None)
        if available is None:
            stop.set()
        elif not available:
            raise UnavailableError("the database does not answer")
        return 0

    daemon.run_daemon(step, stop, backoff=Backoff(first_s=0.001, cap_s=0.002))
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"] * 2


def test_back_off_doubles_up_to_its_cap_with_jitter() -> None:
    backoff = Backoff(first_s=1, cap_s=5)
    for nominal in (1, 2, 4, 5, 5):
        assert nominal / 2 <= backoff.next_s() <= nominal
    backoff.reset()
    assert backoff.next_s() <= 1


@pytest.mark.soak
def test_killed_workers_lose_nothing_and_run_nothing_twice_at_once(
    database: Database, hasty: Settings, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Three workers, killed at random moments and replaced, while tasks keep coming.

    Now and then all of them lose their connections as well.

    `overlap` events come from a lock file per key, which the kernel frees when a process dies.
    """
    option = request.config.getoption
    kills = option("--kills") or (200 if option("--full-soak") else 5)
    seed = option("--seed")
    seed = random.randrange(10**6) if seed is None else seed
    print(f"seed {seed}, {kills} kills")
    dice = random.Random(seed)
    keys = ["alpha", "beta", "gamma", "delta"]
    submitted: dict[str, list[int]] = {key: [] for key in keys}

    def submit_some(number: int) -> None:
        for _ in range(number):
            key = dice.choice(keys)
            params = {"lock_file": str(tmp_path / key), "steps": dice.randrange(60)}
            submitted[key].append(submit(database, "steps", key, **params))

    with ExitStack() as processes:
        running = [processes.enter_context(worker_process()) for _ in range(3)]
        for _ in range(kills):
            submit_some(8)
            eventually(lambda: runs_any(database), "a task runs")
            time.sleep(dice.random() * 0.3)  # the random moment
            if dice.random() < 0.2:
                cut_connections(database)
            victim = dice.randrange(len(running))
            running[victim].kill()
            running[victim] = processes.enter_context(worker_process())
        eventually(lambda: not unfinished(database), "all tasks have ended", 60 + kills)

    with database.transaction() as session:
        states = dict(session.execute(sa.text("SELECT id, state FROM task")).all())
        recovered = session.scalar(sa.text("SELECT sum(attempts) FROM task"))
        ends = session.execute(
            sa.text(
                "SELECT task_id, count(*) FROM transition WHERE after IN"
                " ('succeeded', 'partial', 'failed', 'cancelled') GROUP BY task_id"
            )
        ).all()
        executions = session.execute(
            sa.text("SELECT task_id, event FROM execution ORDER BY number")
        ).all()
    print(f"{len(states)} tasks, {recovered} recovered")
    everything = [task_id for ids in submitted.values() for task_id in ids]
    assert states == dict.fromkeys(everything, State.SUCCEEDED)
    assert dict(ends) == dict.fromkeys(everything, 1)
    assert [event for _, event in executions if event == "overlap"] == []
    for key, ids in submitted.items():
        # Repeated only directly after itself: begin 1, begin 1, end 1, begin 2, end 2 ...
        ran = [task_id for task_id, _ in executions if task_id in set(ids)]
        assert list(dict.fromkeys(ran)) == ran_in_blocks(ran) == ids, key


def ran_in_blocks(ran: list[int]) -> list[int]:
    """The tasks as they followed each other; one that came back later appears again."""
    return [task_id for n, task_id in enumerate(ran) if n == 0 or ran[n - 1] != task_id]


def cut_connections(database: Database) -> int:
    """End the sessions of all workers that run a task, as a restart of the database does."""
    cut = sa.text(
        "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_database d ON d.oid = database"
        " WHERE datname = current_database() AND locktype = 'advisory'"
    )
    with database.transaction() as session:
        return sum(session.scalars(cut))


def runs_any(database: Database) -> bool:
    with database.transaction() as session:
        return bool(tasks.list_tasks(session, states=[State.RUNNING], limit=1))


def unfinished(database: Database) -> list[int]:
    with database.transaction() as session:
        return [task.id for task in tasks.list_tasks(session, states=tasks.UNFINISHED, limit=1)]
