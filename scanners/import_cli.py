"""`datamgr scan import`: lists that file systems write of themselves, as scans."""

import time
from datetime import UTC, datetime

import click

from datamgr.cli import options, output, progress
from datamgr.config import Settings
from datamgr.db import Database, open_database
from datamgr.units import format_count
from scanners import engine_options
from scanners.importers import formats
from scanners.importers.source import ListSource
from scanners.walk import Progress


@click.command(name="import")
@click.argument("files", nargs=-1, required=True, type=click.Path(), metavar="FILE...")
@click.option(
    "--name",
    "filesystem",
    required=True,
    metavar="FS",
    help="Name of the file system, such as cfs.",
)
@click.option(
    "--from",
    "list_format",
    required=True,
    type=click.Choice(formats.NAMES),
    help="What wrote the list.",
)
@click.option(
    "--columns",
    metavar="SPEC",
    help="Fields of the list in their order, such as path,kind,uid,gid,size_bytes,mtime_s; of "
    "gpfs-list those that SHOW joins by |. A wrong name lists the right ones.",
)
@click.option(
    "--root",
    "roots",
    multiple=True,
    type=options.PATH,
    metavar="PATH",
    help="Top of the scan, which all paths must lie in; may be repeated. Default the deepest "
    "directory that holds everything.",
)
@click.option(
    "--prefix",
    type=options.PATH,
    default=b"",
    metavar="PATH",
    help="Put in front of every path; for lists whose paths begin at the top of the file system.",
)
@click.option(
    "--taken-at",
    type=click.DateTime(["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d"]),
    metavar="TIME",
    help="When the list was begun (UTC). Default what its header says, or else when the oldest "
    "FILE was last written.",
)
@click.option(
    "--max-bad",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    show_default=True,
    help="How many lines may be unreadable. They are named by `datamgr scan show`.",
)
@click.option(
    "--modes-decide",
    is_flag=True,
    help="Let accounts browse what the modes let them list: right where no directory has an "
    "access control list, which no list tells of. Default: only staff browse an imported scan.",
)
@click.option(
    "--workers", type=click.IntRange(1, 256), help="Importing processes; default one a core."
)
@options.as_json
@engine_options.pass_settings
def import_(  # noqa: PLR0913, PLR0917
    settings: Settings,
    files: tuple[str, ...],
    filesystem: str,
    list_format: str,
    columns: str | None,
    roots: tuple[bytes, ...],
    prefix: bytes,
    taken_at: datetime | None,
    max_bad: int,
    modes_decide: bool,
    workers: int | None,
    as_json: bool,
) -> None:
    """Publish the list in FILE... as a scan of file system FS, without walking it.

    \b
      gpfs-list   mmapplypolicy with deploy/gpfs/scan.policy
      lester      lester's action fslist (ldiskfs of Lustre)
      lfs-find    lfs find --lazy --printf (Lustre)
      gufi-trace  gufi_dir2trace
      csv         anything else, with --columns

    Files may be compressed by gzip or zstd; `-` is standard input. A list that is cut short, or
    has a line that cannot be read, is refused, and the earlier scan stays current. Lists with
    rounded sizes or with names of users do not count exactly and are refused as well. How to
    make each list: docs/howto/import-lists.md.

    \b
    Example:
      datamgr scan import /ghi/list.list.scan --name ghi --from gpfs-list
      zcat mdt0.gz | datamgr scan import - --name scratch --from lester --prefix /scratch
    """
    source = ListSource(files, list_format, columns, roots, prefix, max_bad, modes_decide)
    taken = taken_at.replace(tzinfo=UTC) if taken_at else None
    with open_database(settings) as database:
        scan_id = _run_with_progress(settings, database, filesystem, source, taken, workers or 0)
        # Imported here: that module imports this one.
        from scanners import cli

        with database.transaction(read_only=True) as session:
            row = cli.scan_row(session, scan_id)
    if as_json:
        output.emit("scan.import", [row])
    else:
        click.echo(cli.summary(row))


def _run_with_progress(
    settings: Settings,
    database: Database,
    filesystem: str,
    source: ListSource,
    taken_at: datetime | None,
    workers: int,
) -> int:
    from scanners.importers import importing

    begin = time.monotonic()
    with progress.progress_line() as show:

        def on_progress(seen: Progress) -> None:
            total = seen.entries + seen.directories
            rate = int(total / max(time.monotonic() - begin, 0.001))
            show(f"reading: {format_count(total)} entries, {format_count(rate)}/s")

        request = importing.ImportRequest(filesystem, source, taken_at, workers)
        return importing.run(
            settings, database, request, on_progress, lambda step: show(f"{step} ...")
        )
