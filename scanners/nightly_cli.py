"""`datamgr nightly`: everything that is done once a night, by one command."""

import dataclasses
import sys

import click

from datamgr import daemon, db, identity, logs
from datamgr.cli import options, output, progress
from datamgr.config import Settings
from scanners import nightly
from scanners.nightly import Step

COLUMNS = [
    output.text("step", "step"),
    output.text("filesystem", "file system"),
    output.text("state", "state"),
    output.Column("took", "took", right=True),
    output.text("message", ""),
]


@click.command(name="nightly")
@click.option("--only", metavar="FS", help="Scan only this one of the configured file systems.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@options.as_json
@options.pass_settings
@click.pass_context
def nightly_(
    ctx: click.Context, settings: Settings, only: str | None, dry_run: bool, as_json: bool
) -> None:
    """Scan all configured file systems, thin the history out and check the alerts.

    For cron or a systemd timer; see docs/howto/nightly.md. What to scan stands in the settings:

    \b
      [[nightly.filesystem]]
      name = "cfs"
      paths = ["/cfs"]

    A file system that fails keeps its earlier scan and does not keep the others from being
    scanned. One run at a time: a second one ends with exit code 6. SIGTERM or Ctrl-C stops a
    walk at once and anything else after the step that is running; what was published stays.

    Exit code: 0 if all went well, the failed step's, 7 if several failed differently, 130 if
    stopped. Where standard error is no terminal, the log on it is JSON lines.
    """
    verbose = ctx.ensure_object(dict).get("verbose", False)
    logs.configure_logging(daemon=not sys.stderr.isatty(), verbose=verbose)
    filesystems = nightly.chosen(settings, only)
    caller = identity.current(settings)
    with (
        db.open_database(settings) as database,
        daemon.stop_on_signals() as stop,
        progress.progress_line() as show,
    ):
        on_progress = show if sys.stderr.isatty() else lambda _: None
        run = nightly.Run(settings, database, caller, stop, dry_run, on_progress)
        steps = list(run.steps(filesystems))
    rows = [dataclasses.asdict(step) for step in steps]
    if as_json:
        output.emit("nightly", rows, dry_run=dry_run)
    else:
        output.table(
            "Nightly",
            COLUMNS,
            [row | {"took": _took(step)} for row, step in zip(rows, steps, strict=True)],
        )
    if code := nightly.exit_code(steps):
        ctx.exit(code)


def _took(step: Step) -> str:
    """The seconds of a step, and of its parts."""
    parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in step.timings_s.items())
    return f"{step.duration_s:.1f} s" + (f" ({parts})" if parts else "")
