"""The `ghi` commands that ask for something to be done to files."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import click

from datamgr.cli import options, output
from datamgr.cli.progress import progress_line
from datamgr.errors import UnavailableError
from tiering import client, path_lists, places, status_cli
from tiering.client import Client
from tiering.path_lists import listed, portions
from tiering.places import Place
from tiering.questions import Action

NOT_ALL_DONE = 8  # the exit code of a request that was waited for and is not done for all

F = TypeVar("F", bound=Callable[..., Any])


def _selection(command: F) -> F:
    for option in (
        options.as_json,
        click.option(
            "--wait/--no-wait", "wait", default=True,
            help="Wait until it is done and show how far it is (default), or print the number of "
            "the request at once.",
        ),
        path_lists.null,
        path_lists.files_from("Also the paths in this file, one a line; `-` is standard input."),
        click.option("--recursive", "-R", is_flag=True, help="Also everything below directories."),
        click.argument("paths", nargs=-1, type=options.PATH, metavar="[PATH]..."),
    ):  # fmt: skip
        command = option(command)
    return command


unguarded_option = click.option(
    "--unguarded", is_flag=True,
    help="Make stubs that nothing guards: they have no permissions, so that only root can read "
    "the zeros in them.",
)  # fmt: skip


@click.command()
@_selection
@click.option("--punch", is_flag=True, help="Then free the disk space, as `ghi punch` does.")
@unguarded_option
@options.pass_config_path
@click.pass_context
def put(ctx: click.Context, config_path: str | None, /, **asked: Any) -> None:
    """Copy files into the archive.

    Files that the archive has already as they are on disk are left alone. Each copy is read back
    and compared before it counts. Small files are bundled; directories, links and all attributes
    go along, so that `tar xf` alone restores them.

    \b
    Examples:
      ghi put -R run42
      ghi put -R --no-wait run42          returns at once; see `ghi status`
      datamgr find --older-than 1y --null | ghi put -0 -f - --punch --unguarded

    Exit code: 0 if all is done, 8 if a file could not be done, which is named.
    """
    _request(ctx, config_path, Action.PUT, **asked)


@click.command()
@_selection
@click.option("-t", "seconds", type=int, help="`-t 0` is --no-wait.")
@options.pass_config_path
@click.pass_context
def stage(
    ctx: click.Context, config_path: str | None, /, *, seconds: int | None, **asked: Any
) -> None:
    """Bring files back to disk, in the order in which the archive holds them.

    Each is compared with its checksum before anybody can read it. Files that are on disk already
    are left alone.

    \b
    Examples:
      ghi stage -R run42/results
      ghi stage -t 0 -f list
    """
    if seconds is not None:
        asked["wait"] = seconds != 0
    _request(ctx, config_path, Action.STAGE, **asked)


@click.command()
@_selection
@unguarded_option
@options.pass_config_path
@click.pass_context
def punch(ctx: click.Context, config_path: str | None, /, **asked: Any) -> None:
    """Free the disk space of files that the archive has.

    For the owner of a file, PIs of its project and staff. A file is left as it is if it changed
    since it was put, is pinned, or somebody has it open.

    \b
    Example:
      ghi punch -R --unguarded run42
    """
    _request(ctx, config_path, Action.PUNCH, **asked)


@click.command()
@_selection
@click.option("--for", "span", type=options.SPAN, metavar="TIME", help="Such as 30d (default).")
@click.option(
    "--until", type=click.DateTime(["%Y-%m-%d"]), metavar="DATE",
    help="A day (UTC), such as 2027-01-31.",
)  # fmt: skip
@options.pass_config_path
@click.pass_context
def pin(
    ctx: click.Context,
    config_path: str | None,
    /,
    *,
    span: int | None,
    until: datetime | None,
    **asked: Any,
) -> None:
    """Keep files on disk: they are not punched until a time.

    \b
    Examples:
      ghi pin -R --for 30d run42
      ghi pin --until 2027-01-31 run42/table.h5
    """
    if span is not None and until is not None:
        raise click.UsageError("--for and --until exclude each other")
    if until is None:
        until = datetime.now(UTC) + timedelta(seconds=span or 30 * 86_400)
    asked["until"] = until.replace(tzinfo=UTC).isoformat()
    _request(ctx, config_path, Action.PIN, **asked)


def _simple(action: Action, text: str) -> click.Command:
    @click.command(name=str(action), help=text)
    @_selection
    @options.pass_config_path
    @click.pass_context
    def command(ctx: click.Context, config_path: str | None, /, **asked: Any) -> None:
        _request(ctx, config_path, action, **asked)

    return command


unpin = _simple(Action.UNPIN, "Let pinned files be punched again.")
lock = _simple(
    Action.LOCK,
    """Make files immutable: nobody can write, rename or remove them.

    For the owner of a file, PIs of its project and staff. They can be put, punched and staged, and
    stay locked.
    """,
)
unlock = _simple(Action.UNLOCK, "Let locked files be changed again.")
verify = _simple(
    Action.VERIFY,
    """Read the archived copies of files and compare their checksums.

    Nothing is changed, and nothing is written to disk.
    """,
)
undelete = _simple(
    Action.UNDELETE,
    """Bring removed files back to where they were.

    Of each PATH, the newest file that was removed from there; with -R all that was removed below
    it. Their directory has to be there, and what has their name now is left alone. For the owner,
    PIs of the project and staff.
    """,
)


def _request(  # noqa: PLR0913
    ctx: click.Context,
    config_path: str | None,
    action: Action,
    *,
    paths: Sequence[bytes],
    files_from: Any,
    null: bool,
    wait: bool,
    as_json: bool,
    **how: Any,
) -> None:
    given = [*paths, *listed(files_from, null=null)]
    if not given:
        raise click.UsageError("name at least one path, or a list of them by -f")
    rows = []
    with client.connect(config_path) as service:
        if not wait and not service.is_daemon:
            raise UnavailableError(
                "no daemon runs that would go on with it; leave out --no-wait, or start "
                "`datamgr tier daemon`"
            )
        roots = [Place(r["name"], r["path"].encode("latin-1")) for r in service.ask("roots")]
        for place, found in places.sort_by_root(roots, given).items():
            for portion in portions(relative for _, relative in found):
                row = service.ask(
                    "submit",
                    request={"root": place.name, "action": action, **how},
                    paths=[path.decode("latin-1") for path in portion],
                )
                if not as_json and not wait:
                    click.echo(f"request {row['id']}")
                rows.append(row)
        if wait:
            rows = [_wait(service, row["id"]) for row in rows]
    _show(ctx, f"ghi.{action}", rows, wait=wait, as_json=as_json)


def _wait(service: Client, request: int) -> dict[str, Any]:
    try:
        with progress_line() as show:
            row: dict[str, Any] = client.follow(service, request, status_cli.shower(show))
            return row
    except KeyboardInterrupt:
        if service.is_daemon:
            click.echo(
                f"Request {request} goes on; look by `ghi status {request}`, stop it by "
                f"`ghi cancel {request}`.",
                err=True,
            )
        raise


def _show(
    ctx: click.Context,
    schema: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    wait: bool,
    as_json: bool,
) -> None:
    if as_json:
        output.emit(schema, [status_cli.decoded(row) for row in rows])
    elif wait:
        for row in rows:
            status_cli.show_outcome(row)
    if wait and any(row["state"] != "succeeded" for row in rows):
        ctx.exit(NOT_ALL_DONE)
