"""`datamgr perms ls`: what is in a directory of a project."""

import base64
import binascii
import stat
from typing import Any

import click

from datamgr.cli import options, output
from datamgr.config import Settings
from datamgr.errors import InvalidError
from pitoolbox import directory, listing
from pitoolbox.issues_cli import reading
from pitoolbox.listing import Entry, Listing

_KINDS = {
    "f": stat.S_IFREG,
    "d": stat.S_IFDIR,
    "l": stat.S_IFLNK,
    "p": stat.S_IFIFO,
    "s": stat.S_IFSOCK,
    "b": stat.S_IFBLK,
    "c": stat.S_IFCHR,
    "mount": stat.S_IFDIR,
}


@click.command()
@click.argument("project", metavar="PROJECT")
@click.argument("path", type=options.PATH, default=b".", required=False)
@click.option("--sort", type=click.Choice(directory.SORTS), default="name", show_default=True)
@click.option(
    "--limit",
    type=click.IntRange(1, directory.MAX_LIMIT),
    default=200,
    show_default=True,
    help="Entries of a page.",
)
@click.option("--after", metavar="WHERE", help="The next page: what the last one ended with.")
@options.as_json
@options.pass_settings
def ls(
    settings: Settings,
    *,
    project: str,
    path: bytes,
    sort: str,
    limit: int,
    after: str | None,
    as_json: bool,
) -> None:
    """List the directory PATH of PROJECT, as it is now.

    Also what only others may read, for the PIs, those who act for them, and staff: the lister
    (`datamgr perms lister`) reads it, and where it runs as root it answers root and the account of
    the web pages alone. PATH is absolute or relative to the project. Symbolic links are shown and
    never followed; a + behind the mode stands for an access control list.

    \b
    Examples:
      datamgr perms ls cosmo
      datamgr perms ls cosmo runs/2026 --sort size --limit 20
    """
    with reading(settings) as (session, caller):
        found = listing.list_directory(
            settings, session, caller, project, path, after=_parse(after), limit=limit, sort=sort
        )
    following = None if found.after is None else _shown(found.after)
    rows = [_row(entry) for entry in found.entries]
    if as_json:
        output.emit(
            "perms.ls",
            rows,
            project=project,
            path=found.path,
            here=_row(found.here),
            after=following,
            read=found.read,
            capped=found.capped,
            is_privileged=found.is_privileged,
        )
        return
    columns = [
        output.text("shown_mode", "mode"),
        output.text("owner", "owner"),
        output.text("group", "group"),
        output.size("size_bytes", "size"),
        output.time("mtime", "changed"),
        output.text("shown_name", "name"),
    ]
    where = output.printable(found.path)
    whose = output.printable(f"{found.here.owner} {found.here.group}")
    title = f"{where} in {output.printable(project)}: {shown_mode(found.here)} {whose}"
    shown = [row | _for_people(e) for row, e in zip(rows, found.entries, strict=True)]
    output.table(title, columns, shown, empty="empty")
    _say_what_is_missing(found, following)


def _say_what_is_missing(found: Listing, following: str | None) -> None:
    if following is not None:
        click.echo(f"There is more: --after {following}")
    if found.capped is not None:
        click.echo(f"Not all: {found.capped}.")
    if not found.is_privileged:
        click.echo("The lister runs without privileges and sees what its account may read.")


def _row(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "kind": entry.kind,
        "uid": entry.uid,
        "gid": entry.gid,
        "owner": entry.owner,
        "group": entry.group,
        "mode": f"{entry.mode:04o}",
        "size_bytes": entry.size_bytes,
        "mtime": entry.mtime,
        "has_acl": entry.has_acl,
        "is_setgid": entry.is_setgid,
        "target": entry.target,
    }


def _for_people(entry: Entry) -> dict[str, str]:
    name = output.printable(entry.name)
    if entry.target is not None:
        name = f"{name} -> {output.printable(entry.target)}"
    if entry.kind == "mount":
        name = f"{name} (something is mounted there)"
    return {"shown_name": name, "shown_mode": shown_mode(entry)}


def shown_mode(entry: Entry) -> str:
    """As ls(1) writes it."""
    return stat.filemode(_KINDS.get(entry.kind, 0) | entry.mode) + "+" * entry.has_acl


def _shown(after: bytes) -> str:
    """A place to go on from that can be typed, whatever bytes the names have."""
    return base64.urlsafe_b64encode(after).decode().rstrip("=")


def _parse(after: str | None) -> bytes | None:
    if after is None:
        return None
    try:
        return base64.b64decode(after + "=" * (-len(after) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise InvalidError(
            f"{output.printable(after)!r} is not what a page of `datamgr perms ls` ended with"
        ) from None
