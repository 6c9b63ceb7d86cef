"""`datamgr project`: projects, their paths and quotas."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from datamgr import catalog, identity
from datamgr.catalog import Project, ProjectChange
from datamgr.cli import options, output, quotas
from datamgr.config import Settings
from datamgr.db import open_database

F = TypeVar("F", bound=Callable[..., Any])

COLUMNS = [
    output.text("project", "project"),
    output.path("path", "path"),
    output.text("group", "group"),
    output.text("pis_shown", "PIs"),
    output.text("proxies_shown", "proxies"),
    output.size("quota_bytes", "quota"),
    output.count("quota_inodes", "inode quota"),
]


@click.group()
def project() -> None:
    """Projects: directory trees with an owner group, PIs and quotas.

    A project is the tree below its path. Registering or changing one takes effect on the
    figures with the next scan, or at once by `datamgr scan publish`; quotas always at once.
    Without any project, each top-level directory of a scan counts as one.
    """


def _fields(command: F) -> F:
    for option in (
        click.option(
            "--proxy",
            "proxies",
            multiple=True,
            metavar="USER",
            help="Somebody who may act for the PIs; may be repeated.",
        ),
        click.option("--pi", "pis", multiple=True, metavar="USER", help="A PI; may be repeated."),
        click.option("--group", "unix_group", metavar="GROUP", help="The project's unix group."),
        click.option(
            "--quota-inodes", type=options.COUNT, help="Inode quota, such as 40M; 0 for none."
        ),
        click.option(
            "--quota-bytes",
            type=options.BYTES,
            help="Space quota on disk, such as 60T or 1.5TiB; 0 for none.",
        ),
    ):
        command = option(command)
    return command


@project.command()
@click.argument("name")
@click.argument("path", type=options.PATH)
@_fields
@options.as_json
@options.pass_settings
def add(
    settings: Settings,
    name: str,
    path: bytes,
    as_json: bool,
    **fields: Any,
) -> None:
    """Register project NAME, the directory tree at PATH.

    \b
    Example:
      datamgr project add cosmo /global/cfs/cosmo --quota-bytes 60T --quota-inodes 40M \\
          --group cosmo --pi ada
    """
    _change(settings, catalog.add_project, name, _change_of(fields, path), as_json, "project.add")


@project.command(name="set")
@click.argument("name")
@click.option("--path", type=options.PATH, help="Move the project to this path.")
@_fields
@options.as_json
@options.pass_settings
def set_(settings: Settings, name: str, path: bytes | None, as_json: bool, **fields: Any) -> None:
    """Change project NAME; what is not named stays.

    --pi replaces all PIs, --proxy all proxies. --path registers the directory that is there now,
    also after it was replaced by another of the same name.
    """
    _change(settings, catalog.set_project, name, _change_of(fields, path), as_json, "project.set")


@project.command()
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@options.as_json
@options.pass_settings
def remove(settings: Settings, name: str, dry_run: bool, as_json: bool) -> None:
    """Forget project NAME. Its files are not touched; its history of usage stays."""
    caller = identity.current(settings)
    with open_database(settings) as database, database.transaction() as session:
        removed = catalog.project(session, name)
        row = _row(removed)
        if not dry_run:
            catalog.remove_project(session, caller, name)
    if as_json:
        output.emit("project.remove", [row], dry_run=dry_run)
    else:
        shown = output.printable(removed.path)
        click.echo(f"{'would forget' if dry_run else 'forgot'} project {name} ({shown})")


@project.command(name="list")
@options.as_json
@options.pass_settings
def list_(settings: Settings, as_json: bool) -> None:
    """List the registered projects; sizes in binary units."""
    with open_database(settings) as database, database.transaction(read_only=True) as session:
        rows = [_row(found) for found in catalog.projects(session)]
    if as_json:
        output.emit("project.list", rows)
        return
    shown = [row | _names(row) for row in rows]
    output.table(
        "Projects", COLUMNS, shown, empty="none registered: each top-level directory counts as one"
    )


project.add_command(quotas.quotas_)


def _change_of(fields: dict[str, Any], path: bytes | None) -> ProjectChange:
    return ProjectChange(
        path=os.path.abspath(path) if path is not None else None,
        unix_group=fields["unix_group"],
        quota_bytes=fields["quota_bytes"],
        quota_inodes=fields["quota_inodes"],
        pis=fields["pis"] or None,
        proxies=fields["proxies"] or None,
    )


def _change(
    settings: Settings,
    change: Callable[..., Project],
    name: str,
    fields: ProjectChange,
    as_json: bool,
    schema: str,
) -> None:
    caller = identity.current(settings)
    with open_database(settings) as database, database.transaction() as session:
        row = _row(change(session, caller, name, fields))
    if as_json:
        output.emit(schema, [row])
    else:
        output.details(f"Project {name}", COLUMNS[1:], row | _names(row))


def _names(row: dict[str, Any]) -> dict[str, str | None]:
    return {f"{key}_shown": ", ".join(row[key]) or None for key in ("pis", "proxies")}


def _row(found: Project) -> dict[str, Any]:
    return {
        "project": found.name,
        "path": found.path,
        "group": found.unix_group,
        "pis": found.pis,
        "proxies": found.proxies,
        "quota_bytes": found.quota_bytes,
        "quota_inodes": found.quota_inodes,
    }
