"""`datamgr usage`: who and what uses the space and the inodes."""

import os
from datetime import UTC, datetime

import click

from datamgr.cli import options, output
from datamgr.config import Settings
from datamgr.units import format_time
from scanners import files_cli, leaders, queries, trend_cli, visibility
from scanners import growth as growing
from scanners.queries import Row, Selection

in_filesystem = click.option(
    "--filesystem", metavar="FS", help="Only this file system; default all that were scanned."
)
of_project = click.option("--project", metavar="NAME", help="Only this project.")
of_user = click.option("--user", metavar="USER", help="Only what this account owns.")

PROJECT_COLUMNS = [
    output.text("project", "project"),
    output.size("size_bytes", "size"),
    output.size("alloc_bytes", "on disk"),
    output.size("quota_bytes", "quota"),
    output.percent("bytes_percent", "% of quota"),
    output.count("inodes", "inodes"),
    output.count("quota_inodes", "inode quota"),
    output.percent("inodes_percent", "% of inodes"),
    output.size("alloc_all_bytes", "all links"),
]


class UsageGroup(click.Group):
    """`datamgr usage PROJECT` beside `datamgr usage top`: an unknown word is a project."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Hand words that are no subcommand to `projects`."""
        if args and self.get_command(ctx, args[0]) is None:
            return "projects", projects, args
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """`datamgr usage` alone, or with options only, shows the projects."""
        if not args or (args[0].startswith("-") and args[0] not in ("-h", "--help")):
            args = ["projects", *args]
        return super().parse_args(ctx, args)


@click.group(cls=UsageGroup, subcommand_metavar="[PROJECT] | COMMAND [ARGS]...")
def usage() -> None:
    """Who and what uses the space and the inodes, from the newest scans.

    \b
    datamgr usage                     all projects against their quotas
    datamgr usage cosmo --by user     one project by user
    datamgr usage top --files 20      the biggest files

    "size" is what files say they hold, "on disk" the blocks they and their directories take,
    which is what quotas count. Hard links count once; "all links" counts each of them.
    """


usage.add_command(trend_cli.trend_)
usage.add_command(trend_cli.reconcile_)
usage.add_command(files_cli.duplicates)
usage.add_command(files_cli.export)


@usage.command()
@click.argument("project", required=False)
@click.option(
    "--by", "owner", type=click.Choice(["user", "group"]), help="Split by user or unix group."
)
@in_filesystem
@options.as_json
@options.pass_settings
def projects(
    settings: Settings,
    project: str | None,
    owner: str | None,
    filesystem: str | None,
    as_json: bool,
) -> None:
    """Projects against their quotas, biggest first; or one, or a split by its users or groups.

    Write `datamgr usage projects NAME` for a project that is named like a subcommand.
    """
    selection = Selection(filesystem, project)
    with visibility.reading(settings) as (session, visible):
        if owner is None:
            rows = queries.projects(session, visible, selection)
        else:
            rows = queries.by_owner(session, visible, selection, owner)
        scanned = queries.scanned(session, selection)
    if as_json:
        schema = "usage.projects" if owner is None else f"usage.by_{owner}"
        output.emit(schema, rows, project=project, scans=scanned)
        return
    if owner is None:
        show_projects(rows)
    else:
        show_owners(rows, owner, project)
    _footer(scanned)


def show_projects(rows: list[Row]) -> None:
    """Print projects as a table."""
    output.table("Usage by project", PROJECT_COLUMNS, rows)


def show_owners(rows: list[Row], owner: str, project: str | None = None) -> None:
    """Print totals by user or group as a table."""
    columns = [
        output.text(owner, owner),
        output.size("size_bytes", "size"),
        output.size("alloc_bytes", "on disk"),
        output.count("files", "files"),
        output.count("directories", "directories"),
    ]
    output.table(f"Usage by {owner}" + (f" in {project}" if project else ""), columns, rows)


