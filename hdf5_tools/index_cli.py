"""`datamgr hdf5 index|search|attributes|compact|show`."""

import csv
import os
import stat
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import click

from datamgr import display, units
from datamgr.cli import options, output, progress
from datamgr.errors import ForbiddenError, InvalidError, NotFoundError
from hdf5_tools.harvest.records import Value
from hdf5_tools.harvest.sandbox import Sandbox
from hdf5_tools.index import rows as rows_of
from hdf5_tools.index import scanned, update
from hdf5_tools.index.index import Index

_INDEX = click.Path(path_type=Path, readable=False)  # whether it can be read, opening says
EXAMPLE_CHARACTERS = 60  # of a text in a list


@click.command()
@click.argument("paths", type=options.PATH, nargs=-1, required=True, metavar="PATH...")
@click.option("--into", "folder", type=_INDEX, required=True, metavar="INDEX",
              help="The directory of the index; made if it is missing.")  # fmt: skip
@click.option("--update", "only_changed", is_flag=True,
              help="Read only files that are new or changed.")  # fmt: skip
@click.option("--name", "patterns", multiple=True, metavar="GLOB",
              help=f"Which files below directories [{' '.join(update.PATTERNS)}].")  # fmt: skip
@click.option("--from-scan", "filesystem", metavar="FS",
              help="Take file names from the newest scan of FS, without walking.")  # fmt: skip
