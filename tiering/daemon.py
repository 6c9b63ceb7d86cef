"""`datamgr tier daemon`: the process that works on managed roots and answers the `ghi` commands."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import click

from datamgr import daemon, db, listening, logs
from datamgr.cli import options
from datamgr.config import Settings
from datamgr.daemon import Stop
from datamgr.errors import InvalidError, UnavailableError
from datamgr.exclusive import TakenError
from datamgr.line_server import LineServer
from tiering import engine, housekeeping
from tiering.engine import Engine
from tiering.questions import MAX_QUESTION_BYTES
from tiering.service import refusal

log = logging.getLogger(__name__)

PATIENCE_S = 60.0  # for a root that another process has: as long as clients wait for an answer
LOOK_S = 1.0


@click.command(name="daemon")
@options.pass_settings
@click.pass_context
def command(ctx: click.Context, settings: Settings) -> None:
    """Work on the managed roots, and answer the `ghi` commands of all accounts.

    Started as root it does for each account what that account may do: it opens paths with the
    rights of whoever asks, whom the kernel names. Started by anybody else it serves that account
    alone. At its start it resolves what a crash left unfinished: every file is on disk, in the
    archive or both, and none is half.

    SIGTERM or Ctrl-C stops it between two batches of files; requests go on when it runs again. The
    log is JSON lines on standard error.
    """
    logs.configure_logging(daemon=True, verbose=ctx.ensure_object(dict).get("verbose", False))
    if not settings.tier:
        raise InvalidError("no directory is managed: configure [tier.NAME] with root and archive")
    place = settings.tier_socket
    # Root's asks for each account what that may do; anybody else's is for that account alone.
    mode = 0o666 if os.geteuid() == 0 else 0o600
    with (
        listening.unix_socket(place, "tiering.socket", mode=mode) as listener,
        db.open_database(settings) as database,
        daemon.stop_on_signals() as stop,
        _running(settings, database, stop) as running,
        housekeeping.running(running.roots, stop),
        running.working(settings.tiering.workers, stop),
    ):
        log.info("works on %s, asked on %s", ", ".join(running.roots), place)
        service = running.service
        LineServer(
            listener, None, service.answer, refusal, max_line_bytes=MAX_QUESTION_BYTES
        ).serve(stop)
    if running.failed:
        raise UnavailableError(f"a part of the daemon failed: {running.failed[0]}; start it again")


@contextmanager
def _running(settings: Settings, database: db.Database, stop: Stop) -> Iterator[Engine]:
    """The roots, once a `ghi` command that works on one by itself has ended.

    Raises: as `engine.running`; TakenError if that takes longer than PATIENCE_S.
    """
    with ExitStack() as stack:
        begun = time.monotonic()
        while True:
            try:
                running = stack.enter_context(
                    engine.running(settings, database, list(settings.tier))
                )
                break
            except TakenError as error:
                if time.monotonic() - begun >= PATIENCE_S or stop.wait(LOOK_S):
                    raise
                log.info("waiting: %s", error)
        yield running
