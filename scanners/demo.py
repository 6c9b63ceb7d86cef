"""`datamgr demo`: the main job from nothing: scan, roll up, load, report, serve."""

import os
import re
from pathlib import Path

import click
from sqlalchemy import orm

from datamgr import identity
from datamgr.cli import options
from datamgr.config import Settings
from datamgr.db import open_database
from scanners import cli, growth, leaders, queries, usage_cli, visibility
from scanners.queries import Selection
from scanners.scan import ScanRequest
from scanners.visibility import Visibility

TOP = 10


@click.command()
@click.argument("path", type=options.PATH, required=False)
@click.option("--once", is_flag=True, help="End after the report instead of serving the page.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the page; default web.port.")
@options.pass_settings
def demo(settings: Settings, path: bytes | None, once: bool, port: int | None) -> None:
    """Scan PATH (default: your home directory), print its usage and serve the page.

    Needs no configuration: the figures go to a PostgreSQL of its own below the state directory.
    A second run adds a second scan, and the report shows what grew in between.
    """
    root = os.path.realpath(os.fsencode(Path.home()) if path is None else path)
    filesystem = filesystem_name(root)
    with open_database(settings) as database:
        request = ScanRequest(filesystem, [root])
        scan_id = cli.run_with_progress(settings, database, request)
        with database.transaction(read_only=True) as session:
            click.echo(cli.summary(cli.scan_row(session, scan_id)) + "\n")
            visible = visibility.of(session, identity.current(settings))
            report(session, visible, Selection(filesystem))
    if not once:
        from datamgr.cli import web

        web.serve(settings, port=port)


def filesystem_name(root: bytes) -> str:
    """A name for the tree at `root`, of the characters that such names have: `usr-lib`, `root`."""
    words = re.findall(rb"[A-Za-z0-9]+", root)
    return b"-".join(words).decode("ascii")[-60:].strip("-") or "root"


def report(session: orm.Session, visible: Visibility, selection: Selection) -> None:
    """Print the usage of a file system as tables, and what grew since the scan before."""
    usage_cli.show_projects(queries.projects(session, visible, selection))
    for owner in ("user", "group"):
        usage_cli.show_owners(queries.by_owner(session, visible, selection, owner), owner)
    usage_cli.show_top(leaders.files(session, visible, selection, TOP), "files")
    usage_cli.show_top(leaders.directories(session, visible, selection, TOP), "dirs")
    usage_cli.show_ages(queries.ages_of_files(session, visible, selection, "mtime"), "mtime")
    pairs = growth.scan_pairs(session, visible, selection)
    for pair in pairs:
        rows = growth.changes(session, visible, pair, selection, TOP)
        usage_cli.show_growth(pair, rows)
    if not pairs:
        click.echo("Run this again later: a second scan shows what grew.\n")
