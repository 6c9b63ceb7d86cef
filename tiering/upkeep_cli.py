"""`datamgr tier reconcile`, `expire`, `scrub` and `rebuild`: upkeep of managed roots."""

import os
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

import click

from datamgr import db, display, units
from datamgr.cli import options, output
from datamgr.cli.progress import progress_line
from datamgr.config import Settings
from datamgr.errors import NotFoundError
from tiering import client, engine, path_lists, places, status_cli
from tiering import rebuild as rebuilding
from tiering.client import Client
from tiering.path_lists import listed, portions
from tiering.places import Place
from tiering.questions import Action
from tiering.root import Report

# What one request for upkeep after the other adds up to.
_COUNTED = ("files", "bytes", "unchanged", "failed", "seen", "renamed", "removed", "returned")
NOT_ALL_WELL = 8  # the exit code of upkeep that found something wrong

_name = click.argument("name", required=False, metavar="[NAME]")

Row = dict[str, Any]


@click.command()
@_name
@path_lists.null
@path_lists.files_from(
    "Look where a scan saw files: at the paths in this file, one a line; `-` is standard input."
)
@options.as_json
@options.pass_config_path
@click.pass_context
def reconcile(
    ctx: click.Context,
    config_path: str | None,
    /,
    *,
    name: str | None,
    files_from: Any,
    null: bool,
    as_json: bool,
) -> None:
    """Compare the tables with what is on disk, below NAME or all managed roots.

    The daemon notices removals and renames at once, and does this at its start and once a day for
    what happened while it did not look. Files are known by their identity, whatever they are
    called.

    A list of the files, such as the newest scan has it, saves walking the tree:

    \b
      datamgr find --kind f --null /cfs/cosmo | datamgr tier reconcile -0 -f -

    What was renamed since the scan is found next time; what is gone is found at once.

    Exit code: 8 if a directory could not be read.
    """
    if files_from is None:
        rows = _ask(config_path, name, action=Action.RECONCILE, recursive=True)
    else:
        rows = _reconcile_listed(config_path, name, listed(files_from, null=null))

    def say(row: Row) -> str:
        return (
            f"{row['seen']} files, {row['renamed']} renamed, {row['removed']} removed, "
            f"{row['returned']} back again"
        )

    _show(ctx, "tier.reconcile", rows, say, as_json=as_json)


@click.command()
@_name
@options.as_json
@options.pass_config_path
@click.pass_context
def expire(
    ctx: click.Context, config_path: str | None, /, *, name: str | None, as_json: bool
) -> None:
    """Free what the archive keeps for nobody.

    Copies of files that were removed longer ago than `trash_days`, versions beyond `versions`, and
    containers that hold nothing else; of those that hold little else, the rest is written to a new
    one (`repack_below`). The daemon does it every hour.
    """
    rows = _ask(config_path, name, action=Action.EXPIRE)

    def say(row: Row) -> str:
        return f"{row['freed']} containers were freed, {row['files']} files moved to new ones"

    _show(ctx, "tier.expire", rows, say, as_json=as_json)


@click.command()
@_name
@click.option(
    "--older-than", type=options.SPAN, default=0, metavar="TIME",
    help="Only what was not read for so long, such as 90d.",
)  # fmt: skip
@click.option(
    "--repair", is_flag=True, help="Write damaged and missing copies again, from a good one."
)
@click.option("--rate", type=options.BYTES, metavar="SIZE", help="Bytes a second at most.")
@options.as_json
@options.pass_config_path
@click.pass_context
def scrub(
    ctx: click.Context, config_path: str | None, /, *, name: str | None, as_json: bool, **asked: Any
) -> None:
    """Read the archive again, all copies of it, and compare all checksums.

    The daemon does this by itself (`scrub_days`).

    Exit code: 8 if a container is damaged and was not repaired; it is named, with the files that
    are in it.
    """
    how = {
        "older_than_s": asked["older_than"],
        "bytes_per_s": asked["rate"],
        "repair": asked["repair"],
    }
    rows = _ask(config_path, name, action=Action.SCRUB, **how)

    def say(row: Row) -> str:
        lines = [
            f"{row['containers']} containers, {units.format_bytes(row['bytes'])} read, "
            f"{len(row['damaged'])} damaged"
        ]
        for damage in row["damaged"]:
            lines.append(
                f"  {damage['container']} in `{damage['copy']}`: {damage['reason']}"
                f"{'; repaired' if damage['repaired'] else ''}"
            )
            lines += [f"    {output.printable(file['path'])}" for file in damage["files"]]
        return "\n".join(lines)

    _show(ctx, "tier.scrub", rows, say, as_json=as_json, names_failures=True)