@usage.command()
@click.option("--files", "what", flag_value="files", default=True, help="The biggest files.")
@click.option("--dirs", "what", flag_value="dirs", help="The biggest directories, recursively.")
@click.argument("number", type=click.IntRange(1, 10_000), default=10)
@of_project
@of_user
@in_filesystem
@options.as_json
@options.pass_settings
def top(
    settings: Settings,
    what: str,
    number: int,
    project: str | None,
    user: str | None,
    filesystem: str | None,
    as_json: bool,
) -> None:
    """The NUMBER (default 10) biggest files or directories by space on disk, with their age.

    \b
    datamgr usage top --files 20 --project cosmo
    datamgr usage top --dirs 20 --user ada

    The age of a directory is that of the newest file below it.
    """
    selection = Selection(filesystem, project, user)
    find = leaders.files if what == "files" else leaders.directories
    with visibility.reading(settings) as (session, visible):
        rows = find(session, visible, selection, number)
        scanned = queries.scanned(session, selection)
    if as_json:
        output.emit(f"usage.top_{what}", rows, project=project, user=user, scans=scanned)
        return
    show_top(rows, what)
    _footer(scanned)


def show_top(rows: list[Row], what: str) -> None:
    """Print the biggest files or directories as a table."""
    columns = [
        output.size("alloc_bytes", "on disk"),
        output.size("size_bytes", "size"),
        output.age("atime_age_s", "read"),
        output.age("mtime_age_s", "changed"),
        output.text("user", "user"),
        output.text("project", "project"),
        output.path("path", "path"),
    ]
    if what == "dirs":
        columns.insert(2, output.count("files", "files"))
    title = "Biggest files" if what == "files" else "Biggest directories"
    output.table(title, columns, rows)


@usage.command(name="dir")
@click.argument("path", type=options.PATH)
@in_filesystem
@options.as_json
@options.pass_settings
def dir_(settings: Settings, path: bytes, filesystem: str | None, as_json: bool) -> None:
    """The recursive totals of directory PATH and of the directories in it."""
    absolute = os.path.normpath(os.path.join(os.getcwdb(), path))
    with visibility.reading(settings) as (session, visible):
        parent = queries.directory(session, visible, absolute, filesystem)
        rows = queries.children(session, visible, parent)
        scanned = queries.scanned(session, Selection(filesystem))
    if as_json:
        output.emit("usage.dir", rows, directory=parent, scans=scanned)
        return
    columns = [
        output.size("alloc_bytes", "on disk"),
        output.size("size_bytes", "size"),
        output.count("files", "files"),
        output.count("directories", "directories"),
        output.age("mtime_age_s", "changed"),
        output.text("user", "user"),
        output.text("group", "group"),
        output.path("name", "name"),
    ]
    named = [{**row, "name": os.path.basename(row["path"])} for row in rows]
    own = _files_here(parent, rows)
    output.table(output.printable(absolute), columns, [{**parent, "name": b"."}, *named, *own])
    if parent["error"]:
        click.echo(f"Incomplete: this directory could not be listed ({parent['error']}).")
    _footer(scanned)


def _files_here(parent: Row, rows: list[Row]) -> list[Row]:
    """What is left of the totals for the files directly in the directory, and itself.

    Directories that the reader may not see are in it; they alone could count as directories.
    """
    own = {
        key: parent[key] - sum(row[key] for row in rows)
        for key in ("alloc_bytes", "size_bytes", "files", "directories")
    }
    hidden = own["directories"] > 1
    name = b"(files here and hidden directories)" if hidden else b"(files here)"
    return [{**parent, **own, "mtime_age_s": None, "name": name}] if own["files"] or hidden else []


