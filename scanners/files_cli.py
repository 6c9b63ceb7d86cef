"""`datamgr usage duplicates` and `datamgr usage export`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from datamgr import units
from datamgr.cli import options, output, progress
from datamgr.config import Settings
from scanners import queries, visibility
from scanners.queries import Row, Selection

if TYPE_CHECKING:
    from scanners.duplicates import Group

MEBI = 1 << 20
TABLES = ("projects", "users", "groups", "directories", "top-files", "ages", "history", "files")

of_project = click.option("--project", metavar="P", help="Only in this project.")
in_filesystem = click.option(
    "--filesystem", metavar="FS", help="Only this file system; default all that were scanned."
)


@click.command()
@of_project
@click.option(
    "--larger-than", type=options.BYTES, default=MEBI, metavar="SIZE",
    help="Only files larger than this; default 1M.",
)  # fmt: skip
@click.option("--verify", is_flag=True, help="Read the files and compare what they hold.")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=20, show_default=True,
    help="How many groups, those with the most to reclaim.",
)  # fmt: skip
@in_filesystem
@options.as_json
@options.pass_settings
def duplicates(
    settings: Settings,
    *,
    project: str | None,
    larger_than: int,
    verify: bool,
    limit: int,
    filesystem: str | None,
    as_json: bool,
) -> None:
    """Files that are there several times, and the space that all copies but one take.

    Files of one size and one name are listed together: they may be equal. With --verify they are
    read, first a little and then all of them, and only those are listed that are equal. A file
    that changed since the scan, or that may not be read, is named instead; so is one without
    blocks on disk, since reading it might bring it back from tape.

    Hard links of one inode are one file and take no space twice.

    \b
    datamgr usage duplicates --project cosmo --larger-than 100M
    datamgr usage duplicates --verify --limit 5 --json
    """
    from scanners import duplicates as finding
    from scanners import places

    selection = Selection(filesystem, project)
    with visibility.reading(settings) as (session, visible):
        found_in = places.of(session, visible, settings.scan_store_dir, selection)
        scanned = queries.scanned(session, selection)
    groups = finding.candidates(settings, found_in, larger_than, limit)
    not_read: dict[bytes, str] = {}
    if verify:
        from scanners import comparing

        total = sum(group.size_bytes * len(group.copies) for group in groups)
        with progress.progress_line() as show:
            compared = comparing.compare(groups, _Reading(show, total).add)
        groups, not_read = compared.groups, compared.not_read
    rows = [_row(group) for group in groups]
    failures = [{"path": path, "reason": reason} for path, reason in not_read.items()]
    if as_json:
        head = {"project": project, "larger_than_bytes": larger_than, "verified": verify}
        output.emit("usage.duplicates", rows, **head, not_read=failures, scans=scanned)
        return
    _show(rows, verified=verify)
    if failures:
        columns = [output.path("path", "path"), output.text("reason", "why")]
        output.table("Not compared", columns, failures)


class _Reading:
    """How much was read so far, shown in a line."""

    def __init__(self, show: Callable[[str], None], total_bytes: int) -> None:
        self._show = show
        self._total = units.format_bytes(total_bytes)
        self._read_bytes = 0

    def add(self, size_bytes: int) -> None:
        """Count what was read."""
        self._read_bytes += size_bytes
        read = units.format_bytes(self._read_bytes)
        self._show(f"comparing: {read} read, of at most {self._total}")


def _row(group: "Group") -> Row:
    return {
        "name": group.name,
        "size_bytes": group.size_bytes,
        "copies": len(group.copies),
        "reclaimable_bytes": group.reclaimable_bytes,
        "content": group.content,
        "paths": [copy.path for copy in group.copies],
    }


def _show(rows: list[Row], *, verified: bool) -> None:
    title = "Equal files" if verified else "Files of one size and name (--verify compares them)"
    if not rows:
        click.echo(f"{title}\n  none\n")
        return
    click.echo(title)
    for row in rows:
        free = units.format_bytes(row["reclaimable_bytes"])
        size = units.format_bytes(row["size_bytes"])
        name = output.printable(row["name"])
        click.echo(f"\n{free} to reclaim: {row['copies']} times {name} of {size}")
        for path in row["paths"]:
            click.echo(f"  {output.printable(path)}")
    total = sum(row["reclaimable_bytes"] for row in rows)
    click.echo(f"\n{units.format_bytes(total)} to reclaim in all\n")


@click.command()
@click.argument("table", type=click.Choice(TABLES))
@click.option(
    "--to", required=True, metavar="FILE",
    help="FILE.csv or FILE.parquet; `-` is CSV on standard output.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@of_project
@in_filesystem
@options.pass_settings
def export(
    settings: Settings,
    *,
    table: str,
    to: str,
    force: bool,
    project: str | None,
    filesystem: str | None,
) -> None:
    """Write a whole TABLE of the newest scans to a file, for other programs.

    The rows are those that the commands show, of everything that you may see; `files` are all
    files, links and the like, `history` is one row a project and scan. Columns and units are
    those of --json (docs/json.md). In CSV a path is text, with its exact bytes in base64 in
    `path_b64` where it is no UTF-8; in Parquet it is bytes. FILE appears when it is complete.

    \b
    datamgr usage export projects --to projects.csv
    datamgr usage export files --project cosmo --to cosmo.parquet
    datamgr usage export directories --to - | head
    """
    from scanners import export as exporting
    from scanners import tables

    selection = Selection(filesystem, project)
    with visibility.reading(settings) as (session, visible):
        source = tables.Source(session, visible, settings.scan_store_dir, selection)
        wanted = tables.TABLES[table]
        rows = exporting.write(to, wanted.schema, wanted.rows(source), force=force)
    if to != exporting.STANDARD_OUTPUT:
        click.echo(f"{units.format_count(rows)} rows in {Path(to)}")
