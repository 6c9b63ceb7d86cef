"""`datamgr perms`: permission requests, from asking to undoing, and the processes behind them."""

import importlib

import click

from datamgr import tasks
from datamgr.cli import options, output
from datamgr.config import Settings
from datamgr.display import Row
from datamgr.tasks import State
from pitoolbox import follow_cli, issues_cli, listing_cli, queries, submit_cli, wording
from pitoolbox.issues_cli import reading, request_id

# Processes of their own, imported when they are started.
DAEMONS = {
    "worker": "pitoolbox.worker:command",
    "lister": "pitoolbox.lister:command",
}

_STATES = click.Choice([str(state) for state in State])


class _Perms(click.Group):
    """A group with the processes among its commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of a request's life."""
        return [*self.commands, *DAEMONS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a process; anything else is here."""
        if cmd_name in DAEMONS:
            module, _, name = DAEMONS[cmd_name].partition(":")
            command: click.Command = getattr(importlib.import_module(module), name)
            return command
        return super().get_command(ctx, cmd_name)


@click.group(cls=_Perms)
def perms() -> None:
    """Put right who may use what in a project: group, mode and owner, without a ticket.

    For the PIs of a project, those who act for them, and staff. A request is previewed,
    submitted, watched, and can be undone; everything is on record. `datamgr perms worker`
    carries requests out.
    """


@click.command(name="list")
@click.option("--project", metavar="P", help="Only requests of this project.")
@click.option("--state", "states", type=_STATES, multiple=True, help="Only this; repeatable.")
@click.option("--unfinished", is_flag=True, help="Only those that have not ended.")
@click.option(
    "--limit", default=50, show_default=True, type=click.IntRange(min=1), help="At most so many."
)
@options.as_json
@options.pass_settings
def list_(
    settings: Settings,
    *,
    project: str | None,
    states: tuple[str, ...],
    unfinished: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List requests, newest first.

    Your own, and all of the projects that you act for.

    \b
    Examples:
      datamgr perms list --unfinished
      datamgr perms list --project cosmo --state partial --state failed
    """
    wanted = [State(state) for state in states] or (tasks.UNFINISHED if unfinished else State)
    with reading(settings) as (session, caller):
        rows = queries.list_requests(
            session, settings, caller, project=project, states=tuple(wanted), limit=limit
        )
    if as_json:
        output.emit("perms.list", rows)
        return
    shown = [row | {"what": _what(row), "how": _how(row)} for row in rows]
    columns = [
        output.count("id", "request"),
        output.text("project", "project"),
        output.text("what", "what"),
        output.text("requester", "by"),
        output.time("created_at", "submitted"),
        output.text("state", "state"),
        output.text("how", ""),
    ]
    output.table("Requests", columns, shown, empty="none")


@click.command()
@request_id
@options.as_json
@options.pass_settings
def show(settings: Settings, task_id: int, as_json: bool) -> None:
    """Show everything about request ID."""
    with reading(settings) as (session, caller):
        row = queries.show(session, settings, caller, task_id)
    if as_json:
        output.emit("perms.show", [row])
        return
    output.details(f"Request {task_id}", _DETAILS, row | {"what": wording.action(row)})
    click.echo()
    submit_cli.show_result(row)


for _command in (
    submit_cli.submit,
    submit_cli.preview,
    list_,
    show,
    issues_cli.errors,
    follow_cli.cancel,
    follow_cli.undo,
    follow_cli.retry,
    listing_cli.ls,
):
    perms.add_command(_command)


def _progress(value: Row | None) -> str:
    return "-" if value is None else f"{value['done']} {value['unit']}, {value['message']}"


def _what(row: Row) -> str:
    return ("preview of " if row["dry_run"] else "") + wording.action(row)


def _how(row: Row) -> str:
    """The outcome in a few words."""
    if row["error"] is not None:
        return str(row["error"])
    if row["changed"] is None:
        return str(row["progress"]["message"]) if row["progress"] else ""
    return f"{row['changed']} changed, {row['skipped']} skipped, {row['failed']} failed"


_DETAILS = [
    output.text("project", "project"),
    output.text("what", "what"),
    output.Column("paths", "paths", lambda paths: ", ".join(map(output.printable, paths[:20]))),
    output.text("requester", "requester"),
    output.text("client", "from"),
    output.Column("recursive", "recursive", lambda value: "yes" if value else "no"),
    output.text("max_depth", "depth"),
    output.text("only", "only"),
    output.Column("override", "override by staff", lambda value: "yes" if value else "no"),
    output.Column("ahead", "waits for", str),
    output.Column("progress", "progress", _progress),
    output.time("created_at", "submitted"),
    output.time("started_at", "started"),
    output.time("finished_at", "ended"),
    output.Column("undone_by", "undone by", lambda ids: ", ".join(map(str, ids)) or "-"),
    output.Column("retried_by", "retried by", lambda ids: ", ".join(map(str, ids)) or "-"),
]
