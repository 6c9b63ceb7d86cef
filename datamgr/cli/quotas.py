"""`datamgr project quotas`: take quotas over from the file system."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from datamgr import db, identity, quota_formats, quotas
from datamgr.cli import options, output
from datamgr.config import Settings
from datamgr.errors import InvalidError, NotFoundError
from datamgr.quotas import Match, Report

COLUMNS = [
    output.text("name", "quota system"),
    output.text("project", "project"),
    output.text("state", "change"),
    output.size("quota_bytes", "quota"),
    output.size("usage_bytes", "used"),
    output.count("quota_inodes", "inode quota"),
    output.count("usage_inodes", "inodes used"),
]


@click.command(name="quotas")
@click.argument("file", metavar="FILE", type=options.PATH)
@click.option(
    "--from",
    "source",
    type=click.Choice(list(quota_formats.PARSERS)),
    required=True,
    help="What made FILE.",
)
@click.option(
    "--map",
    "map_file",
    metavar="MAP",
    type=options.PATH,
    help="File of lines name=project, for quota names that are no project's.",
)
@click.option("--hard", is_flag=True, help="Take hard limits where there are both; default soft.")
@click.option("--strict", is_flag=True, help="Change nothing if a name belongs to no project.")
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@options.as_json
@options.pass_settings
def quotas_(
    settings: Settings,
    file: bytes,
    source: str,
    map_file: bytes | None,
    as_json: bool,
    **flags: bool,
) -> None:
    """Set the projects' quotas as the file system has them, from FILE; `-` is standard input.

    \b
    mmrepquota   mmrepquota -j -Y DEVICE          (filesets of IBM Storage Scale)
    lfs-quota    lfs quota -p ID PATH, without -h (projects or groups of Lustre; many in a row)
    csv          project,quota_bytes,quota_inodes[,usage_bytes,usage_inodes]

    A fileset, group or project id belongs to the project of the same name, or to the one that
    --map gives it; others are listed and left alone. What the file system itself counts as
    used is kept beside, for `datamgr usage reconcile`. FILE's time counts as the report's.

    \b
    Example:
      mmrepquota -j -Y gpfs0 | datamgr project quotas --from mmrepquota - --dry-run
    """
    text, reported_at = _read(file)
    mapping = {} if map_file is None else quota_formats.parse_map(_read(map_file)[0])
    lines = list(quota_formats.PARSERS[source](text))
    dry_run = flags["dry_run"]
    report = Report(source, reported_at, lines, mapping, flags["hard"])
    caller = identity.current(settings)
    with db.open_database(settings) as database, database.transaction() as session:
        matches = quotas.match(session, caller, report)
        unknown = [
            output.printable(found.line.names[0]) for found in matches if found.project is None
        ]
        if flags["strict"] and unknown:
            raise InvalidError(
                f"{len(unknown)} names belong to no project: {', '.join(unknown[:10])}; "
                "register them, use --map, or leave out --strict"
            )
        if not dry_run:
            quotas.apply(session, caller, report, matches)
    rows = [_row(found) for found in matches]
    if as_json:
        output.emit("project.quotas", rows, dry_run=dry_run, source=source, reported_at=reported_at)
        return
    output.table("Quotas", COLUMNS, rows)
    done = f"{sum(found.changed for found in matches)} of {len(matches)} quotas"
    click.echo(f"{'would change' if dry_run else 'changed'} {done}")
    if unknown:
        click.echo(f"{len(unknown)} names belong to no project; see --map")


def _row(found: Match) -> dict[str, object]:
    return {
        "name": found.line.names[0],
        "project": found.project,
        "state": "unknown" if found.project is None else "changed" if found.changed else "same",
        "quota_bytes": found.quota_bytes,
        "quota_inodes": found.quota_inodes,
        "usage_bytes": found.line.usage_bytes,
        "usage_inodes": found.line.usage_inodes,
    }


def _read(file: bytes) -> tuple[str, datetime]:
    """The text of a file and its time, which is now for standard input.

    Raises:
        NotFoundError, InvalidError: it is not there, cannot be read, or is no UTF-8.
    """
    shown = output.printable(file)
    now = db.utc_now()
    try:
        if file == b"-":
            return sys.stdin.buffer.read().decode("utf-8-sig"), now
        path = Path(file.decode("utf-8", "surrogateescape"))
        modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        return path.read_bytes().decode("utf-8-sig"), min(modified, now)
    except FileNotFoundError as error:
        raise NotFoundError(f"{shown} does not exist") from error
    except OSError as error:
        raise InvalidError(f"{shown} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidError(f"{shown} is no UTF-8 text") from error
