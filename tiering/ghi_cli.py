"""`ghi`: put files into the archive, free their disk space, and bring them back."""

import click

from datamgr.cli.lazy import Command, LazyGroup

COMMANDS = {
    "ls": Command("tiering.ls_cli:ls", "Files with their state, and where the archive has them."),
    "put": Command("tiering.submit_cli:put", "Copy files into the archive."),
    "punch": Command("tiering.submit_cli:punch", "Free the disk space of archived files."),
    "stage": Command("tiering.submit_cli:stage", "Bring files back to disk."),
    "pin": Command("tiering.submit_cli:pin", "Keep files on disk until a time."),
    "unpin": Command("tiering.submit_cli:unpin", "Let pinned files be punched again."),
    "lock": Command("tiering.submit_cli:lock", "Make files immutable."),
    "unlock": Command("tiering.submit_cli:unlock", "Let locked files be changed again."),
    "verify": Command("tiering.submit_cli:verify", "Read archived copies and compare them."),
    "undelete": Command("tiering.submit_cli:undelete", "Bring removed files back."),
    "status": Command("tiering.status_cli:status", "What runs, waits or has failed."),
    "cancel": Command("tiering.status_cli:cancel", "Stop a request."),
    "df": Command("tiering.status_cli:df", "How full disk and archive are, by state."),
}


@click.group(
    cls=LazyGroup, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
def ghi() -> None:
    """Move files between a disk and its archive.

    A file of a managed directory is in one of three states: G, on disk only; B, on disk and in the
    archive; H, in the archive only, with a stub on disk that has its name, size, owner and times
    and takes no space.

    `put` copies files into the archive, `punch` frees their disk space, `stage` brings them back.
    A removed file can be brought back by `undelete` for a while.

    \b
    Examples:
      ghi put -R --punch --unguarded run42      archive a directory and free its space
      ghi ls -l run42                           what is where
      ghi stage -R run42/results                bring a part of it back
      find old -type f -print0 | ghi put -0 -f -
    """
