"""`datamgr hdf5 index|search|attributes|compact|show`."""

import csv
import os
import sys
from pathlib import Path
from typing import Any

import click

from datamgr import display, units
from datamgr.cli import options, output, progress
from datamgr.errors import DatamgrError
from hdf5_tools.harvest.records import Form, Value
from hdf5_tools.harvest.sandbox import Sandbox
from hdf5_tools.index import update
from hdf5_tools.index.index import Hit, Index

_INDEX = click.Path(path_type=Path)
_SHOWN_VALUES = 8


@click.command()
@click.argument("paths", type=options.PATH, nargs=-1, required=True, metavar="PATH...")
@click.option("--into", "folder", type=_INDEX, required=True, metavar="INDEX",
              help="The directory of the index; made if it is missing.")  # fmt: skip
@click.option("--update", "only_changed", is_flag=True,
              help="Read only files that are new or changed.")  # fmt: skip
@click.option("--name", "patterns", multiple=True, metavar="GLOB",
              help=f"Which files below directories [{' '.join(update.PATTERNS)}].")  # fmt: skip
@click.option("--workers", type=click.IntRange(1, 256), metavar="N", help="Default one a core.")
@options.as_json
def index(
    *,
    paths: tuple[bytes, ...],
    folder: Path,
    only_changed: bool,
    patterns: tuple[str, ...],
    workers: int | None,
    as_json: bool,
) -> None:
    """Harvest every attribute of HDF5 files into INDEX, to be searched.

    Nothing of the raw data is read. Files that HDF5 cannot read are listed with the reason
    and do not stop the others. Files of the index that are gone from below PATH are taken out.
    Searches go on meanwhile; killed, the index stays as it was.

    \b
    datamgr hdf5 index /data/beamline --into beamline.index
    datamgr hdf5 index /data/beamline --into beamline.index --update
    """
    with progress.progress_line() as show:

        def on_progress(done: update.Done) -> None:
            show(f"{done.read} files read, {done.attributes} attributes, {done.failed} failed")

        done = update.update(
            folder, paths, only_changed=only_changed,
            patterns=[p.lower() for p in patterns] or update.PATTERNS,
            workers=workers or len(os.sched_getaffinity(0)), on_progress=on_progress,
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
    click.echo(
        f"{display.printable(folder)}: {units.format_count(done.found)} files found, "
        f"{units.format_count(done.read)} read with {units.format_count(done.attributes)} "
        f"attributes, {done.unchanged} unchanged, {done.removed} removed"
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
        output.emit_stream("hdf5.search", (_row(hit) for hit in found), **head)
        return
    columns = [output.path("file", "file"), output.path("path", "object")]
    columns += [output.text("kind", "kind"), output.text("form", "type and shape")]
    columns += [output.text(name, name) for name in shown]
    rows = []
    for hit in found:
        values = {os.fsdecode(n): _text(v) for n, v in hit.attributes.items()}
        form = _form(hit.form) if hit.kind else ""
        rows.append({"file": hit.file, "path": hit.path, "kind": hit.kind.name.lower(),
                     "form": form, **values})  # fmt: skip
    if as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\r\n")
        writer.writerow([column.heading for column in columns])
        writer.writerows([_plain(row[column.key]) for column in columns] for row in rows)
        return
    output.table(f"{units.format_count(len(hits))} found", columns, rows)


@click.command()
@click.argument("folder", type=_INDEX, metavar="INDEX")
@options.as_json
def attributes(*, folder: Path, as_json: bool) -> None:
    """List the names of attributes: how many, from which to which number, how many texts."""
    opened = Index.open(folder)
    rows = [
        {
            "name": display.printable(s.name), "attributes": s.attributes, "smallest": s.smallest,
            "largest": s.largest, "texts": s.texts,
            "example": None if s.example is None else display.printable(s.example),
        }
        for s in opened.names()
    ]  # fmt: skip
    if as_json:
        output.emit("hdf5.attributes", rows, index=bytes(folder), **opened.totals())
        return
    columns = [output.text("name", "name"), output.count("attributes", "attributes")]
    columns += [output.text(key, key) for key in ("smallest", "largest")]
    columns += [output.count("texts", "texts"), output.text("example", "example")]
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
    with Sandbox() as sandbox:
        record = sandbox.harvest(file)
    if record.reason is not None:
        raise DatamgrError(f"{display.printable(file)}: {record.reason}")
    rows: list[dict[str, Any]] = []
    for found in record.objects:
        rows.append({"path": found.path, "attribute": None, "form": _form(found.form),
                     "values": []})  # fmt: skip
        rows += [
            {"path": found.path, "attribute": display.printable(name), "form": _form(form),
             "values": _json(values)}
            for name, form, values in found.attributes
        ]  # fmt: skip
    if as_json:
        output.emit("hdf5.show", rows, file=file)
        return
    for row in rows:
        if row["attribute"] is None:
            click.echo(f"{output.printable(row['path'])}  {row['form']}")
        else:
            click.echo(f"    {row['attribute']} = {_shown(row['values'])}  ({row['form']})")


def _row(hit: Hit) -> dict[str, Any]:
    return {
        "file": hit.file,
        "path": hit.path,
        "kind": hit.kind.name.lower(),
        "dtype": hit.form[0],
        "shape": None if hit.form[1] is None else list(hit.form[1]),
        "attributes": {
            display.printable(name): None if values is None else _json(values)
            for name, values in hit.attributes.items()
        },
    }


def _json(values: tuple[Value, ...]) -> list[Any]:
    return [display.printable(v) if isinstance(v, bytes) else v for v in values]


def _text(values: tuple[Value, ...] | None) -> str | None:
    return None if values is None else _shown(_json(values))


def _shown(values: list[Any]) -> str:
    more = f", … {len(values)} in all" if len(values) > _SHOWN_VALUES else ""
    return ", ".join(str(value) for value in values[:_SHOWN_VALUES]) + more


def _plain(value: bytes | str | None) -> str | None:
    return display.printable(value) if isinstance(value, bytes) else value


def _form(form: Form) -> str:
    kind, shape = form
    return kind if shape is None or shape == () else f"{kind} ({', '.join(map(str, shape))})"
