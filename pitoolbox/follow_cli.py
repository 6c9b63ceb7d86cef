"""`datamgr perms cancel`, `undo` and `retry`: what follows a request that was made."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from datamgr import db, identity
from datamgr.cli import options, output
from datamgr.config import Settings
from datamgr.tasks import State, Task
from pitoolbox import queries, submission, submit_cli, waiting
from pitoolbox.issues_cli import request_id

F = TypeVar("F", bound=Callable[..., Any])


@click.command()
@request_id
@options.as_json
@options.pass_settings
def cancel(settings: Settings, task_id: int, as_json: bool) -> None:
    """Cancel request ID.

    A queued one is cancelled at once, a running one within a second. What it has changed until
    then stays changed; `datamgr perms undo ID` takes that back. Only the requester and staff
    may cancel it.
    """
    caller = identity.current(settings)
    with db.open_database(settings) as database:
        with database.transaction() as session:
            submission.cancel(session, caller, task_id, client=submit_cli.client())
        with database.transaction(read_only=True) as session:
            row = queries.show(session, settings, caller, task_id)
    if as_json:
        output.emit("perms.cancel", [row])
    elif row["state"] == State.CANCELLED:
        click.echo(f"Request {task_id} is cancelled.")
    else:
        click.echo(f"Request {task_id} is asked to stop; see `datamgr perms show {task_id}`.")


def _follow_up(command: F) -> F:
    for option in (
        options.as_json,
        submit_cli.wait_option,
        submit_cli.notify_option,
        submit_cli.override_option,
        click.option(
            "--dry-run", is_flag=True, help="Only say what would be changed; waits for it."
        ),
        request_id,
    ):
        command = option(command)
    return command


@click.command()
@_follow_up
@options.pass_settings
@click.pass_context
def undo(ctx: click.Context, settings: Settings, /, **asked: Any) -> None:
    """Take back what request ID changed.

    That is a request of its own, which goes the latest first. An entry is set back if it is as
    the request left it; what was changed by others since, was removed or was replaced is left
    alone and named by `datamgr perms errors`. Set-id bits and capabilities of programs are
    never given back. Exit codes are those of `submit`.

    \b
    Examples:
      datamgr perms undo 12 --dry-run
      datamgr perms undo 12 --wait
    """
    _queue(ctx, settings, submission.undo, "perms.undo", **asked)


@click.command()
@_follow_up
@options.pass_settings
@click.pass_context
def retry(ctx: click.Context, settings: Settings, /, **asked: Any) -> None:
    """Ask again for what failed in request ID.

    What went well is left alone, and what was skipped by policy is not tried again. Exit codes
    are those of `submit`.
    """
    _queue(ctx, settings, submission.retry, "perms.retry", **asked)


def _queue(
    ctx: click.Context,
    settings: Settings,
    queue: Callable[..., Task],
    schema: str,
    **asked: Any,
) -> None:
    dry_run = asked["dry_run"]
    notify = settings.pitoolbox.notify if asked["notify"] is None else asked["notify"]
    how = {
        "dry_run": dry_run,
        "override": asked["override"],
        "notify": notify and not dry_run,
        "client": submit_cli.client(),
    }
    wait = asked["wait"] or dry_run
    caller = identity.current(settings)
    with db.open_database(settings) as database:
        with database.transaction() as session:
            task_id = queue(session, settings, caller, asked["task_id"], **how).id
        if wait:
            row = waiting.wait(settings, database, caller, task_id)
        else:
            with database.transaction(read_only=True) as session:
                row = queries.show(session, settings, caller, task_id)
    submit_cli.finish(ctx, schema, row, wait=wait, as_json=asked["as_json"])
