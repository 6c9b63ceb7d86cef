"""Handlers for tests, and a worker process that knows them: `python task_handlers.py`."""

import fcntl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from datamgr import claims, config, logs, worker
from datamgr.db import Database, make_engine
from datamgr.errors import InvalidError
from datamgr.worker import TaskContext

HANDLERS = {
    name: f"task_handlers:{name}"
    for name in ("hold", "steps", "partly", "refuse", "crash", "no_json", "nothing", "report")
}


def hold(context: TaskContext, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Runs until the file `until` exists."""
    note(context, "begin")
    try:
        wait_for(Path(params["until"]), context)
    except BaseException as stop:
        note(context, type(stop).__name__)
        raise
    note(context, "end")
    return {"held": True}


def steps(context: TaskContext, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """A few short steps under a lock file of the key, which the kernel frees at our death."""
    with Path(params["lock_file"]).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note(context, "overlap")
            raise
        note(context, "begin")
        for step in range(params["steps"]):
            context.progress(step, params["steps"], "steps")
            time.sleep(params.get("step_s", 0.005))
        note(context, "end")
    return {"steps": params["steps"]}


def report(context: TaskContext, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Tells a progress, waits for `until`, tells another one."""
    context.progress(3, 10, "files", "in /a\udc80\0b")
    wait_for(Path(params["until"]), context)
    context.progress(10, 10, "files")
    return {}


def partly(context: TaskContext, params: Mapping[str, Any]) -> Mapping[str, Any]:
    return claims.Partial(done=1, failed=2)


def refuse(context: TaskContext, params: Mapping[str, Any]) -> Mapping[str, Any]:
    raise InvalidError("the directory is no directory")


def crash(context: TaskContext, params: Mapping[str, Any]) -> Mapping[str, Any]:
    raise ZeroDivisionError("division by zero")


def no_json(context: TaskContext, params: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"path": Path("/")}


def nothing(context: TaskContext, params: Mapping[str, Any]) -> Any:
    return None


def wait_for(file: Path, context: TaskContext) -> None:
    deadline = time.monotonic() + 60
    while not file.exists():
        context.checkpoint()
        if time.monotonic() > deadline:
            raise TimeoutError(f"{file} has not come")
        time.sleep(0.01)


def note(context: TaskContext, event: str) -> None:
    with context.database.transaction() as session:
        session.execute(
            sa.text("INSERT INTO execution (task_id, event) VALUES (:task_id, :event)"),
            {"task_id": context.task.id, "event": event},
        )


def main() -> None:
    logs.configure_logging(daemon=True)
    settings = config.load()
    database = Database(make_engine(sa.make_url(settings.database.url), 10))
    running = worker.Worker(
        settings, database, list(HANDLERS), handlers=HANDLERS, max_attempts=1000
    )
    print("ready", flush=True)
    worker.run(running)


if __name__ == "__main__":
    main()
