"""`datamgr find`: files and directories by their properties, from the newest scans."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from datamgr import identity, units
from datamgr.cli import options, output
from datamgr.config import Settings
from datamgr.errors import InvalidError
from scanners import ages, queries, record, visibility
from scanners.queries import Row, Selection

if TYPE_CHECKING:
    import pyarrow as pa

    from scanners.find import Question

_KINDS = "".join(sorted(set("".join(record.KINDS)) - {"?"}))

as_csv = click.option("--csv", "as_csv", is_flag=True, help="Print CSV with a header.")
as_null = click.option(
    "--null", "-0", "as_null", is_flag=True,
    help="Print the paths alone, as they are, each ended by a NUL byte (for xargs -0).",
)  # fmt: skip


@click.command()
@click.argument("path", type=options.PATH, required=False)
@click.option("--project", metavar="P", help="Only in this project.")
@click.option("--user", metavar="USER", help="Owned by this account, by name or number.")
@click.option("--group", metavar="GROUP", help="Of this unix group, by name or number.")
@click.option("--older-than", type=options.SPAN, metavar="AGE", help="Older than, such as 1y.")
@click.option("--newer-than", type=options.SPAN, metavar="AGE", help="Younger than, such as 30d.")
@click.option(
    "--basis", type=click.Choice(ages.BASES), default="mtime", show_default=True,
    help="Age since the last read, change of content, or change of anything.",
)  # fmt: skip
@click.option("--larger-than", type=options.BYTES, metavar="SIZE", help="Such as 1G.")
@click.option("--smaller-than", type=options.BYTES, metavar="SIZE", help="Such as 4k.")
@click.option("--name", metavar="GLOB", help="By the last part of the path, such as '*.h5'.")
@click.option("--path-glob", metavar="GLOB", help="By the whole path, such as '*/raw/*'.")
@click.option(
    "--kind", "kinds", metavar="LETTERS",
    help="f files, d directories, l symbolic links, p, s, b, c as in find -type; default all.",
)  # fmt: skip
@click.option("--sort", type=click.Choice(["size", "age", "path"]), help="Largest, oldest first.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most so many.")
@click.option("--filesystem", metavar="FS", help="Only on this file system; default all.")
@as_csv
@options.as_json
@as_null
@options.pass_settings
def find(  # noqa: PLR0913
    settings: Settings,
    *,
    path: bytes | None,
    project: str | None,
    sort: str | None,
    limit: int | None,
    filesystem: str | None,
    as_csv: bool,
    as_json: bool,
    as_null: bool,
    **criteria: Any,
) -> None:
    """Find files and directories (below PATH) in the newest scans, without walking anything.

    All that is asked for must hold. Ages and everything else are those of the scan: what was
    changed or removed since shows up with the next one. Sizes are what files say they hold.

    \b
    datamgr find --project cosmo --older-than 1y --basis atime --larger-than 1G --sort size
    datamgr find /cfs/cosmo --name '*.tmp' --newer-than 30d --json
    datamgr find --user ada --kind f --null | tar -c --null -T - -f ada.tar

    In a GLOB, * stands for any bytes, ? for one byte, [a-z] for one of these, and \\ takes the
    meaning of the next one away. Without --sort results come at once, in no useful order; with
    it they wait for the whole search. Only what you may list yourself is found.
    """
    if as_csv + as_json + as_null > 1:
        raise click.UsageError("--csv, --json and --null exclude each other")
    from scanners import export, places, sorting, tables
    from scanners import find as finding

    question = _question(**criteria)
    columns = _columns(as_null, sort, question.basis)
    absolute = None if path is None else os.path.normpath(os.path.join(os.getcwdb(), path))
    selection = Selection(filesystem, project)
    with visibility.reading(settings) as (session, visible):
        found_in = places.of(session, visible, settings.scan_store_dir, selection, absolute)
        scanned = queries.scanned(session, selection)
    batches = finding.search(found_in, question, columns)
    if sort:
        batches = sorting.sorted_batches(settings, batches, columns, sort, question.basis, limit)
    elif limit:
        batches = limited(batches, limit)
    if as_null:
        write_null(batches)
    elif as_csv:
        export.write(export.STANDARD_OUTPUT, tables.TABLES["files"].schema, finding.rows(batches))
    elif as_json:
        output.emit_stream(
            "find", finding.rows(batches), path=absolute, project=project, scans=scanned
        )
    else:
        write_lines(finding.rows(batches))


def _question(**criteria: Any) -> "Question":
    from scanners.find import Question

    kinds = None if criteria["kinds"] is None else frozenset(criteria["kinds"].replace(",", ""))
    if kinds is not None and not (kinds and kinds <= set(_KINDS)):
        raise InvalidError(f"--kind takes letters of {_KINDS}, such as fl")
    return Question(
        older_than_s=criteria["older_than"],
        newer_than_s=criteria["newer_than"],
        basis=criteria["basis"],
        larger_than_bytes=criteria["larger_than"],
        smaller_than_bytes=criteria["smaller_than"],
        name=_bytes(criteria["name"]),
        path_glob=_bytes(criteria["path_glob"]),
        kinds=kinds,
        uid=None if criteria["user"] is None else identity.uid_of(criteria["user"]),
        gid=None if criteria["group"] is None else identity.gid_of(criteria["group"]),
    )


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def _columns(as_null: bool, sort: str | None, basis: str) -> Sequence[str]:
    """What has to be read: paths alone need little."""
    from scanners.find import SHOWN

    if not as_null:
        return SHOWN
    needed = {"size": ("path", "size_bytes"), "age": ("path", f"{basis}_s")}
    return needed.get(sort or "", ("path",))


def limited(batches: "Iterator[pa.RecordBatch]", limit: int) -> "Iterator[pa.RecordBatch]":
    """The first rows."""
    for batch in batches:
        yield batch.slice(0, limit)
        limit -= batch.num_rows
        if limit <= 0:
            return


def write_null(batches: "Iterator[pa.RecordBatch]") -> None:
    """Print the bytes of paths, each ended by NUL."""
    sys.stdout.flush()
    for batch in batches:
        paths = batch.column(batch.schema.get_field_index("path")).to_pylist()
        sys.stdout.buffer.write(b"\0".join([*paths, b""]))
    sys.stdout.buffer.flush()


def write_lines(found: Iterable[Row]) -> None:
    """Print a line for each: kind, size, last change, owner and path."""
    write: Callable[[str], object] = sys.stdout.write
    for row in found:
        size = units.format_bytes(row["size_bytes"])
        owner = output.printable(row["user"])
        path = output.printable(row["path"])
        write(f"{row['kind']} {size:>9}  {_day(row['mtime_s'])}  {owner:<12} {path}\n")
    sys.stdout.flush()


def _day(time_s: int) -> str:
    """A date; there are files with times that calendars do not reach."""
    try:
        return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d")
    except (OverflowError, ValueError, OSError):
        return " " * 10