@click.option("--workers", type=click.IntRange(1, 256), metavar="N", help="Default one a core.")
@options.as_json
@click.pass_context
def index(  # noqa: PLR0913
    ctx: click.Context,
    *,
    paths: tuple[bytes, ...],
    folder: Path,
    only_changed: bool,
    patterns: tuple[str, ...],
    filesystem: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Harvest every attribute of HDF5 files into INDEX, to be searched.

    Nothing of the raw data is read. Files that HDF5 cannot read are listed with the reason
    and do not stop the others. Files of the index that are gone from below PATH are taken out.
    Searches go on meanwhile; killed, the index stays as it was.

    With --from-scan, files that came after the scan are found by the next one; it shows you what
    you may list.

    \b
    datamgr hdf5 index /data/beamline --into beamline.index
    datamgr hdf5 index /data/beamline --into beamline.index --update
    datamgr hdf5 index /data/beamline --into beamline.index --update --from-scan data
    """
    listed = None
    if filesystem is not None:
        chosen, before = filesystem, options.global_options(ctx)
        absolute = [os.path.abspath(path) for path in paths]
        listed = chain.from_iterable(scanned.files(path, chosen, before) for path in absolute)
    with progress.progress_line() as show:

        def on_progress(done: update.Done) -> None:
            show(f"{done.read} files read, {done.attributes} attributes, {done.failed} failed")

        done = update.update(
            folder, paths, only_changed=only_changed,
            patterns=[p.lower() for p in patterns] or update.PATTERNS,
            listed=listed, workers=workers or len(os.sched_getaffinity(0)), on_progress=on_progress,
        )  # fmt: skip
    failures = list(Index.open(folder).failures())
    rows = [{"path": path, "reason": display.printable(reason)} for path, reason in failures]
    rows += [{"path": path, "reason": reason} for path, reason in done.not_walked]
    if as_json:
        counts = {
            key: getattr(done, key)
            for key in ("found", "read", "failed", "unchanged", "removed", "attributes")
        }
        output.emit("hdf5.index", rows, index=bytes(folder), **counts)
        return
    failed = f"{units.format_count(done.failed)} that could not be read, " if done.failed else ""
    click.echo(
        f"{display.printable(folder)}: {units.format_count(done.found)} files found, "
        f"{units.format_count(done.read - done.failed)} read with "
        f"{units.format_count(done.attributes)} attributes, {failed}{done.unchanged} unchanged, "
        f"{done.removed} removed"
    )
    if rows:
        columns = [output.path("path", "path"), output.text("reason", "why")]
        output.table("Not in the index", columns, rows)


@click.command()
@click.argument("folder", type=_INDEX, metavar="INDEX")
@click.argument("query")
@click.option("--by-file", is_flag=True,
              help="Files whose objects fulfil the query together.")  # fmt: skip
@click.option("--show", "shown", multiple=True, metavar="NAME", help="Print this attribute too.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most so many.")
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
@click.option("--null", is_flag=True, help="Print the files only, once each, ended by NUL.")
@options.as_json
def search(  # noqa: PLR0913
    *,
    folder: Path,
    query: str,
    by_file: bool,
    shown: tuple[str, ...],
    limit: int | None,
    as_csv: bool,
    null: bool,
    as_json: bool,
) -> None:
    """Find objects by their attributes.

    \b
    exposure_s > 0.5                 numbers: = != < <= > >=
    exposure > 500 ms                in the unit that NAME_units or units of the object says
    sample = "MgFe*"                 texts; * stands for anything, \\* for a star
    sample ~ "*mgfe*"                the same, whatever the case of its letters
    sample in ("a", "b*")            any of
    has title                        there is such an attribute
    @path = "*/data"                 also @file, @kind, @dtype, @shape ("3,4"), @ndim
    a and (b or not c)

    An array fulfils a comparison if any of its values does. `!=` and `!~` ask for objects that
    have the attribute. Odd names stand in backquotes. Fields of compounds are NAME.FIELD.

    \b
    datamgr hdf5 search beamline.index 'exposure_s > 0.5 and sample = "MgFe*"' --show sample
    """
    if sum((as_csv, null, as_json)) > 1:
        raise click.UsageError("--csv, --null and --json exclude each other")
    names = tuple(os.fsencode(name) for name in shown)
    hits = Index.open(folder).search(query, by_file=by_file)
    found = hits.rows(names, limit)
    if null:
        for path in dict.fromkeys(hit.file for hit in found):
            sys.stdout.buffer.write(path + b"\0")
        return
    if as_json:
        head = {"index": bytes(folder), "query": query, "matches": len(hits)}
        output.emit_stream("hdf5.search", (rows_of.of_hit(hit) for hit in found), **head)
        return
    columns = [output.path("file", "file"), output.path("path", "object")]
    columns += [output.text("kind", "kind"), output.text("form", "type and shape")]
    columns += [output.text(name, name) for name in shown]
    rows = []
    for hit in found:
        values = {os.fsdecode(n): _text(v) for n, v in hit.attributes.items()}
        form = rows_of.form(hit.form) if hit.kind else ""
        rows.append({"file": hit.file, "path": hit.path, "kind": hit.kind.name.lower(),
                     "form": form, **values})  # fmt: skip
    if as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\r\n")
        writer.writerow([column.heading for column in columns])
        writer.writerows([_plain(row[column.key]) for column in columns] for row in rows)
        return
    output.table(f"{units.format_count(len(hits))} found", columns, rows)


def _beginning(text: str | None) -> str:
    """What of a text, which may be a whole log, tells what sort of texts these are."""
    if text is None:
        return "-"
    return text if len(text) <= EXAMPLE_CHARACTERS else text[: EXAMPLE_CHARACTERS - 1] + "…"


@click.command()
@click.argument("folder", type=_INDEX, metavar="INDEX")
@options.as_json
def attributes(*, folder: Path, as_json: bool) -> None:
    """List the names of attributes: how many, from which to which number, how many texts."""
    opened = Index.open(folder)
    rows = [rows_of.of_name(summary) for summary in opened.names()]
    if as_json:
        output.emit("hdf5.attributes", rows, index=bytes(folder), **opened.totals())
        return
    columns = [output.text("name", "name"), output.count("attributes", "attributes")]
    columns += [output.text(key, key) for key in ("smallest", "largest")]
    columns += [output.count("texts", "texts")]
    columns += [output.Column("example", "example", _beginning)]
    totals = opened.totals()
    title = f"{totals['files']} files, {totals['failed']} failed, {totals['objects']} objects"
    output.table(title, columns, rows)


@click.command()
@click.argument("folder", type=_INDEX, metavar="INDEX")
def compact(*, folder: Path) -> None:
    """Leave out what is gone, and put segments together; `hdf5 index` does it when it should."""
    update.compact_index(folder)


@click.command()
@click.argument("file", type=options.PATH)
@options.as_json
def show(*, file: bytes, as_json: bool) -> None:
    """Print every object of one HDF5 file with its attributes."""
    shown = display.printable(file)
    try:
        if not stat.S_ISREG(os.stat(file).st_mode):
            raise InvalidError(f"{shown} is no regular file")
        os.close(os.open(file, os.O_RDONLY))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"there is no file {shown}") from error
    except OSError as error:
        raise ForbiddenError(f"{shown} cannot be read: {error.strerror}") from error
    with Sandbox() as sandbox:
        record = sandbox.harvest(file)
    if record.reason is not None:
        raise InvalidError(f"{shown}: {record.reason}")
    rows: list[dict[str, Any]] = []
    for found in record.objects:
        rows.append({"path": found.path, "attribute": None, "form": rows_of.form(found.form),
                     "values": []})  # fmt: skip
        rows += [
            {"path": found.path, "attribute": display.printable(name), "form": rows_of.form(form),
             "values": rows_of.of_values(values)}
            for name, form, values in found.attributes
        ]  # fmt: skip
    if as_json:
        output.emit("hdf5.show", rows, file=file)
        return
    for row in rows:
        if row["attribute"] is None:
            click.echo(f"{output.printable(row['path'])}  {row['form']}")
        else:
            click.echo(f"    {row['attribute']} = {rows_of.shown(row['values'])}  ({row['form']})")


def _text(values: tuple[Value, ...] | None) -> str | None:
    return None if values is None else rows_of.shown(rows_of.of_values(values))


def _plain(value: bytes | str | None) -> str | None:
    return display.printable(value) if isinstance(value, bytes) else value
