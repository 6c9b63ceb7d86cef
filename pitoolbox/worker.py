"""`datamgr perms worker`: the process that carries out permission requests, one at a time."""

import grp
import logging
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import click

from datamgr import db, logs
from datamgr import worker as working
from datamgr.cli import options
from datamgr.config import Settings
from datamgr.daemon import Stop
from datamgr.db import Database
from datamgr.errors import InvalidError, UnavailableError
from datamgr.exclusive import Exclusive
from pitoolbox import accounts, notify
from pitoolbox.crew import Crew, CrewDiedError
from pitoolbox.executor import Executor, ExecutorPolicy
from pitoolbox.privileged import kernel
from pitoolbox.requests import KIND, WORKER_LOCK
from pitoolbox.run import run

log = logging.getLogger(__name__)

# A crash costs a request nothing but time, so it is given up late.
MAX_ATTEMPTS = 100


@click.command(name="worker")
@click.option("--once", is_flag=True, help="Carry out what is queued, then exit.")
@options.pass_settings
@click.pass_context
def command(ctx: click.Context, settings: Settings, once: bool) -> None:
    """Carry out permission requests: strictly in order within a project, projects in turn.

    The changes are made by processes of their own that have four capabilities (CAP_CHOWN,
    CAP_FOWNER, CAP_DAC_READ_SEARCH, CAP_FSETID), no database and no network. Start this as root
    or by the systemd unit in deploy/; started by anybody else it works within what that account
    may do. One worker at a time serves a database.

    SIGTERM or Ctrl-C stops between two batches of changes; the request goes on when a worker
    runs again, and so it does after a crash. The log is JSON lines on standard error.
    """
    logs.configure_logging(daemon=True, verbose=ctx.ensure_object(dict).get("verbose", False))
    with _crew(settings) as crew, db.open_database(settings) as database:
        _say_what_it_may(settings, crew)
        worker = PermsWorker(settings, database, crew)
        try:
            with worker.alone:
                working.run(worker, once=once)
        except CrewDiedError as error:
            raise UnavailableError(
                f"{error}; start the worker again, the request that ran will be resumed"
            ) from error


@contextmanager
def _crew(settings: Settings) -> Iterator[Crew]:
    """The privileged processes: started first, while this process has read but its settings.

    Raises:
        InvalidError: the account to become does not exist.
        UnavailableError: they do not start.
    """
    wanted = policy(settings)
    crew = Crew([Executor(wanted) for _ in range(settings.pitoolbox.executors)])
    try:
        if os.geteuid() != 0:
            kernel.drop_privileges(None, ())
        yield crew
    finally:
        crew.close()


def policy(settings: Settings) -> ExecutorPolicy:
    """What the configuration allows the privileged processes.

    Raises:
        InvalidError: the account to become does not exist.
    """
    section = settings.pitoolbox
    return ExecutorPolicy(
        roots=[str(root) for root in section.roots],
        min_uid=section.min_uid,
        min_gid=section.min_gid,
        staff_users=list(settings.identity.staff_users),
        staff_groups=list(settings.identity.staff_groups),
        account=accounts.to_become(section),
    )


def _say_what_it_may(settings: Settings, crew: Crew) -> None:
    """Tell an operator at once what will be refused later.

    Raises:
        InvalidError: it could change everything, and nothing says where it may.
    """
    if crew.is_privileged and not settings.pitoolbox.roots:
        raise InvalidError(
            "a privileged worker needs to know where projects lie; set pitoolbox.roots, "
            'such as ["/global/cfs"]'
        )
    if not crew.is_privileged:
        name = pwd.getpwuid(os.geteuid()).pw_name
        groups = ", ".join(sorted(grp.getgrgid(gid).gr_name for gid in os.getgroups()))
        log.warning(
            "without the rights of a privileged worker: only what %s (groups %s) may change is "
            "changed",
            name,
            groups,
        )


class PermsWorker(working.Worker):
    """A worker for permission requests alone, which it takes from the projects in turn."""

    def __init__(self, settings: Settings, database: Database, crew: Crew) -> None:
        """`crew`: the privileged processes, running."""
        self._crew = crew
        self.alone = Exclusive(
            database,
            (WORKER_LOCK,),
            taken="another permission worker serves this database already",
        )
        super().__init__(
            settings,
            database,
            [KIND],
            {KIND: partial(run, crew=crew)},
            max_attempts=MAX_ATTEMPTS,
            fair=True,
            on_end=partial(notify.ended, settings),
        )

    def run_one(self, stop: Stop) -> bool:
        """As any worker, if it still is the only one and its privileged processes run.

        Raises:
            CrewDiedError: one of them has ended; an idle worker is not to take a request first.
        """
        self.alone.hold()
        self._crew.check()
        return super().run_one(stop)
