"""`datamgr tier`: what operators do with managed roots."""

import click

from datamgr.cli.lazy import Command, LazyGroup

COMMANDS = {
    "daemon": Command("tiering.daemon:command", "Work on the managed roots and answer `ghi`."),
    "reconcile": Command(
        "tiering.upkeep_cli:reconcile", "Find what was removed and renamed while nobody watched."
    ),
    "expire": Command("tiering.upkeep_cli:expire", "Free what was removed long ago."),
    "scrub": Command("tiering.upkeep_cli:scrub", "Read the archive again and report damage."),
    "rebuild": Command("tiering.upkeep_cli:rebuild", "Make the tables again from the archive."),
}


@click.group(cls=LazyGroup, table=COMMANDS)
def tier() -> None:
    """Run managed roots: directories whose files have copies in an archive.

    A root is configured as [tier.NAME] with root and archive. `datamgr tier daemon` works on all of
    them, and everybody uses them by `ghi`. The other commands ask the daemon, or do it themselves
    where none runs.
    """
