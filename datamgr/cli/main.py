"""The `datamgr` command: the table of commands and the one place where errors become text."""

import errno
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from datamgr import display
from datamgr.cli.lazy import Command, LazyGroup
from datamgr.errors import DatamgrError, UnavailableError

log = logging.getLogger(__name__)

# Features appear here as strings: `datamgr --help` imports none of them.
COMMANDS = {
    "demo": Command("scanners.demo:demo", "Scan a directory and show its usage, from nothing."),
    "scan": Command("scanners.cli:scan", "Run and manage file-system scans."),
    "project": Command("datamgr.cli.project:project", "Projects, their paths and quotas."),
    "usage": Command("scanners.usage_cli:usage", "Who and what uses the space and the inodes."),
    "alerts": Command(
        "scanners.alerts_cli:alerts", "Mail and webhooks when projects fill their quotas."
    ),
    "nightly": Command(
        "scanners.nightly_cli:nightly_", "Scan everything that is configured, once a night."
    ),
    "find": Command("scanners.find_cli:find", "Files and directories by age, size, name, owner."),
    "perms": Command(
        "pitoolbox.cli:perms", "Group, mode and owner in your project, by request and undoable."
    ),
    "hdf5": Command("hdf5_tools.cli:hdf5", "Search, compose and repair HDF5 files."),
    "ghi": Command(
        "tiering.ghi_cli:ghi", "Put files into an archive, free their space, stage them."
    ),
    "tier": Command("tiering.tier_cli:tier", "Run managed roots: the daemon and its upkeep."),
    "policy": Command(
        "dashboard.policy_cli:policy", "What a policy of a managed root would do now."
    ),
    "identity": Command(
        "datamgr.cli.identity:identity_", "Who may log in to the web pages, and who has."
    ),
    "task": Command("datamgr.cli.task:task", "The queue of long work."),
    "up": Command("datamgr.cli.up:up", "Run all configured services of this machine."),
    "web": Command("datamgr.cli.web:web", "Serve the web pages and the API."),
    "worker": Command("datamgr.cli.worker:worker", "Carry out queued tasks."),
    "db": Command("datamgr.cli.db:db", "The database: status, upgrade, stop."),
    "config": Command("datamgr.cli.config:config", "What is configured."),
}

INTERRUPTED = 130  # 128 + SIGINT, as shells report it
BROKEN_PIPE = 141  # 128 + SIGPIPE


class _Root(LazyGroup):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # Here, for click would end with 1. Whoever read us has gone; keep Python from
            # complaining again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(BROKEN_PIPE)


@click.group(cls=_Root, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    "config_path",
    metavar="FILE",
    help="Configuration file; default $DATAMGR_CONFIG, then ~/.config/datamgr/datamgr.toml, "
    "then /etc/datamgr/datamgr.toml.",
)
@click.option("-v", "--verbose", is_flag=True, help="Log every step to standard error.")
@click.version_option(package_name="datamgr", message="%(package)s %(version)s")
@click.pass_context
def cli(ctx: click.Context, config_path: str | None, verbose: bool) -> None:
    """Data management for computing centres: see who uses a file system, and act on it.

    Everything works with no configuration on one machine: `datamgr demo` scans your home
    directory and shows its usage. Results are printed as tables, or with --json as one JSON
    object; sizes say their unit.

    \b
    Exit codes: 0 done, 2 wrong usage, 3 not found, 4 invalid input, 5 not allowed,
    6 conflict, 7 unavailable (database, disk space, ...), 8 waited for and not all done,
    130 interrupted.
    """
    from datamgr import logs

    ctx.ensure_object(dict).update(config_path=config_path, verbose=verbose)
    logs.configure_logging(daemon=False, verbose=verbose)


def run(argv: Sequence[str] | None = None, *, script: str = "datamgr") -> int:
    """Run one command line and return its exit code; every error is one line of text.

    `script`: what was typed, for texts: `datamgr`, or the name of the group that has a script.
    """
    try:
        name = "datamgr" if script == "datamgr" else ""
        result = cli.main(args=argv, prog_name=name, standalone_mode=False)
        # Exceptions that click turns into an exit code (--help, ctx.exit) come back as a value.
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except DatamgrError as error:
        click.echo(f"{script}: {error}", err=True)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo(f"{script}: interrupted", err=True)
        return INTERRUPTED
    except Exception as error:
        log.debug("internal error", exc_info=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            where = f"{display.printable(error.filename)}: " if error.filename else ""
            reason = f"{where}{error.strerror}; make room for what is written, or printed"
            code = UnavailableError.exit_code
        else:
            how = "datamgr -v" if script == "datamgr" else f"datamgr -v {script}"
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            reason = f"internal error, please report it: {reason} ({how} … shows the traceback)"
            code = 1
        click.echo(f"{script}: {reason}", err=True)
        return code


def main() -> None:
    """Entry point of the `datamgr` script."""
    sys.exit(run())


def ghi() -> None:
    """Entry point of the `ghi` script."""
    sys.exit(run(["ghi", *sys.argv[1:]], script="ghi"))


if __name__ == "__main__":
    main()
