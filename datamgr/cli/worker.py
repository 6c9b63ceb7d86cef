"""`datamgr worker`: the process that carries out queued tasks."""

import click

from datamgr import db, logs
from datamgr import worker as working
from datamgr.cli import options
from datamgr.config import Settings


@click.command()
@click.option("--once", is_flag=True, help="Run what is queued, then exit.")
@click.option(
    "--kind", "kinds", metavar="KIND", multiple=True, help="Only tasks of this kind; repeatable."
)
@options.pass_settings
@click.pass_context
def worker(ctx: click.Context, settings: Settings, once: bool, kinds: tuple[str, ...]) -> None:
    """Carry out queued tasks, one at a time, until it is stopped.

    Tasks of one key (a project, a file system) run strictly in the order they were submitted;
    the oldest that may run comes first. Start as many workers as should run at once: no task is
    run by two, and the tasks of a worker that dies are run again by the others.

    SIGTERM or Ctrl-C stops cleanly: the running task goes back to its place in the queue at its
    next step, and the exit code is 0. A second Ctrl-C stops at once. The log is JSON lines on
    standard error.

    \b
    Examples:
      datamgr worker                  until stopped, as a service
      datamgr worker --once           from cron: what is queued now
      datamgr worker --kind scan      leave the other kinds to other workers
    """
    known = working.known_kinds(kinds)
    logs.configure_logging(daemon=True, verbose=ctx.ensure_object(dict).get("verbose", False))
    with db.open_database(settings) as database:
        working.run(working.Worker(settings, database, known), once=once)
