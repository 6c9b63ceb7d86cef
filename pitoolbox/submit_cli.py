"""`datamgr perms submit` and `preview`: asking for a change, or for what it would be."""

import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from datamgr import db, identity
from datamgr.cli import options, output
from datamgr.config import Settings
from datamgr.tasks import State
from pitoolbox import queries, submission, waiting, wording
from pitoolbox.requests import Action, ActionKind, Request

F = TypeVar("F", bound=Callable[..., Any])

NOT_ALL_DONE = 8  # the exit code of a request that was waited for and is not done for all

_ARGUMENTS = {ActionKind.CHGRP: "group", ActionKind.CHMOD: "mode", ActionKind.CHOWN: "user"}

notify_option = click.option(
    "--notify/--no-notify", default=None,
    help="Send mail when it has ended; default is the setting pitoolbox.notify.",
)  # fmt: skip
wait_option = click.option(
    "--wait", is_flag=True, help="Wait until it has ended, and show its progress."
)
override_option = click.option(
    "--override", is_flag=True,
    help="For staff: change also what others own and what has hard links. Audited.",
)  # fmt: skip


def _selection(command: F) -> F:
    for option in (
        options.as_json,
        override_option,
        click.option("--directories-only", is_flag=True, help="Change directories alone."),
        click.option("--files-only", is_flag=True, help="Change all but directories."),
        click.option(
            "--max-depth", type=click.IntRange(0, 2**31), metavar="N",
            help="With --recursive, at most so many levels below a PATH; 0 is the PATH alone.",
        ),
        click.option(
            "--recursive", "-r", is_flag=True, help="Also everything below; `share` always does."
        ),
        click.option("--project", required=True, metavar="P", help="The project."),
        click.argument("arguments", nargs=-1, type=options.PATH, metavar="[ARGUMENT] PATH..."),
        click.argument("action", type=click.Choice([str(kind) for kind in ActionKind])),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command()
@_selection
@notify_option
@wait_option
@options.pass_settings
@click.pass_context
def submit(
    ctx: click.Context,
    settings: Settings,
    /,
    *,
    notify: bool | None,
    wait: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    """Ask for a change of group, mode or owner.

    For projects of which you are PI or proxy.

    \b
    datamgr perms submit --project P [OPTIONS] chgrp GROUP PATH...
    datamgr perms submit --project P [OPTIONS] chmod MODE PATH...
    datamgr perms submit --project P [OPTIONS] chown USER PATH...
    datamgr perms submit --project P [OPTIONS] share [PATH...]

    A PATH is absolute, or relative to the project's directory; `.` is that directory. Symbolic
    links are changed themselves and never followed. GROUP is one of the project and USER
    belongs to it. MODE is about the group alone: g+rX, g=rx, g-w, g+s (directories), or its
    digit, 5 or 050. `share` gives everything below PATH (or in the project) to the project's
    group, lets it read, and makes directories hand the group on (setgid).

    Requests of a project are carried out one after the other. What belongs to nobody of the
    project, has hard links, or is a set-id program or a device is skipped and named by
    `datamgr perms errors`. `datamgr perms preview` says beforehand what would change, and
    `datamgr perms undo` takes a request back.

    \b
    Examples:
      datamgr perms submit --project cosmo share --wait
      datamgr perms submit --project cosmo -r chmod g+rX,g-w data/2024
      datamgr perms submit --project cosmo --files-only -r chgrp cosmo-web /cfs/cosmo/www

    Exit code with --wait: 0 if all was done, 8 if something was skipped or failed or it was
    cancelled, 130 if the waiting was interrupted; the request goes on then.
    """
    told = settings.pitoolbox.notify if notify is None else notify
    row = _ask(settings, wait=wait, notify=told, **asked)
    finish(ctx, "perms.submit", row, wait=wait, as_json=as_json)


@click.command()
@_selection
@options.pass_settings
@click.pass_context
def preview(ctx: click.Context, settings: Settings, /, *, as_json: bool, **asked: Any) -> None:
    """Say what a request would change.

    It takes the arguments of `datamgr perms submit`. Nothing is changed. It goes through the
    tree as the request would, after the requests of the project that wait before it, and shows
    how many entries would change, a sample of them, and what would be skipped and why.

    \b
    Examples:
      datamgr perms preview --project cosmo share
      datamgr perms preview --project cosmo -r chgrp cosmo-web www --json
    """
    row = _ask(settings, wait=True, dry_run=True, **asked)
    finish(ctx, "perms.preview", row, wait=True, as_json=as_json)


def client() -> str:
    """From where a request comes, for the audit."""
    return f"command line on {socket.gethostname()}"


def finish(
    ctx: click.Context, schema: str, row: dict[str, Any], *, wait: bool, as_json: bool
) -> None:
    """Show a request that was queued or waited for, and end with its exit code."""
    if as_json:
        output.emit(schema, [row])
    elif wait:
        show_result(row)
    else:
        click.echo(f"Request {row['id']} is queued ({wording.action(row)}).")
        if row["ahead"]:
            click.echo(f"{row['ahead']} of the project come before it.")
        click.echo(f"See `datamgr perms show {row['id']}`.")
    if wait and row["state"] != State.SUCCEEDED:
        ctx.exit(NOT_ALL_DONE)


def show_result(row: dict[str, Any]) -> None:
    """Print how a request is: the numbers, the reasons, a sample."""
    click.echo(wording.headline(row))
    if row["error"] is not None:
        click.echo(f"  {output.printable(row['error'])}")
    result = row["result"]
    if result is None:
        return
    for line in wording.numbers(result, would=row["dry_run"]):
        click.echo(line)
    click.echo()
    if result["sample"]:
        shown = [{"path": s["path"], "change": wording.difference(s)} for s in result["sample"]]
        columns = [output.text("path", "path"), output.text("change", "change")]
        title = "Such as" if len(shown) < result["changed"] else "All of them"
        output.table(title, columns, shown)
    if result["issue_sample"]:
        columns = [
            output.text("path", "path"), output.text("kind", ""), output.text("reason", "because"),
        ]  # fmt: skip
        output.table("Left alone", columns, result["issue_sample"])
        if not row["dry_run"]:
            click.echo(f"All of these: datamgr perms errors {row['id']}")


def _ask(settings: Settings, *, wait: bool, **asked: Any) -> dict[str, Any]:
    """Submit what was asked for; the row of the request, at its end if that is waited for."""
    kind = ActionKind(asked["action"])
    action, given = _split(kind, asked["arguments"])
    if asked["files_only"] and asked["directories_only"]:
        raise click.UsageError("--files-only and --directories-only exclude each other")
    only = "files" if asked["files_only"] else "directories" if asked["directories_only"] else None
    caller = identity.current(settings)
    with db.open_database(settings) as database:
        with database.transaction() as session:
            paths = submission.select(session, settings, caller, asked["project"], given)
            request = Request(
                project=asked["project"],
                action=action,
                paths=paths,
                recursive=asked["recursive"] or kind is ActionKind.SHARE,
                max_depth=asked["max_depth"],
                only=only,  # type: ignore[arg-type]
                override=asked["override"],
                dry_run=asked.get("dry_run", False),
                client=client(),
                notify=asked.get("notify", False),
            )
            task_id = submission.submit(session, settings, caller, request).id
        if wait:
            return waiting.wait(settings, database, caller, task_id)
        with database.transaction(read_only=True) as session:
            return queries.show(session, settings, caller, task_id)


def _split(kind: ActionKind, arguments: Sequence[bytes]) -> tuple[Action, Sequence[bytes]]:
    """The action with its argument, and the paths."""
    if kind is ActionKind.SHARE:
        return Action(kind), arguments or (b".",)
    name = _ARGUMENTS[kind]
    if not arguments:
        raise click.UsageError(f"{kind} takes a {name.upper()} and paths")
    return Action(kind, **{name: os.fsdecode(arguments[0])}), arguments[1:]