@usage.command()
@click.option(
    "--basis",
    type=click.Choice(["atime", "mtime", "ctime"]),
    default="mtime",
    show_default=True,
    help="Age since the last read, change of content, or change of anything.",
)
@of_project
@of_user
@in_filesystem
@options.as_json
@options.pass_settings
def age(
    settings: Settings,
    basis: str,
    project: str | None,
    user: str | None,
    filesystem: str | None,
    as_json: bool,
) -> None:
    """Files by age: how much was not read or changed for how long."""
    selection = Selection(filesystem, project, user)
    with visibility.reading(settings) as (session, visible):
        rows = queries.ages_of_files(session, visible, selection, basis)
        scanned = queries.scanned(session, selection)
    if as_json:
        output.emit("usage.age", rows, basis=basis, project=project, user=user, scans=scanned)
        return
    show_ages(rows, basis)
    _footer(scanned)


def show_ages(rows: list[Row], basis: str) -> None:
    """Print the age histogram as a table with bars."""
    most = max((row["alloc_bytes"] for row in rows), default=0) or 1
    shown = [{**row, "bar": "█" * round(30 * row["alloc_bytes"] / most)} for row in rows]
    output.table(
        f"Files by age ({basis})",
        [
            output.text("age", "age"),
            output.count("files", "files"),
            output.size("size_bytes", "size"),
            output.size("alloc_bytes", "on disk"),
            output.Column("bar", ""),
        ],
        shown,
    )


@usage.command()
@click.option(
    "--since", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]), metavar="DATE",
    help="Compare with the last scan up to this date (UTC); default the scan before.",
)  # fmt: skip
@click.option(
    "--by", "what", type=click.Choice(["project", "user", "directory"]), help="Only this."
)
@click.option(
    "--number", "-n", type=click.IntRange(1, 10_000), default=10, show_default=True,
    help="How many directories.",
)  # fmt: skip
@of_project
@in_filesystem
@options.as_json
@options.pass_settings
def growth(
    settings: Settings,
    since: datetime | None,
    what: str | None,
    number: int,
    project: str | None,
    filesystem: str | None,
    as_json: bool,
) -> None:
    """What grew between two scans: by project, by user, and which directories most.

    A directory is named only where its growth is more than that of one directory in it.
    """
    selection = Selection(filesystem, project)
    since = since.replace(tzinfo=UTC) if since else None
    rows: list[Row] = []
    with visibility.reading(settings) as (session, visible):
        pairs = growing.require_pairs(session, visible, selection, since)
        for pair in pairs:
            rows += growing.changes(session, visible, pair, selection, number, what)
    if as_json:
        output.emit("usage.growth", rows, scans=pairs)
        return
    for pair in pairs:
        show_growth(pair, [row for row in rows if row["filesystem"] == pair["filesystem"]])


def show_growth(pair: Row, rows: list[Row]) -> None:
    """Print the growth of one file system."""
    old = f"scan {pair['old_id']} ({format_time(pair['old_at'])})"
    new = f"scan {pair['new_id']} ({format_time(pair['new_at'])})"
    click.echo(f"Growth of {pair['filesystem']} from {old} to {new}\n")
    for kind, heading in (("project", "project"), ("user", "user"), ("directory", "path")):
        grown = [
            row
            for row in rows
            if row["by"] == kind and (row["grown_bytes"] != 0 or row["grown_inodes"] != 0)
        ]
        columns = [
            output.size("grown_bytes", "grown"),
            output.count("grown_inodes", "inodes"),
            output.size("alloc_bytes", "now on disk"),
            output.path(heading, heading),
        ]
        if any(row["by"] == kind for row in rows):
            output.table(f"By {kind}", columns, grown, empty="no change")


def _footer(scanned: list[Row]) -> None:
    """Totals say when they were true and what they left out."""
    for scan in scanned:
        line = f"{scan['filesystem']}: scanned {format_time(scan['scanned_at'])}"
        if scan["not_counted"]:
            line += f", {scan['not_counted']} entries not counted (datamgr scan show {scan['id']})"
        click.echo(line)
