"""`datamgr task`: the queue of long work."""

import json
from collections.abc import Mapping
from typing import Any

import click

from datamgr import db, identity, tasks, units
from datamgr.cli import options, output
from datamgr.config import Settings
from datamgr.tasks import State, Task

_STATES = click.Choice([str(state) for state in State])


@click.group()
def task() -> None:
    """The queue of long work: scans, transfers, changes of permissions.

    A task belongs to a key, such as a file system or a project; the tasks of a key run one
    after the other in the order of their submission. `datamgr worker` carries them out.

    \b
    States: queued, running, cancelling (asked to stop), then
      succeeded, partial (not everything could be done), failed, cancelled
    """


@task.command(name="list")
@click.option("--state", "states", type=_STATES, multiple=True, help="Only this; repeatable.")
@click.option("--kind", metavar="KIND", help="Only tasks of this kind, such as scan.")
@click.option("--all", "everything", is_flag=True, help="Also tasks that have ended.")
@click.option(
    "--limit", default=100, show_default=True, type=click.IntRange(min=1), help="At most so many."
)
@options.as_json
@options.pass_settings
def list_(
    settings: Settings,
    states: tuple[str, ...],
    kind: str | None,
    everything: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List tasks, newest first; by default those that have not ended.

    \b
    Examples:
      datamgr task list
      datamgr task list --all --kind scan --limit 10
      datamgr task list --state failed --state partial
    """
    unrestricted = State if everything else tasks.UNFINISHED
    wanted = [State(state) for state in states] or list(unrestricted)
    with db.open_database(settings) as database, database.transaction(read_only=True) as session:
        found = tasks.list_tasks(session, states=wanted, kind=kind, limit=limit)
        rows = [_row(each) for each in found]
    if as_json:
        output.emit("task.list", rows)
        return
    output.table(
        "Tasks",
        [
            output.count("id", "task"),
            output.text("kind", "kind"),
            output.text("key", "key"),
            output.text("owner", "owner"),
            output.text("state", "state"),
            output.Column("progress", "progress", _progress_text),
            output.time("created_at", "submitted"),
        ],
        rows,
        empty="none; --all shows those that have ended" if not (everything or states) else "none",
    )


@task.command()
@click.argument("task_id", metavar="ID", type=int)
@options.as_json
@options.pass_settings
def show(settings: Settings, task_id: int, as_json: bool) -> None:
    """Show everything about one task: parameters, progress, result, error, times."""
    with db.open_database(settings) as database, database.transaction(read_only=True) as session:
        row = _row(tasks.get(session, task_id))
    if as_json:
        output.emit("task.show", [row])
        return
    output.details(
        f"Task {task_id}",
        [
            output.text("kind", "kind"),
            output.text("key", "key"),
            output.text("owner", "owner"),
            output.text("state", "state"),
            output.text("error", "error"),
            output.Column("progress", "progress", _progress_text),
            output.Column("params", "parameters", _json_text),
            output.Column("result", "result", _json_text),
            output.text("worker", "worker"),
            output.count("attempts", "workers that died"),
            output.time("created_at", "submitted"),
            output.time("started_at", "started"),
            output.time("heartbeat_at", "last sign of life"),
            output.time("finished_at", "ended"),
        ],
        row,
    )


@task.command()
@click.argument("task_id", metavar="ID", type=int)
@options.as_json
@options.pass_settings
def cancel(settings: Settings, task_id: int, as_json: bool) -> None:
    """Cancel a task: a queued one at once, a running one at its next step.

    What a running task has done until then stays done. Only its owner and staff may cancel it.
    """
    caller = identity.current(settings)
    with db.open_database(settings) as database, database.transaction() as session:
        row = _row(tasks.cancel(session, caller, task_id))
    if as_json:
        output.emit("task.cancel", [row])
    elif row["state"] == State.CANCELLED:
        click.echo(f"Task {task_id} is cancelled.")
    else:
        click.echo(f"Task {task_id} is asked to stop; see `datamgr task show {task_id}`.")


def _row(shown: Task) -> dict[str, Any]:
    return {column.name: getattr(shown, column.name) for column in Task.__table__.columns}


def _progress_text(progress: Mapping[str, Any] | None) -> str:
    if progress is None:
        return "-"
    done, total = progress["done"], progress["total"]
    counted = units.format_count(done)
    if total is not None:
        counted = f"{counted} of {units.format_count(total)}"
        if total:
            counted = f"{units.format_percent(done, total)}, {counted}"
    words = [counted, progress["unit"], f"({progress['message']})" if progress["message"] else ""]
    return output.printable(" ".join(word for word in words if word))


def _json_text(value: Mapping[str, Any] | None) -> str:
    return "-" if value is None else json.dumps(value)