@click.command()
@click.argument("name")
@options.as_json
@options.pass_settings
@click.pass_context
def rebuild(ctx: click.Context, settings: Settings, /, *, name: str, as_json: bool) -> None:
    """Make the tables of managed root NAME again, from its archive and its disk alone.

    For a database that was lost: every container is read, oldest first, then every file on disk is
    looked at. Stubs can be staged afterwards as before. The daemon must not run.

    Exit code: 8 if a container or a file could not be read; it is named.
    """
    report = Report()
    with (
        progress_line() as show,
        db.open_database(settings) as database,
        engine.running(settings, database, [name]) as running,
    ):
        report.watch = lambda: show("reading the archive")
        found = rebuilding.rebuild(running.roots[name], report)
    row = {
        "root": name,
        "containers": found.containers,
        "versions": found.versions,
        "on_both": found.on_both,
        "in_archive": found.in_archive,
        "failures": [{"path": f.path, "reason": f.reason} for f in report.failures],
    }
    if as_json:
        output.emit("tier.rebuild", [row])
    else:
        click.echo(
            f"{name}: {found.containers} containers with {found.versions} versions; "
            f"{found.on_both} files are on both, {found.in_archive} in the archive"
        )
        for failure in report.failures:
            click.echo(f"{display.printable(failure.path)}: {failure.reason}", err=True)
    if report.failures:
        ctx.exit(NOT_ALL_WELL)


def _reconcile_listed(
    config_path: str | None, name: str | None, paths: Iterable[bytes]
) -> list[Row]:
    """The listed files of each root, a portion at a time; with the last one what is gone."""
    rows = []
    with client.connect(config_path) as service, progress_line() as show:
        known = service.ask("roots")
        found = places.sort_by_root(
            [Place(r["name"], r["path"].encode("latin-1")) for r in known], paths
        )
        listed_of = {
            place.name: [relative for _, relative in each] for place, each in found.items()
        }
        for root in _chosen(known, name):
            counted: Counter[str] = Counter()
            named: Row = {}
            for portion in portions(chain(listed_of.get(root, ()), [b"."])):
                row = _do(service, show, root, portion, action=Action.RECONCILE)
                counted.update({key: row[key] for key in _COUNTED if key in row})
                if not named or named["state"] == "succeeded":
                    named = row
            # The first that failed is named, else the last; what they came to is told of all.
            rows.append(named | counted)
    return rows


def _ask(config_path: str | None, name: str | None, **request: Any) -> list[Row]:
    """One row a root: what the request came to, its result among the rest."""
    with client.connect(config_path) as service, progress_line() as show:
        roots = _chosen(service.ask("roots"), name)
        return [_do(service, show, root, [b"."], **request) for root in roots]


def _chosen(roots: list[Row], name: str | None) -> list[str]:
    known = [root["name"] for root in roots]
    if name is not None and name not in known:
        raise NotFoundError(f"there is no managed root {name!r}; known are {', '.join(known)}")
    return known if name is None else [name]


def _do(
    service: Client, show: Callable[[str], None], root: str, paths: list[bytes], **request: Any
) -> Row:
    number = service.ask(
        "submit",
        request={"root": root, **request},
        paths=[path.decode("latin-1") for path in paths],
    )["id"]
    told = status_cli.decoded(client.follow(service, number, status_cli.shower(show)))
    return {
        "root": root,
        "id": number,
        "state": told["state"],
        "error": told["error"],
        "failures": told["failures"],
        **(told["result"] or {}),
    }


def _show(
    ctx: click.Context,
    schema: str,
    rows: list[Row],
    say: Callable[[Row], str],
    *,
    as_json: bool,
    names_failures: bool = False,
) -> None:
    """`names_failures`: what `say` says names them already."""
    if as_json:
        output.emit(schema, rows)
    else:
        for row in rows:
            if row["error"] is not None:
                click.echo(f"{row['root']}: {output.printable(row['error'])}", err=True)
                continue
            click.echo(f"{row['root']}: {say(row)}")
            for failure in () if names_failures else row["failures"]:
                path = os.fsdecode(failure["path"])
                click.echo(f"{output.printable(path)}: {failure['reason']}", err=True)
    if any(row["state"] != "succeeded" for row in rows):
        ctx.exit(NOT_ALL_WELL)
