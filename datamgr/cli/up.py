"""`datamgr up`: all services of a machine under one supervisor."""

import json
import sys
import threading
from contextlib import suppress

import click

from datamgr import daemon, db, services, supervisor
from datamgr.cli import options, output
from datamgr.config import Settings


@click.command()
@options.pass_settings
@click.pass_context
def up(ctx: click.Context, settings: Settings) -> None:
    """Run all configured services of this machine in the foreground.

    Starts the services that `up.services` names (by default the web pages and one worker) and
    the embedded database if that is used, shows what they say, and restarts those that die:
    after a second, then less and less often, at most a minute apart.

    Ctrl-C or SIGTERM stops all in reverse order; a service that has not stopped after 10 s is
    killed, and a second Ctrl-C does so at once. When this command itself is killed, the
    services stop as well. In production use the systemd units instead, which run the same
    commands.
    """
    global_options = options.global_options(ctx)
    commands = services.commands(settings.up.services, global_options)
    width = max(map(len, [*commands, "up"]))
    lock = threading.Lock()

    def show(name: str, line: str) -> None:
        # Whoever read this may have gone; the services go on.
        with lock, suppress(BrokenPipeError):
            sys.stdout.write(f"{name:<{width}} | {_readable(line)}\n")
            sys.stdout.flush()

    supervised = supervisor.Supervisor(commands, show)
    with daemon.stop_on_signals(supervised.hasten) as stop, db.open_database(settings):
        supervised.run(stop)


def _readable(line: str) -> str:
    """A line of a JSON log as text: time, level, message; any other line as it is."""
    with suppress(ValueError, TypeError, KeyError):
        entry = json.loads(line)
        words = [entry["time"][11:19], entry["level"], entry["message"], entry.get("exception", "")]
        line = " ".join(word for word in words if word)
    return "\n".join(output.printable(part) for part in line.split("\n"))
