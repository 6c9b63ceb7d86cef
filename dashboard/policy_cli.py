"""`datamgr policy`: what a policy of a managed root would do now."""

import sys

import click

from datamgr import units
from datamgr.cli import options, output
from datamgr.config import Settings
from scanners import visibility


@click.command()
@click.argument("root")
@click.argument("name")
@click.option("--null", "as_null", is_flag=True, help="Print all paths, each ended by NUL.")
@options.as_json
@options.pass_settings
def policy(settings: Settings, root: str, name: str, as_null: bool, as_json: bool) -> None:
    """Show what policy NAME of managed root ROOT would do now. Nothing is done.

    A policy is configured as [tier.ROOT.policy.NAME]. Which files fit is of the newest scan, their
    state is what tiering knows now. Have it done by giving the list to `ghi`:

    \b
      datamgr policy cosmo cold
      datamgr policy cosmo cold --null | ghi punch -0 -f - --unguarded
    """
    if as_null and as_json:
        raise click.UsageError("--json and --null exclude each other")
    from dashboard import policy as policies
    from dashboard import policy_answers, policy_files
    from dashboard.policy_files import Reader

    with visibility.reading(settings) as (session, visible):
        reader = Reader(session, visible, settings)
        of = policy_files.named(reader, root, name)
        if as_null:
            for path in policies.paths(reader, of):
                sys.stdout.buffer.write(path + b"\0")
            sys.stdout.buffer.flush()
            return
        found = policies.outcome(reader, of, None)
    rows, head = policy_answers.rows(found), policy_answers.head(found)
    if as_json:
        output.emit("policy", rows, **head)
        return
    chosen = found.chosen
    click.echo(
        f"{root}, {name}: would {of.policy.action} {units.format_count(chosen['files'])} files, "
        f"{units.format_bytes(chosen['size_bytes'])}, on disk "
        f"{units.format_bytes(chosen['alloc_bytes'])}"
    )
    if found.missing_bytes is not None:
        until = head["until"]
        click.echo(
            f"{units.format_bytes(found.missing_bytes)} have to be freed for the target"
            + (f": files up to {until:%Y-%m-%d} are enough" if until else "")
        )
    for title, key, table in (
        ("Left as they are", "reason", found.left),
        ("By project", "project", found.projects),
        ("By user", "user", found.users),
    ):
        if table:
            columns = [
                output.text(key, key),
                output.count("files", "files"),
                output.size("size_bytes", "size"),
                output.size("alloc_bytes", "on disk"),
            ]
            output.table(title, columns, table)
    columns = [
        output.size("size_bytes", "size"),
        output.time("time", of.policy.basis),
        output.text("state", "state"),
        output.text("user", "user"),
        output.text("path", "path"),
    ]
    output.table("The oldest", columns, rows, empty="none")
