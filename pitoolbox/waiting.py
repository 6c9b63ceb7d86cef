"""Waiting for a request on the command line, with a line that says how far it is."""

import time
from collections.abc import Callable
from typing import Any

import click

from datamgr import units
from datamgr.cli import progress
from datamgr.config import Settings
from datamgr.db import Database
from datamgr.identity import Caller
from datamgr.tasks import UNFINISHED, State
from pitoolbox import queries

LOOK_S = 0.2
PATIENCE_S = 3.0  # until somebody who waits is told that no worker runs


def wait(settings: Settings, database: Database, caller: Caller, task_id: int) -> dict[str, Any]:
    """The row of a request, once it has ended. Ctrl-C ends the waiting and not the request."""
    try:
        with progress.progress_line() as show:
            return _watch(settings, database, caller, task_id, show)
    except KeyboardInterrupt:
        click.echo(
            f"Request {task_id} goes on; look by `datamgr perms show {task_id}`, "
            f"stop it by `datamgr perms cancel {task_id}`.",
            err=True,
        )
        raise


def _watch(
    settings: Settings,
    database: Database,
    caller: Caller,
    task_id: int,
    show: Callable[[str], None],
) -> dict[str, Any]:
    begin, warned = time.monotonic(), False
    first: tuple[float, int] | None = None
    while True:
        with database.transaction(read_only=True) as session:
            row = queries.show(session, settings, caller, task_id)
            if row["state"] not in UNFINISHED:
                return row
            idle = row["state"] == State.QUEUED and not queries.worker_runs(session)
        now = time.monotonic()
        if idle and not warned and now - begin > PATIENCE_S:
            warned = True
            click.echo(
                "No worker carries out requests now: this waits until somebody starts "
                "`datamgr perms worker`.",
                err=True,
            )
        if row["state"] != State.QUEUED and first is None:
            first = now, row["progress"]["done"] if row["progress"] else 0
        show(_line(row, first, now))
        time.sleep(LOOK_S)


def _line(row: dict[str, Any], first: tuple[float, int] | None, now: float) -> str:
    if first is None or row["progress"] is None:
        ahead = f", {row['ahead']} of the project before it" if row["ahead"] else ""
        return f"request {row['id']} is {row['state']}{ahead}"
    begin, seen_before = first
    seen = row["progress"]["done"]
    rate = (seen - seen_before) / max(now - begin, LOOK_S)
    return (
        f"request {row['id']}: {units.format_count(seen)} entries seen, "
        f"{row['progress']['message']}, {units.format_count(int(rate))}/s"
    )
